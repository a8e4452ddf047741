"""Triton kernel that turns rows of neighbours into the edges of one evaluation."""
# mypy: allow-untyped-defs, allow-incomplete-defs
# (Triton looks up annotations when it compiles: its functions can only have its own.)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def edges_kernel(
    positions,
    cell,
    system,
    start,
    count,
    partner,
    shift,
    envelope,
    n_edges,
    index,
    geometry,
    N_INTERVALS: tl.constexpr,
    CUTOFF: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Keep the pairs of one atom's row that are closer than the cutoff, in their order.

    Writes, from slot start[i] on, ``index`` int32 [n_slots, 3]: neighbour, interval of the table,
    slot of the image's shift (-1: no shift); and ``geometry`` float32 [n_slots, 8]: unit vector,
    place in the interval, envelope, its slope, inverse distance, nothing. All of it is computed in
    float64.
    """
    atom = tl.program_id(0)
    first, n_pairs = tl.load(start + atom).to(tl.int64), tl.load(count + atom)
    lattice = cell + tl.load(system + atom) * 9
    own = positions + atom * 3
    x_i, y_i, z_i = tl.load(own), tl.load(own + 1), tl.load(own + 2)
    n_kept = n_pairs * 0
    for offset in range(0, n_pairs, BLOCK):
        position = offset + tl.arange(0, BLOCK)
        here = position < n_pairs
        slot = first + position
        j = tl.load(partner + slot, mask=here, other=0)
        a = tl.load(shift + slot * 3, mask=here, other=0)
        b = tl.load(shift + slot * 3 + 1, mask=here, other=0)
        c = tl.load(shift + slot * 3 + 2, mask=here, other=0)
        image = (a != 0) | (b != 0) | (c != 0)
        a, b, c = a.to(tl.float64), b.to(tl.float64), c.to(tl.float64)
        other = positions + j * 3
        x = tl.load(other, mask=here, other=0.0) - x_i
        y = tl.load(other + 1, mask=here, other=0.0) - y_i
        z = tl.load(other + 2, mask=here, other=0.0) - z_i
        x += a * tl.load(lattice) + b * tl.load(lattice + 3) + c * tl.load(lattice + 6)
        y += a * tl.load(lattice + 1) + b * tl.load(lattice + 4) + c * tl.load(lattice + 7)
        z += a * tl.load(lattice + 2) + b * tl.load(lattice + 5) + c * tl.load(lattice + 8)
        r = tl.sqrt(x * x + y * y + z * z)
        keep = here & ((r < CUTOFF) | (r != r))  # a nan is passed on, not lost

        in_table = r * (N_INTERVALS / CUTOFF)
        knot = tl.minimum(in_table.to(tl.int32), N_INTERVALS - 1)
        knot = tl.maximum(knot, 0)  # whatever a nan became
        t = in_table - knot.to(tl.float64)
        cubic = envelope + knot * 4
        c0, c1 = tl.load(cubic), tl.load(cubic + 1)
        c2, c3 = tl.load(cubic + 2), tl.load(cubic + 3)
        f = c0 + t * (c1 + t * (c2 + t * c3))
        df = (c1 + t * (2.0 * c2 + 3.0 * t * c3)) * (N_INTERVALS / CUTOFF)

        place = first + n_kept + tl.cumsum(keep.to(tl.int32), axis=0) - 1
        tl.store(index + place * 3, j, mask=keep)
        tl.store(index + place * 3 + 1, knot, mask=keep)
        tl.store(index + place * 3 + 2, tl.where(image, slot, -1).to(tl.int32), mask=keep)
        row, inverse = geometry + place * 8, 1.0 / r
        tl.store(row, (x * inverse).to(tl.float32), mask=keep)
        tl.store(row + 1, (y * inverse).to(tl.float32), mask=keep)
        tl.store(row + 2, (z * inverse).to(tl.float32), mask=keep)
        tl.store(row + 3, t.to(tl.float32), mask=keep)
        tl.store(row + 4, f.to(tl.float32), mask=keep)
        tl.store(row + 5, df.to(tl.float32), mask=keep)
        tl.store(row + 6, inverse.to(tl.float32), mask=keep)
        n_kept += tl.sum(keep.to(tl.int32), axis=0)
    tl.store(n_edges + atom, n_kept)
