"""Second derivatives of a mesh function at atoms, in numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from hff_ase.kernels.jit import jit
from hff_ase.kernels.mesh import MAX_ORDER

WIDTH = MAX_ORDER  # as in `hff_ase.kernels.mesh.cpu`


@jit
def spline_bends(begin: int, end: int, u: Any, order: int, atom: Any, bend: Any) -> None:
    """M'' at the points of `NumbaStencil`, [n_atoms, 3, WIDTH].

    M''_n(y) = M_{n-2}(y) - 2 M_{n-2}(y - 1) + M_{n-2}(y - 2).
    """
    m = np.empty(WIDTH + 2)  # M_{order-2}(x + k) at 2 + k, zeros on both sides
    for slot in range(begin, end):
        for axis in range(3):
            position = u[atom[slot], axis]
            x = position - np.floor(position)
            m[:] = 0.0
            m[2] = 1.0
            for n in range(2, order - 1):
                for k in range(n - 1, 0, -1):
                    y = x + k
                    m[2 + k] = (y * m[2 + k] + (n - y) * m[1 + k]) / (n - 1)
                m[2] = x * m[2] / (n - 1)
            for k in range(order):
                bend[slot, axis, order - 1 - k] = m[2 + k] - 2.0 * m[1 + k] + m[k]


@jit
def interpolate_curvatures(
    begin: int,
    end: int,
    mesh: Any,
    n1: int,
    first: Any,
    atom: Any,
    low: Any,
    weights: Any,
    bend: Any,
    values: Any,
) -> None:
    """`NumbaStencil.curvatures` for the rows ``begin`` ... of atoms."""
    n2, n3 = mesh.shape[1:]
    sums = np.zeros((6, WIDTH))  # by derivatives in x and y: none, x, y, xx, yy, xy; still along z
    factor = np.empty(6)
    for row in range(begin, end):
        plane = row - row % n1
        for slot in range(first[row], first[row + 1]):
            w, s, z = weights[slot], bend[slot], low[slot, 2]
            sums[:] = 0.0
            for a in range(WIDTH):
                x = plane + (low[slot, 0] + a) % n1
                for b in range(WIDTH):
                    y = low[slot, 1] + b
                    y = y - n2 if y >= n2 else y
                    factor[0], factor[1] = w[0, a] * w[1, b], w[3, a] * w[1, b]
                    factor[2], factor[3] = w[0, a] * w[4, b], s[0, a] * w[1, b]
                    factor[4], factor[5] = w[0, a] * s[1, b], w[3, a] * w[4, b]
                    for c in range(WIDTH):
                        at = z + c
                        m = mesh[x, y, at - n3 if at >= n3 else at]
                        for k in range(6):
                            sums[k, c] += m * factor[k]
            out = values[atom[slot]]
            out[:] = 0.0
            for c in range(WIDTH):
                value, slope, curve = w[2, c], w[5, c], s[2, c]
                out[0] += sums[0, c] * value
                out[1] += sums[1, c] * value
                out[2] += sums[2, c] * value
                out[3] += sums[0, c] * slope
                out[4] += sums[3, c] * value
                out[5] += sums[4, c] * value
                out[6] += sums[0, c] * curve
                out[7] += sums[5, c] * value
                out[8] += sums[1, c] * slope
                out[9] += sums[2, c] * slope
