"""Loops of the pair sums over a half list (numba), with all their first derivatives in one pass.

For each segment (an atom and its partners in one periodic image) the pairs within the cutoff are
first gathered into buffers that stay in the cache, then each interaction adds its energies and
slopes there, then forces go out to the partners. That order keeps the loops short enough for the
compiler and takes 30 % less time than one loop with a branch. All arithmetic is float64: with one
thread, memory and not precision sets the pace.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from hff_ase.kernels.jit import jit
from hff_ase.kernels.pair import tables as layout

# Compiled code is kept on disk until this file changes, so everything that it contains is here:
# the layout of the tables is written out once more.
KNOT_BITS, LOWEST_EXPONENT = 8, -14
OFFSET = 2.0**LOWEST_EXPONENT
if (KNOT_BITS, LOWEST_EXPONENT) != (layout.KNOT_BITS, layout.LOWEST_EXPONENT):
    raise ImportError("expected the layout of tables.py in loops.py, got another one")

# Columns of an atom's accumulator; padded to a cache line.
PHI, ENERGY, D_CN, WIDTH = 3, 4, 5, 8

_SHIFT = np.uint64(52 - KNOT_BITS)
_FIRST = np.uint64((1023 + LOWEST_EXPONENT) << KNOT_BITS)
_UPPER = np.uint64(0xFFFFFFFFFFFFFFFF ^ ((1 << (52 - KNOT_BITS)) - 1))
# No assumption about nan and inf: an atom at nan must show in the energy.
_FAST = {"contract", "reassoc", "nsz", "arcp"}
_compiled = partial(jit, fastmath=_FAST)


@intrinsic
def _bits(typing: Any, value: Any) -> Any:
    """The bits of a float64 as uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.uint64(types.float64), generate


@intrinsic
def _float(typing: Any, bits: Any) -> Any:
    """The float64 with the given bits, uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.uint64), generate


@_compiled
def interval(square, last):  # type: ignore[no-untyped-def]
    """Interval of r^2 and offset in it; nan and values beyond the table use the last interval."""
    w = square + OFFSET
    bits = _bits(w)  # type: ignore[call-arg, var-annotated]
    return min((bits >> _SHIFT) - _FIRST, last), w - _float(bits & _UPPER)


@_compiled
def _cubic(row, d):  # type: ignore[no-untyped-def]
    """Value and derivative in r^2 of an interval's cubic."""
    c1, c2, c3 = row[1], row[2], row[3]
    return row[0] + d * (c1 + d * (c2 + d * c3)), c1 + d * (2.0 * c2 + d * (3.0 * c3))


@_compiled
def _gather(x, cell, i, shift, partner, first, last, cutoff2, work, near):  # type: ignore[no-untyped-def]
    """Vectors and squares of a segment's pairs within the cutoff into work[:4]; how many."""
    ox = x[i, 0] - (shift[0] * cell[0, 0] + shift[1] * cell[1, 0] + shift[2] * cell[2, 0])
    oy = x[i, 1] - (shift[0] * cell[0, 1] + shift[1] * cell[1, 1] + shift[2] * cell[2, 1])
    oz = x[i, 2] - (shift[0] * cell[0, 2] + shift[1] * cell[1, 2] + shift[2] * cell[2, 2])
    n = np.uint64(0)
    for k in range(first, last):
        j = partner[k]
        dx, dy, dz = x[j, 0] - ox, x[j, 1] - oy, x[j, 2] - oz
        square = dx * dx + dy * dy + dz * dz
        work[0, n], work[1, n], work[2, n], work[3, n] = dx, dy, dz, square
        near[n] = j
        n += np.uint64(not square >= cutoff2)  # written so that nan counts; no branch to miss
    return n


