r"""Interactions of charges, dipoles and traceless quadrupoles (Buckingham's Theta).

The potential of an atom is that of the operator L = q + mu . d + Theta/3 : d d on 1/r, d the
gradient at its place (Buckingham, Adv. Chem. Phys. 12, 107 (1967)), and two atoms interact as
L_i L_j 1/r. All is made of radial factors B_n with B_0 = 1/r and B_(n+1) = -B_n'/r: 1/r, 1/r^3,
3/r^5, 15/r^7, 105/r^9, or of what is left of them in the real-space part of a lattice sum or where
they are damped (Smith, CCP5 Newsletter 46, 18 (1998)).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

FACTORIALS = (1.0, 1.0, 3.0, 15.0, 105.0)  # of B_n r^(2n+1)


class Moments(NamedTuple):
    """Of atoms, in the frame of the cell.

    Attributes:
        charges: [n], e.
        dipoles: [n, 3], e A.
        quadrupoles: [n, 3, 3], e A^2, symmetric without trace.
    """

    charges: Tensor
    dipoles: Tensor
    quadrupoles: Tensor

    def at(self, index: Tensor) -> Moments:
        """Those of some atoms."""
        return Moments(*(moment.index_select(0, index) for moment in self))


def bare_factors(r: Tensor, n: int) -> list[Tensor]:
    """B_0 ... B_n of distances, of their shape."""
    inverse = 1.0 / r
    square, found = inverse * inverse, [inverse]
    for k in range(n):
        found.append((2 * k + 1) * found[-1] * square)
    return found


def screened_factors(r: Tensor, alpha: float, n: int) -> list[Tensor]:
    """B_0 ... B_n of erfc(alpha r)/r."""
    found, inverse = [torch.erfc(alpha * r) / r], 1.0 / r**2
    gauss = torch.exp(-((alpha * r) ** 2)) / (math.sqrt(math.pi) * alpha)
    for k in range(n):
        gauss = gauss * 2.0 * alpha**2
        found.append(((2 * k + 1) * found[-1] + gauss) * inverse)
    return found


def pair_energies(b: list[Tensor], vector: Tensor, at_i: Moments, at_j: Moments) -> Tensor:
    """L_i L_j 1/r [n_pairs], e^2/A.

    Args:
        b: B_0 ... B_4 [n_pairs].
        vector: r_j - r_i [n_pairs, 3].
    """
    d = -vector
    qi, mi, ti = at_i
    qj, mj, tj = at_j
    ti_d, tj_d = _times(ti, d), _times(tj, d)
    mi_d, mj_d = (mi * d).sum(1), (mj * d).sum(1)
    ti_dd, tj_dd = (ti_d * d).sum(1), (tj_d * d).sum(1)
    first = qi * mj_d - qj * mi_d + (mi * mj).sum(1)
    second = (qi * tj_dd + qj * ti_dd + 2.0 * ((mi * tj_d).sum(1) - (mj * ti_d).sum(1))) / 3.0
    second = second - mi_d * mj_d + 2.0 / 9.0 * (ti * tj).sum((1, 2))
    third = (mj_d * ti_dd - mi_d * tj_dd) / 3.0 - 4.0 / 9.0 * (ti_d * tj_d).sum(1)
    fourth = ti_dd * tj_dd / 9.0
    return qi * qj * b[0] + first * b[1] + second * b[2] + third * b[3] + fourth * b[4]


def pair_fields(b: list[Tensor], vector: Tensor, source: Moments) -> Tensor:
    """The field -d L_j 1/r of atoms j at atoms i, [n_pairs, 3] in e/A^2.

    Args:
        b: B_1, B_2, B_3 [n_pairs], damped or not.
        vector: r_j - r_i [n_pairs, 3].
        source: of the atoms j.
    """
    b1, b2, b3 = (factor[:, None] for factor in b)
    d, (q, mu, theta) = -vector, source
    theta_d = _times(theta, d)
    field = b1 * (q[:, None] * d - mu) + b2 * d * (mu * d).sum(1, keepdim=True)
    bent = 2.0 * b2 * theta_d - b3 * d * (theta_d * d).sum(1, keepdim=True)
    return field - bent / 3.0


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return torch.einsum("nab,nb->na", matrix, vector)
