"""Pair sums on a GPU (Triton): one program per atom gathers over its full row.

A full list costs each pair twice, in arithmetic that a GPU has plenty of: per directed pair some
100 operations and 16 bytes of list, so that 10,000 atoms with 3.8 million directed pairs within 10
Angstrom need at least 15 microseconds of memory traffic (H200, 4 TB/s) and 10 of arithmetic. A half
list would halve both and pay with five float64 atomic additions per pair, in an order that changes
from run to run. So nothing is scattered here, and results are the same in every run.

Differences of positions are taken in float64, functions of them in float32, sums in float64.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.pair import ElementTables, InterpolatedC6, PairSums
from hff_ase.kernels.pair.tables import KNOT_BITS, LOWEST_EXPONENT, OFFSET, Table
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest, Rows

BLOCK = 128  # partners at a time
LARGEST_CUTOFF2 = 1e300  # stands for infinity
ONE, C6, SUM, SWITCH = 0, 1, 2, 3  # factor of a function: 1, D3's C6, a_i + a_j, or s(r)

_OFFSET = tl.constexpr(OFFSET)
_SHIFT = tl.constexpr(23 - KNOT_BITS)
_FIRST = tl.constexpr((127 + LOWEST_EXPONENT) << KNOT_BITS)
_UPPER = tl.constexpr(-(1 << (23 - KNOT_BITS)))
_C6, _SUM, _SWITCH = tl.constexpr(C6), tl.constexpr(SUM), tl.constexpr(SWITCH)


@triton.jit
def _cubic(table, first, n_intervals, w, keep):  # type: ignore[no-untyped-def]
    """Value and derivative in r^2 of the function whose cubics start at ``table + 4 first``."""
    bits = w.to(tl.int32, bitcast=True)
    d = w - (bits & _UPPER).to(tl.float32, bitcast=True)
    # nan and what lies beyond go to the last interval
    row = tl.minimum((bits >> _SHIFT) - _FIRST, n_intervals - 1)
    at = table + 4 * (first + row.to(tl.int64))
    c0 = tl.load(at, mask=keep, other=0.0)
    c1 = tl.load(at + 1, mask=keep, other=0.0)
    c2 = tl.load(at + 2, mask=keep, other=0.0)
    c3 = tl.load(at + 3, mask=keep, other=0.0)
    return c0 + d * (c1 + d * (c2 + d * c3)), c1 + d * (2.0 * c2 + d * (3.0 * c3))


@triton.jit
def _row_sums(  # type: ignore[no-untyped-def]
    x, cell, system, start, count, partner, shift,
    charges, coulomb, coulomb_intervals,
    kind, tables, n_kinds, table_intervals, weights, towards, per_atom, switch,
    out, d_cell,
    HAS_CHARGES: tl.constexpr, HAS_KINDS: tl.constexpr, COEFFICIENT: tl.constexpr,
    N_REF: tl.constexpr, CUTOFF2: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dE/dx, phi, energy, dE/dCN of an atom into out[i, :6]; its share of dE/dcell."""
    i = tl.program_id(0).to(tl.int64)
    box = cell + 9 * tl.load(system + i)
    h00, h01, h02 = tl.load(box), tl.load(box + 1), tl.load(box + 2)
    h10, h11, h12 = tl.load(box + 3), tl.load(box + 4), tl.load(box + 5)
    h20, h21, h22 = tl.load(box + 6), tl.load(box + 7), tl.load(box + 8)
    x0, x1, x2 = tl.load(x + 3 * i), tl.load(x + 3 * i + 1), tl.load(x + 3 * i + 2)
    first, n = tl.load(start + i).to(tl.int64), tl.load(count + i)
    zero = tl.zeros([BLOCK], tl.float64)
    f0, f1, f2, phi, energy, d_cn = zero, zero, zero, zero, zero, zero
    v00, v01, v02, v10, v11, v12, v20, v21, v22 = (
        zero, zero, zero, zero, zero, zero, zero, zero, zero
    )  # fmt: skip
    for base in range(0, n, BLOCK):
        k = base + tl.arange(0, BLOCK)
        listed = k < n
        slot = first + k
        j = tl.load(partner + slot, mask=listed, other=0).to(tl.int64)
        s0 = tl.load(shift + 3 * slot, mask=listed, other=0).to(tl.float64)
        s1 = tl.load(shift + 3 * slot + 1, mask=listed, other=0).to(tl.float64)
        s2 = tl.load(shift + 3 * slot + 2, mask=listed, other=0).to(tl.float64)
        d0 = tl.load(x + 3 * j, mask=listed, other=0.0) - x0 + s0 * h00 + s1 * h10 + s2 * h20
        d1 = tl.load(x + 3 * j + 1, mask=listed, other=0.0) - x1 + s0 * h01 + s1 * h11 + s2 * h21
        d2 = tl.load(x + 3 * j + 2, mask=listed, other=0.0) - x2 + s0 * h02 + s1 * h12 + s2 * h22
        square = d0 * d0 + d1 * d1 + d2 * d2
        itself = (j == i) & (s0 == 0.0) & (s1 == 0.0) & (s2 == 0.0)
        # written so that nan counts: an atom at nan must show in the energy
        keep = listed & (itself == 0) & ((square >= CUTOFF2) == 0)
        w = (square + _OFFSET).to(tl.float32)
        slope = tl.zeros([BLOCK], tl.float32)
        if HAS_CHARGES:
            value, derivative = _cubic(coulomb, 0, coulomb_intervals, w, keep)
            other = tl.load(charges + j, mask=keep, other=0.0).to(tl.float32)
            phi += (other * value).to(tl.float64)
            slope += 2.0 * tl.load(charges + i).to(tl.float32) * other * derivative
        if HAS_KINDS:
            element = tl.load(kind + j, mask=keep, other=0).to(tl.int64)
            function = tl.load(kind + i).to(tl.int64) * n_kinds + element
            value, derivative = _cubic(tables, function * table_intervals, table_intervals, w, keep)
            c = tl.full([BLOCK], 1.0, tl.float32)
            if COEFFICIENT == _SUM:
                c = (tl.load(per_atom + i) + tl.load(per_atom + j, mask=keep, other=0.0)).to(
                    tl.float32
                )
            if COEFFICIENT == _C6:
                c, c_i = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
                half = towards + (i * n_kinds + element) * 2 * N_REF
                there = weights + j * 2 * N_REF
                for b in tl.static_range(N_REF):
                    weight = tl.load(there + b, mask=keep, other=0.0)
                    c += weight * tl.load(half + b, mask=keep, other=0.0)
                    c_i += weight * tl.load(half + N_REF + b, mask=keep, other=0.0)
                d_cn += (c_i * value).to(tl.float64)
            if COEFFICIENT == _SWITCH:
                ends = switch + 2 * (tl.load(kind + i).to(tl.int64) * n_kinds + element)
                begin = tl.load(ends, mask=keep, other=1.0)
                width = tl.load(ends + 1, mask=keep, other=2.0) - begin
                r = tl.sqrt(square)
                # in the distance from the outer end: exact to the last digit where s vanishes
                y = 1.0 - tl.minimum(tl.maximum((r - begin) / width, 0.0), 1.0)
                y = y.to(tl.float32)
                c = y * y * y * (10.0 - y * (15.0 - 6.0 * y))
                end_slope = -30.0 * y * y * (1.0 - y) * (1.0 - y) / width.to(tl.float32)
                slope += end_slope * value / tl.maximum(r.to(tl.float32), 1e-9)
            energy += (0.5 * c * value).to(tl.float64)
            slope += 2.0 * c * derivative
        g = tl.where(keep, slope, 0.0).to(tl.float64)
        g0, g1, g2 = g * d0, g * d1, g * d2
        f0, f1, f2 = f0 - g0, f1 - g1, f2 - g2
        v00, v01, v02 = v00 + s0 * g0, v01 + s0 * g1, v02 + s0 * g2
        v10, v11, v12 = v10 + s1 * g0, v11 + s1 * g1, v12 + s1 * g2
        v20, v21, v22 = v20 + s2 * g0, v21 + s2 * g1, v22 + s2 * g2
    out += 6 * i
    tl.store(out, tl.sum(f0))
    tl.store(out + 1, tl.sum(f1))
    tl.store(out + 2, tl.sum(f2))
    tl.store(out + 3, tl.sum(phi))
    tl.store(out + 4, tl.sum(energy))
    tl.store(out + 5, tl.sum(d_cn))
    d_cell += 9 * i  # each pair is in two rows
    tl.store(d_cell, 0.5 * tl.sum(v00))
    tl.store(d_cell + 1, 0.5 * tl.sum(v01))
    tl.store(d_cell + 2, 0.5 * tl.sum(v02))
    tl.store(d_cell + 3, 0.5 * tl.sum(v10))
    tl.store(d_cell + 4, 0.5 * tl.sum(v11))
    tl.store(d_cell + 5, 0.5 * tl.sum(v12))
    tl.store(d_cell + 6, 0.5 * tl.sum(v20))
    tl.store(d_cell + 7, 0.5 * tl.sum(v21))
    tl.store(d_cell + 8, 0.5 * tl.sum(v22))