@_compiled
def _coulomb(n, i, near, charges, table, square, slope, potential):  # type: ignore[no-untyped-def]
    """q_i q_j T(r): potential at i; at the partners into `potential`; starts `slope`."""
    last = np.uint64(table.shape[0] - 1)
    charge, phi = charges[i], 0.0
    for k in range(n):
        t, d = interval(square[k], last)
        value, derivative = _cubic(table[t], d)
        other = charges[near[k]]
        phi += other * value
        potential[k] = charge * value
        slope[k] = 2.0 * charge * other * derivative
    return phi


@_compiled
def _fixed(n, i, near, kind, tables, square, slope, energy):  # type: ignore[no-untyped-def]
    """T_st(r): half the energies into `energy` and in sum; adds to `slope`."""
    mine = tables[kind[i]]
    last = np.uint64(mine.shape[1] - 1)
    total = 0.0
    for k in range(n):
        t, d = interval(square[k], last)
        value, derivative = _cubic(mine[kind[near[k]], t], d)
        energy[k] = 0.5 * value
        total += 0.5 * value
        slope[k] += 2.0 * derivative
    return total


@_compiled
def _switched(n, i, near, kind, tables, switch, square, slope, energy):  # type: ignore[no-untyped-def]
    """As `_fixed` for T_st(r) s(r), s falling from 1 to 0 between the two ends of ``switch``."""
    mine = tables[kind[i]]
    last = np.uint64(mine.shape[1] - 1)
    total = 0.0
    for k in range(n):
        ends = switch[kind[i], kind[near[k]]]
        r = np.sqrt(square[k])
        if r >= ends[1]:
            energy[k] = 0.0
            continue
        t, d = interval(square[k], last)
        value, derivative = _cubic(mine[kind[near[k]], t], d)
        x = min(1.0, (ends[1] - r) / (ends[1] - ends[0]))  # from the outer end: s(r) = S(x)
        s = x * x * x * (10.0 - x * (15.0 - 6.0 * x))
        ds = -30.0 * (x * (1.0 - x)) ** 2 / (ends[1] - ends[0])
        energy[k] = 0.5 * s * value
        total += 0.5 * s * value
        slope[k] += 2.0 * s * derivative + ds * value / max(r, 1e-9)
    return total


@_compiled
def _interpolated(n, i, near, kind, tables, weights, towards, square, slope, energy, d_cn):  # type: ignore[no-untyped-def]
    """C6_ij T_st(r): as `_fixed`; also dE/dCN, of i as second sum, of partners into `d_cn`."""
    mine = tables[kind[i]]
    last = np.uint64(mine.shape[1] - 1)
    total, total_cn = 0.0, 0.0
    for k in range(n):
        j = near[k]
        t, d = interval(square[k], last)
        value, derivative = _cubic(mine[kind[j], t], d)
        half, there = towards[i, kind[j]], weights[j]
        c6, c6_i, c6_j = 0.0, 0.0, 0.0
        for b in range(there.shape[1]):
            c6 += half[0, b] * there[0, b]
            c6_i += half[1, b] * there[0, b]
            c6_j += half[0, b] * there[1, b]
        energy[k] = 0.5 * c6 * value
        total += 0.5 * c6 * value
        d_cn[k] = c6_j * value
        total_cn += c6_i * value
        slope[k] += 2.0 * c6 * derivative
    return total, total_cn


@_compiled
def _scatter(n, near, work, out):  # type: ignore[no-untyped-def]
    """dE/dvector of the pairs to their partners; its sum."""
    fx, fy, fz = 0.0, 0.0, 0.0
    for k in range(n):
        j, slope = near[k], work[4, k]
        gx, gy, gz = slope * work[0, k], slope * work[1, k], slope * work[2, k]
        out[j, 0] += gx
        out[j, 1] += gy
        out[j, 2] += gz
        fx += gx
        fy += gy
        fz += gz
    return fx, fy, fz


@_compiled
def _add(n, near, values, column, out):  # type: ignore[no-untyped-def]
    for k in range(n):
        out[near[k], column] += values[k]


