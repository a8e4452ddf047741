"""Rows of the inverse Cholesky factor of dipoles' clusters, in numba: what
`hff_ase.longrange.sparse_inverse.inverse_factor_rows` gives for the matrices of
`hff_ase.longrange.induction.preconditioner`, without making them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hff_ase.kernels.induction.cpu import damping
from hff_ase.kernels.jit import jit
from hff_ase.kernels.threads import share


def dipole_rows(
    member: Tensor, place: Tensor, polarizability: Tensor, volume: Tensor, thole: float
) -> Tensor:
    """Rows [n, size, 3, 3] for clusters ``member`` [n, size], centre first, -1 behind, at ``place``
    [n, size, 3]; of the sites [n_atoms] of all atoms."""
    values = np.zeros((*member.shape, 3, 3))
    clusters, sites = (member.numpy(), place.numpy()), (1.0 / polarizability, volume.rsqrt())
    share(_rows, len(values), *clusters, *(x.numpy() for x in sites), thole, values)
    return torch.from_numpy(values)


@jit
def _rows(
    first: int,
    last: int,
    member: Any,
    place: Any,
    inverse: Any,
    shape: Any,
    thole: float,
    values: Any,
) -> None:
    size = member.shape[1]
    low, row = np.zeros((3 * size, 3 * size)), np.zeros(3 * size)
    for c in range(first, last):
        m = 1
        while m < size and member[c, m] >= 0:
            m += 1
        n = 3 * m
        for p in range(m):  # the centre last
            i = member[c, m - 1 - p]
            for q in range(p):
                k = member[c, m - 1 - q]
                v = place[c, m - 1 - p] - place[c, m - 1 - q]
                square = v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
                s1, s2, _ = damping(square, thole * shape[i] * shape[k], False)
                t1 = 1.0 / (square * math.sqrt(square))
                t1, t2 = t1 - s1, 3.0 * t1 / square - s2
                for r in range(3):
                    for s in range(3):
                        low[3 * p + r, 3 * q + s] = -t2 * v[r] * v[s]
                    low[3 * p + r, 3 * q + r] += t1
            for r in range(3):
                for s in range(r):
                    low[3 * p + r, 3 * p + s] = 0.0
                low[3 * p + r, 3 * p + r] = inverse[i]
        good = True
        for r in range(n):  # Cholesky, in place
            for s in range(r + 1):
                total = low[r, s]
                for k in range(s):
                    total -= low[r, k] * low[s, k]
                if s < r:
                    low[r, s] = total / low[s, s]
                elif total > 0.0:
                    low[r, r] = math.sqrt(total)
                else:
                    good, low[r, r] = False, 1.0
        for r in range(3):
            if not good:  # the atom alone
                values[c, 0, r, r] = math.sqrt(inverse[member[c, 0]])
                continue
            for s in range(n - 1, -1, -1):  # row L = the unit vector of n - 3 + r
                total = 1.0 if s == n - 3 + r else 0.0
                for k in range(s + 1, n):
                    total -= row[k] * low[k, s]
                row[s] = total / low[s, s]
            for p in range(m):
                for s in range(3):
                    values[c, m - 1 - p, r, s] = row[3 * p + s]