def rows_for(batch: AtomsBatch, neighbors: Neighborhood, request: PairRequest) -> Rows:
    """The full rows of a request; in a molecule, the atoms of the molecule (itself is skipped)."""
    if request.kind != "isolated":
        return neighbors.rows(PairRequest(request.cutoff, "full"))
    n, device = batch.n_atoms, batch.device
    count = torch.where(batch.periodic, 0, batch.counts)[batch.system]
    return Rows(
        batch.first_atom[batch.system].to(torch.int32),
        count.to(torch.int32),
        torch.arange(n, dtype=torch.int32, device=device),
        torch.zeros((n, 3), dtype=torch.int32, device=device),
    )


def pair_sums(
    batch: AtomsBatch,
    rows: Rows,
    cutoff: float,
    charges: Tensor | None,
    coulomb: Table | None,
    elements: ElementTables | None,
    c6: InterpolatedC6 | None,
    per_atom: Tensor | None = None,
) -> PairSums:
    """See `hff_ase.kernels.pair.pair_sums`; ``per_atom`` a [n_atoms] weighs pairs by a_i + a_j."""
    x = batch.positions.detach()
    out = x.new_empty((batch.n_atoms, 6))
    per_cell = x.new_empty((batch.n_atoms, 3, 3))
    lists = (rows.start, rows.count, rows.j, rows.shift)
    nothing = x  # stands for a pointer that is never read
    single = nothing if coulomb is None else coulomb.single
    tables = nothing if elements is None else elements.table.single
    switch = None if elements is None else elements.switch
    coefficient = C6 if c6 is not None else SUM if per_atom is not None else ONE
    if switch is not None:
        coefficient = SWITCH
    _row_sums[(batch.n_atoms,)](
        x.contiguous(),
        batch.cell.detach().contiguous(),
        batch.system,
        *(part.contiguous() for part in lists),
        nothing if charges is None else charges.detach().contiguous(),
        single,
        single.shape[1],
        nothing if elements is None else elements.kind,
        tables,
        1 if elements is None else elements.n_kinds,
        tables.shape[1],
        nothing if c6 is None else c6.weights.float().contiguous(),
        nothing if c6 is None else c6.towards.float().contiguous(),
        nothing if per_atom is None else per_atom.contiguous(),
        nothing if switch is None else switch,
        out,
        per_cell,
        HAS_CHARGES=charges is not None,
        HAS_KINDS=elements is not None,
        COEFFICIENT=coefficient,
        N_REF=1 if c6 is None else c6.weights.shape[2],
        CUTOFF2=min(
            cutoff * cutoff, LARGEST_CUTOFF2
        ),  # a constant, since arguments arrive in float32
        BLOCK=BLOCK,
    )
    d_cell = batch.system_sum(per_cell)
    return PairSums(out[:, :3], d_cell, out[:, 3], out[:, 4], out[:, 5])


def counts(batch: AtomsBatch, rows: Rows, cutoff: float, elements: ElementTables) -> Tensor:
    """See `hff_ase.kernels.pair.counts`."""
    return 2.0 * pair_sums(batch, rows, cutoff, None, None, elements, None).energy


def add_count_slopes(
    batch: AtomsBatch, rows: Rows, cutoff: float, elements: ElementTables, sums: PairSums
) -> None:
    """Add sum_i d_cn[i] dcount_i/dx to the derivatives in ``sums``."""
    chained = pair_sums(batch, rows, cutoff, None, None, elements, None, sums.d_cn)
    sums.d_positions = sums.d_positions + chained.d_positions
    sums.d_cell = sums.d_cell + chained.d_cell
