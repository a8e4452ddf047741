"""numba kernels of the real-space part: weights once per solve, products, derivatives.

A half list in rows (`hff_ase.pairs.Rows`). Derivatives are summed over a fixed number of blocks
of rows, each with its own accumulator, so that they do not depend on the number of threads.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from hff_ase.kernels.jit import jit
from hff_ase.kernels.qeq.table import END, KNOTS
from hff_ase.kernels.rows.displacement import displacement

BLOCKS = 8
SCALE = KNOTS / END


@partial(jit, inline="always")
def boys(t: float, table: Any) -> tuple[float, float]:
    """G(t) and dG/dt (see `table`)."""
    if t >= END:
        root = 1.0 / math.sqrt(t)
        return root, -0.5 * root / t
    x = t * SCALE
    k = int(x)
    s = x - k
    f0, m0, f1, m1 = table[k, 0], table[k, 1], table[k + 1, 0], table[k + 1, 1]
    c2 = 3.0 * (f1 - f0) - 2.0 * m0 - m1
    c3 = m0 + m1 - 2.0 * (f1 - f0)
    value = f0 + s * (m0 + s * (c2 + s * c3))
    slope = (m0 + s * (2.0 * c2 + 3.0 * s * c3)) * SCALE
    return value, slope


@partial(jit, inline="always")
def interaction(square: float, spread: float, alpha: float, table: Any) -> tuple[float, float]:
    """erf(r/g)/r - erf(alpha r)/r and twice its derivative in r^2; r^2 and g^2 given."""
    inverse = 1.0 / spread
    root = math.sqrt(inverse)
    value, slope = boys(square * inverse, table)
    value, slope = value * root, 2.0 * slope * root * inverse
    if alpha > 0.0:
        smooth, bend = boys(alpha * alpha * square, table)
        value -= alpha * smooth
        slope -= 2.0 * alpha * alpha * alpha * bend
    return value, slope


@jit
def pair_weights(
    first: int,
    last: int,
    positions: Any,
    cell: Any,
    system: Any,
    included: Any,
    widths: Any,
    start: Any,
    count: Any,
    j: Any,
    shift: Any,
    alpha: float,
    cutoff: float,
    table: Any,
    kept: Any,
    partner: Any,
    weight: Any,
) -> None:
    """Pairs within the cutoff, packed to the front of each row: counts, partners and weights.

    ``included`` says of each system whether its pairs belong to this sum; ``kept`` is zero before.
    """
    limit = cutoff * cutoff
    for i in range(first, last):
        if not included[system[i]]:
            continue
        h = cell[system[i]]
        free = start[i]
        for slot in range(start[i], start[i] + count[i]):
            k = j[slot]
            x, y, z = displacement(positions, h, shift, slot, i, k)
            square = x * x + y * y + z * z
            if square >= limit:
                continue
            spread = 2.0 * (widths[i] * widths[i] + widths[k] * widths[k])
            partner[free] = k
            weight[free] = interaction(square, spread, alpha, table)[0]
            free += 1
        kept[i] = free - start[i]


@jit
def pair_product(start: Any, kept: Any, partner: Any, weight: Any, charges: Any) -> Any:
    """phi_i = sum_j w_ij q_j, [n_atoms].

    On one thread: a product takes a few milliseconds for 10,000 atoms and there is one per
    iteration, so that starting and joining threads would cost what they save.
    """
    phi = np.zeros(start.shape[0])
    for i in range(start.shape[0]):
        own, total = charges[i], 0.0
        for slot in range(start[i], start[i] + kept[i]):
            k = partner[slot]
            total += weight[slot] * charges[k]
            phi[k] += weight[slot] * own
        phi[i] += total
    return phi


@jit
def pair_gradient(
    first: int,
    last: int,
    positions: Any,
    cell: Any,
    system: Any,
    included: Any,
    widths: Any,
    start: Any,
    count: Any,
    j: Any,
    shift: Any,
    alpha: float,
    cutoff: float,
    table: Any,
    p: Any,
    q: Any,
    to_atoms: Any,
    to_cells: Any,
) -> None:
    """Derivatives of sum_i p_i sum_j w_ij q_j, added for blocks ``first`` ... of the `BLOCKS` to
    [BLOCKS, n_atoms, 3] and [BLOCKS, n_systems, 3, 3]."""
    n = start.shape[0]
    limit = cutoff * cutoff
    for block in range(first, last):
        atoms, cells = to_atoms[block], to_cells[block]
        for i in range(block * n // BLOCKS, (block + 1) * n // BLOCKS):
            if not included[system[i]]:
                continue
            h, grown = cell[system[i]], cells[system[i]]
            for slot in range(start[i], start[i] + count[i]):
                k = j[slot]
                x, y, z = displacement(positions, h, shift, slot, i, k)
                square = x * x + y * y + z * z
                if square >= limit:
                    continue
                spread = 2.0 * (widths[i] * widths[i] + widths[k] * widths[k])
                slope = interaction(square, spread, alpha, table)[1]
                slope *= p[i] * q[k] + p[k] * q[i]
                x, y, z = slope * x, slope * y, slope * z
                atoms[k, 0] += x
                atoms[k, 1] += y
                atoms[k, 2] += z
                atoms[i, 0] -= x
                atoms[i, 1] -= y
                atoms[i, 2] -= z
                a, b, c = shift[slot, 0], shift[slot, 1], shift[slot, 2]
                if a != 0 or b != 0 or c != 0:
                    force = (x, y, z)
                    for axis in range(3):
                        grown[0, axis] += a * force[axis]
                        grown[1, axis] += b * force[axis]
                        grown[2, axis] += c * force[axis]