@_compiled
def _to_row(i, shift, force, out, d_cell):  # type: ignore[no-untyped-def]
    """The sum of dE/dvector over a segment: to its own atom and to the cell."""
    for a in range(3):
        out[i, a] -= force[a]
        if shift[a] != 0.0:
            for b in range(3):
                d_cell[a, b] += shift[a] * force[b]


@_compiled
def pair_sums(  # type: ignore[no-untyped-def]
    begin, end, x, cell, system, atom, first, shift, partner, longest, cutoff2,
    charges, coulomb, kind, tables, switch, weights, towards, out, d_cell,
):  # fmt: skip
    """Segments begin to end, into ``out`` [n_atoms, WIDTH] and ``d_cell`` [n_systems, 3, 3].

    Of ``charges`` with ``coulomb``, and ``kind`` with ``tables`` (and with it ``switch``, or
    ``weights`` and ``towards``), any may be None: what is missing is not even compiled.
    """
    work, near = np.zeros((8, longest)), np.empty(longest, np.uint32)
    for s in range(begin, end):
        i = atom[s]
        n = _gather(
            x, cell[system[i]], i, shift[s], partner, first[s], first[s + 1], cutoff2, work, near
        )
        if charges is not None:
            out[i, PHI] += _coulomb(n, i, near, charges, coulomb, work[3], work[4], work[5])
            _add(n, near, work[5], PHI, out)
        else:
            work[4, :n] = 0.0
        if tables is not None:
            if switch is not None:
                total = _switched(n, i, near, kind, tables, switch, work[3], work[4], work[6])
            elif weights is None:
                total = _fixed(n, i, near, kind, tables, work[3], work[4], work[6])
            else:
                total, total_cn = _interpolated(
                    n, i, near, kind, tables, weights, towards, work[3], work[4], work[6], work[7]
                )
                out[i, D_CN] += total_cn
                _add(n, near, work[7], D_CN, out)
            out[i, ENERGY] += total
            _add(n, near, work[6], ENERGY, out)
        force = _scatter(n, near, work, out)
        _to_row(i, shift[s], force, out, d_cell[system[i]])


@_compiled
def counts(  # type: ignore[no-untyped-def]
    begin, end, x, cell, system, atom, first, shift, partner, longest, cutoff2, kind, tables, out,
):  # fmt: skip
    """sum_j T_st(r_ij) of each atom into ``out`` [n_atoms]."""
    work, near = np.empty((4, longest)), np.empty(longest, np.uint32)
    for s in range(begin, end):
        i = atom[s]
        n = _gather(
            x, cell[system[i]], i, shift[s], partner, first[s], first[s + 1], cutoff2, work, near
        )
        mine, total = tables[kind[i]], 0.0
        last = np.uint64(mine.shape[1] - 1)
        for k in range(n):
            t, d = interval(work[3, k], last)
            value, _ = _cubic(mine[kind[near[k]], t], d)
            work[0, k] = value
            total += value
        out[i] += total
        for k in range(n):
            out[near[k]] += work[0, k]


@_compiled
def count_slopes(  # type: ignore[no-untyped-def]
    begin, end, x, cell, system, atom, first, shift, partner, longest, cutoff2,
    kind, tables, d_count, out, d_cell,
):  # fmt: skip
    """Derivatives of sum_i d_count[i] count_i, as in `pair_sums`."""
    work, near = np.empty((5, longest)), np.empty(longest, np.uint32)
    for s in range(begin, end):
        i = atom[s]
        n = _gather(
            x, cell[system[i]], i, shift[s], partner, first[s], first[s + 1], cutoff2, work, near
        )
        mine = tables[kind[i]]
        last = np.uint64(mine.shape[1] - 1)
        for k in range(n):
            t, d = interval(work[3, k], last)
            _, derivative = _cubic(mine[kind[near[k]], t], d)
            work[4, k] = 2.0 * (d_count[i] + d_count[near[k]]) * derivative
        force = _scatter(n, near, work, out)
        _to_row(i, shift[s], force, out, d_cell[system[i]])
