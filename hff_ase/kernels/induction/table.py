r"""The radial functions of charges and dipoles as piecewise cubics in r^2.

t_n = (-1/r d/dr)^n of 1/r or, in a box, of erfc(alpha r)/r, what a mesh leaves in real space
(Smith, CCP5 Newsletter 46, 18 (1998)). The smooth part erf(alpha r)/r is
alpha 2/sqrt(pi) F_0(alpha^2 r^2) with Boys' functions F, and dF_n/dt = -F_{n+1}; hence
t_n = (2n - 1)!!/r^(2n + 1) - alpha (2 alpha^2)^n 2/sqrt(pi) F_n, and dt_n/d(r^2) = -t_{n+1}/2.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gamma, gammainc

from hff_ase.kernels.pair.tables import OFFSET, TABLE_END, hermite, knots

FUNCTIONS = 3  # t1, t2, t3


@cache
def radial_table(alpha: float, cutoff: float) -> NDArray[np.float64]:
    """Cubics of t1, t2 and t3 by interval of r^2 (`hff_ase.kernels.pair.tables`), right to 1e-9 of
    each from 0.1 Angstrom on: float64 [n_intervals, 12], those of one function side by side.

    Args:
        alpha: splitting parameter, 1/Angstrom; 0 for the whole interaction.
        cutoff: Angstrom, or infinity.
    """
    w = knots(min(cutoff, TABLE_END)).numpy()
    square = np.maximum(w - OFFSET, OFFSET)  # nearer than 2^-7 A: continued by the tangent
    t = np.stack(radial(square, alpha))
    slope = -0.5 * t[1:]
    value = t[:-1] + slope * (w - OFFSET - square)
    cubics = hermite(*(torch.from_numpy(x) for x in (w, value, slope)))
    found: NDArray[np.float64] = cubics.transpose(0, 1).flatten(1).contiguous().numpy()
    return found


def radial(square: NDArray[Any], alpha: float) -> list[NDArray[np.float64]]:
    """t_1 ... t_4 at r^2, Angstrom^-3 ... Angstrom^-9."""
    found, bare, scale = [], square**-0.5, 2.0 * alpha / math.sqrt(math.pi)
    for n in range(1, FUNCTIONS + 2):
        bare, scale = bare * (2 * n - 1) / square, scale * 2.0 * alpha**2
        found.append(bare - scale * boys(n, alpha**2 * square) if alpha else bare)
    return found


def boys(n: int, t: NDArray[Any]) -> NDArray[Any]:
    """F_n(t), the integral of u^(2n) exp(-t u^2) over u from 0 to 1."""
    half, positive = n + 0.5, np.where(t > 0, t, 1.0)
    found = 0.5 * gamma(half) * gammainc(half, positive) / positive**half
    return np.where(t > 0, found, 1.0 / (2 * n + 1))
