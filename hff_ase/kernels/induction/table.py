r"""Boys functions as a table: what a mesh takes over of the interactions of charges and dipoles.

The smooth part erf(alpha r)/r is alpha 2/sqrt(pi) F_0(alpha^2 r^2), and (-1/r d/dr)^n of it is
alpha (2 alpha^2)^n 2/sqrt(pi) F_n, since dF_n/dt = -F_{n+1}: smooth in t down to zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma, gammainc

END = 36.0  # beyond it what is left in real space is nothing
KNOTS = 4096  # cubic Hermite interpolation is then right to 1e-12


def boys_table() -> NDArray[np.float64]:
    """F_1 ... F_4 at t = 0, h, 2h ... END + h: float64 [KNOTS + 2, 4]."""
    t = END / KNOTS * np.arange(KNOTS + 2)
    return np.stack([boys(n, t) for n in range(1, 5)], 1)


def boys(n: int, t: NDArray[Any]) -> NDArray[Any]:
    """F_n(t), the integral of u^(2n) exp(-t u^2) over u from 0 to 1."""
    half, positive = n + 0.5, np.where(t > 0, t, 1.0)
    found = 0.5 * gamma(half) * gammainc(half, positive) / positive**half
    return np.where(t > 0, found, 1.0 / (2 * n + 1))
