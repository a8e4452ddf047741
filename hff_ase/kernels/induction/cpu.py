"""numba kernels of induced dipoles' pairs: factors once per solve, products, derivatives.

A half list in rows (`hff_ase.pairs.Rows`); formulas in `hff_ase.longrange.induction.pairs`.
Derivatives are summed over a fixed number of blocks of rows, each with its own accumulator, so that
they do not depend on the number of threads.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from hff_ase.kernels.jit import jit
from hff_ase.kernels.pair.loops import interval
from hff_ase.kernels.rows.displacement import displacement

BLOCKS = 8
FADED = 40.0  # a u^3 or a u beyond which its exponential is nothing


@partial(jit, inline="always")
def damping(square: float, strength: float, linear: bool) -> tuple[float, float, float]:
    """The reduction of t1, t2 and t3 (see `table`) by Thole's damping at r^2; zero beyond `FADED`.

    ``strength`` is a/sqrt(d_i d_j), or where the damping is ``linear`` a (d_i d_j)^-1/6.
    """
    reduced = strength * strength * square * (1.0 if linear else square * square)
    if reduced >= FADED * FADED:
        return 0.0, 0.0, 0.0
    w = math.sqrt(reduced)
    inverse = 1.0 / square
    b1 = math.exp(-w) * inverse * math.sqrt(inverse)
    b2 = 3.0 * b1 * inverse
    b3 = 5.0 * b2 * inverse
    if linear:
        third = 1.0 + w + 0.5 * w * w
        fifth = third + w * w * w / 6.0
        return third * b1, fifth * b2, (fifth + w * w * w * w / 30.0) * b3
    return b1, (1.0 + w) * b2, (1.0 + w + 0.6 * w * w) * b3


@jit
def pair_factors(
    first: int,
    last: int,
    positions: Any,
    cell: Any,
    system: Any,
    included: Any,
    shape: Any,
    thole: float,
    linear: bool,
    start: Any,
    count: Any,
    j: Any,
    shift: Any,
    cutoff: float,
    table: Any,
    kept: Any,
    partner: Any,
    factor: Any,
) -> None:
    """Pairs within the cutoff, packed to the front of each row: counts, partners, and t1, t2, the
    vector and t3 [n_slots, 6].

    ``shape`` is d^-1/2 of each atom, or d^-1/6 where the damping is ``linear``; ``included`` says
    of each system whether its pairs belong to this sum; ``table`` is that of `table.radial_table`;
    ``kept`` is zero before.
    """
    limit, end = cutoff * cutoff, np.uint64(table.shape[0] - 1)
    for i in range(first, last):
        if not included[system[i]]:
            continue
        h, mine = cell[system[i]], thole * shape[i]
        free = start[i]
        # First who is near, then what they do: neither loop has a branch that is often missed.
        for slot in range(start[i], start[i] + count[i]):
            k = j[slot]
            x, y, z = displacement(positions, h, shift, slot, i, k)
            square = x * x + y * y + z * z
            partner[free] = k
            f = factor[free]
            f[0], f[2], f[3], f[4] = square, x, y, z
            free += np.int64(not square >= limit)  # written so that nan counts
        kept[i] = free - start[i]
        for slot in range(start[i], free):
            f = factor[slot]
            square = f[0]
            t, d = interval(square, end)
            row = table[t]
            s1, s2, s3 = damping(square, mine * shape[partner[slot]], linear)
            f[0] = row[0] + d * (row[1] + d * (row[2] + d * row[3])) - s1
            f[1] = row[4] + d * (row[5] + d * (row[6] + d * row[7])) - s2
            f[5] = row[8] + d * (row[9] + d * (row[10] + d * row[11])) - s3


@jit
def pair_field(start: Any, kept: Any, partner: Any, factor: Any, charges: Any) -> Any:
    """F of charges [n_atoms, 3]. On one thread, as `pair_product`."""
    field = np.zeros((start.shape[0], 3))
    for i in range(start.shape[0]):
        own, at = charges[i], field[i]
        for slot in range(start[i], start[i] + kept[i]):
            k, f = partner[slot], factor[slot]
            from_k, from_i = -f[0] * charges[k], f[0] * own
            for axis in range(3):
                at[axis] += from_k * f[2 + axis]
                field[k, axis] += from_i * f[2 + axis]
    return field


@jit
def pair_product(start: Any, kept: Any, partner: Any, factor: Any, dipoles: Any) -> Any:
    """T mu [n_atoms, 3]. On one thread: starting and joining threads would cost what they save."""
    out = np.zeros((start.shape[0], 3))
    for i in range(start.shape[0]):
        u, v, w = dipoles[i, 0], dipoles[i, 1], dipoles[i, 2]
        at_x, at_y, at_z = 0.0, 0.0, 0.0
        for slot in range(start[i], start[i] + kept[i]):
            k, f = partner[slot], factor[slot]
            t1, t2, x, y, z = f[0], f[1], f[2], f[3], f[4]
            a, b, c = dipoles[k, 0], dipoles[k, 1], dipoles[k, 2]
            along = t2 * (a * x + b * y + c * z)
            at_x += t1 * a - along * x
            at_y += t1 * b - along * y
            at_z += t1 * c - along * z
            along = t2 * (u * x + v * y + w * z)
            out[k, 0] += t1 * u - along * x
            out[k, 1] += t1 * v - along * y
            out[k, 2] += t1 * w - along * z
        out[i, 0] += at_x
        out[i, 1] += at_y
        out[i, 2] += at_z
    return out


@jit
def pair_energies(
    first: int,
    last: int,
    system: Any,
    start: Any,
    kept: Any,
    partner: Any,
    factor: Any,
    charges: Any,
    dipoles: Any,
    to_atoms: Any,
    to_strain: Any,
) -> None:
    """mu_i . (T mu/2 - F)_i and the derivatives of their sum, added for blocks ``first`` ... of the
    `BLOCKS` to [BLOCKS, n_atoms, 5] (energy, d/dx, d/dq) and [BLOCKS, n_systems, 3, 3] (d/dstrain
    of positions and cell together)."""
    n = start.shape[0]
    for block in range(first, last):
        atoms = to_atoms[block]
        for i in range(block * n // BLOCKS, (block + 1) * n // BLOCKS):
            qi, ux, uy, uz = charges[i], dipoles[i, 0], dipoles[i, 1], dipoles[i, 2]
            at_i, strain = atoms[i], to_strain[block, system[i]]
            for slot in range(start[i], start[i] + kept[i]):
                k, f = partner[slot], factor[slot]
                t1, t2, x, y, z, t3 = f[0], f[1], f[2], f[3], f[4], f[5]
                qk, vx, vy, vz = charges[k], dipoles[k, 0], dipoles[k, 1], dipoles[k, 2]
                along_i, along_k = ux * x + uy * y + uz * z, vx * x + vy * y + vz * z
                both = ux * vx + uy * vy + uz * vz
                mutual = t1 * both - t2 * along_i * along_k
                pull = qk * along_i - qi * along_k
                at_k = atoms[k]
                at_i[0] += 0.5 * mutual + t1 * qk * along_i
                at_k[0] += 0.5 * mutual - t1 * qi * along_k
                at_i[4] -= t1 * along_k
                at_k[4] += t1 * along_i
                radially = t3 * along_i * along_k - t2 * (both + pull)
                from_i, from_k = t1 * qk - t2 * along_k, -t1 * qi - t2 * along_i
                fx = radially * x + from_i * ux + from_k * vx
                fy = radially * y + from_i * uy + from_k * vy
                fz = radially * z + from_i * uz + from_k * vz
                at_k[1] += fx
                at_k[2] += fy
                at_k[3] += fz
                at_i[1] -= fx
                at_i[2] -= fy
                at_i[3] -= fz
                strain[0, 0] += x * fx
                strain[0, 1] += x * fy
                strain[0, 2] += x * fz
                strain[1, 0] += y * fx
                strain[1, 1] += y * fy
                strain[1, 2] += y * fz
                strain[2, 0] += z * fx
                strain[2, 1] += z * fy
                strain[2, 2] += z * fz
