r"""erf(sqrt t)/sqrt t as a table, the one function that Gaussian charges interact by.

With x = r/g the interaction erf(r/g)/r is G(x^2)/g, and the part that a mesh takes over,
erf(alpha r)/r, is alpha G(alpha^2 r^2). G is 2/sqrt(pi) times the Boys function F_0: smooth in t
down to zero, so that neither a square root nor a division by r is needed at short range.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

END = 36.0  # beyond it erf is 1 to rounding
KNOTS = 4096  # cubic Hermite interpolation is then right to 1e-12


def boys_table() -> NDArray[np.float64]:
    """G and h dG/dt at t = 0, h, 2h ... END + h: float64 [KNOTS + 2, 2]."""
    step = END / KNOTS
    t = step * np.arange(KNOTS + 2)
    root = np.sqrt(np.maximum(t, 1e-30))
    value = np.where(t > 0, erf(root) / root, 2.0 / math.sqrt(math.pi))
    return np.stack([value, step * _slope(t, value)], 1)


def _slope(t: NDArray[Any], value: NDArray[Any]) -> NDArray[Any]:
    """dG/dt = (2/sqrt(pi) exp(-t) - G)/(2t), by its series where that cancels."""
    series = np.zeros_like(t)
    term = np.ones_like(t)
    for n in range(25):
        series += term / (2 * n + 3)
        term = term * -np.minimum(t, 1.0) / (n + 1)
    closed = (2.0 / math.sqrt(math.pi) * np.exp(-t) - value) / (2.0 * np.maximum(t, 0.5))
    return np.where(t < 1.0, -2.0 / math.sqrt(math.pi) * series, closed)
