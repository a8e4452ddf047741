"""Triton kernels of GET's messages: one program per receiving atom, no atomics.

Tiles are [BLOCK, DEPTH, HEADS] with BLOCK neighbours, channel c = depth * heads + head, so that a
row of k or v is read in one piece and a head's sum runs over the middle axis. Triton's sizes are
powers of two: other numbers of heads or channels are padded with masked (and never loaded) lanes.
Sums over neighbours stay spread over the tile until the loop ends.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs
# (Triton looks up annotations when it compiles: its functions can only have its own.)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _coefficients(table, knot, channel, mask, CHANNELS: tl.constexpr):
    """The cubic of each edge's interval, four times [BLOCK, DEPTH, HEADS]."""
    row = table + knot[:, None, None] * (4 * CHANNELS) + channel[None, :, :]
    return (
        tl.load(row, mask=mask, other=0.0),
        tl.load(row + CHANNELS, mask=mask, other=0.0),
        tl.load(row + 2 * CHANNELS, mask=mask, other=0.0),
        tl.load(row + 3 * CHANNELS, mask=mask, other=0.0),
    )


@triton.jit
def _edge(index, geometry, slot, here):
    """Neighbour, knot, unit vector, place between knots and envelope of edges, each [BLOCK]."""
    to, row = index + slot * 3, geometry + slot * 8
    return (
        tl.load(to, mask=here, other=0),
        tl.load(to + 1, mask=here, other=0),
        tl.load(row, mask=here, other=0.0),
        tl.load(row + 1, mask=here, other=0.0),
        tl.load(row + 2, mask=here, other=0.0),
        tl.load(row + 3, mask=here, other=0.0),
        tl.load(row + 4, mask=here, other=0.0),
    )


@triton.jit
def _sum_channels(tile):
    return tl.sum(tl.sum(tile, axis=2), axis=1)


@triton.jit
def forward_kernel(
    query,
    key,
    value,
    row_of,
    start,
    count,
    index,
    geometry,
    table,
    scalar_out,
    vector_out,
    stride,
    HEADS: tl.constexpr,
    DEPTH: tl.constexpr,
    HEADS_PAD: tl.constexpr,
    DEPTH_PAD: tl.constexpr,
    SHARED: tl.constexpr,
    VECTORS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """m_i = sum_j v_j e silu(q_i.k_j) f and M_i = sum_j v_j e u; see `hff_ase.kernels.get.gpu`."""
    CHANNELS: tl.constexpr = HEADS * DEPTH
    atom = tl.program_id(0)
    depth = tl.arange(0, DEPTH_PAD)[:, None]
    head = tl.arange(0, HEADS_PAD)[None, :]
    channel, real = depth * HEADS + head, (depth < DEPTH) & (head < HEADS)
    own = tl.load(row_of + atom).to(tl.int32) if SHARED else atom
    q_i = tl.load(query + own * stride + channel, mask=real, other=0.0)[None, :, :]
    first, n_edges = tl.load(start + atom).to(tl.int64), tl.load(count + atom)
    total = tl.zeros([BLOCK, DEPTH_PAD, HEADS_PAD], tl.float32)
    total_x, total_y, total_z = total, total, total
    for offset in range(0, n_edges, BLOCK):
        position = offset + tl.arange(0, BLOCK)
        here = position < n_edges
        slot = first + position
        j, knot, ux, uy, uz, t, f = _edge(index, geometry, slot, here)
        mask = here[:, None, None] & real[None, :, :]
        row = tl.load(row_of + j, mask=here, other=0).to(tl.int32) if SHARED else j
        at_j = row[:, None, None] * stride + channel[None, :, :]
        k_j = tl.load(key + at_j, mask=mask, other=0.0)
        v_j = tl.load(value + at_j, mask=mask, other=0.0)
        c0, c1, c2, c3 = _coefficients(table, knot, channel, mask, CHANNELS)
        x = t[:, None, None]
        carried = v_j * (c0 + x * (c1 + x * (c2 + x * c3)))
        s = tl.sum(q_i * k_j, axis=1)  # [neighbour, head]
        attention = s * tl.sigmoid(s) * f[:, None]
        total += carried * attention[:, None, :]
        if VECTORS:
            total_x += carried * ux[:, None, None]
            total_y += carried * uy[:, None, None]
            total_z += carried * uz[:, None, None]
    tl.store(scalar_out + atom * CHANNELS + channel, tl.sum(total, axis=0), mask=real)
    if VECTORS:
        at = vector_out + atom * (3 * CHANNELS) + channel
        tl.store(at, tl.sum(total_x, axis=0), mask=real)
        tl.store(at + CHANNELS, tl.sum(total_y, axis=0), mask=real)
        tl.store(at + 2 * CHANNELS, tl.sum(total_z, axis=0), mask=real)


@triton.jit
def backward_kernel(
    query,
    key,
    value,
    row_of,
    grad_scalar,
    grad_vector,
    start,
    count,
    shift,
    index,
    geometry,
    table,
    grad_query,
    grad_key,
    grad_value,
    d_positions,
    d_cell,
    inverse_spacing,
    stride,
    grad_stride,
    HEADS: tl.constexpr,
    DEPTH: tl.constexpr,
    HEADS_PAD: tl.constexpr,
    DEPTH_PAD: tl.constexpr,
    SHARED: tl.constexpr,
    VECTORS: tl.constexpr,
    NODES: tl.constexpr,
    CELL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """All contributions of atom i's edges, in both directions, to atom i's gradients.

    The edge i <- j carries gradients to q_i, the edge j <- i those to k_i and v_i, and both move
    with x_i. The other shares are found in the rows of j: nothing is scattered.
    """
    CHANNELS: tl.constexpr = HEADS * DEPTH
    atom = tl.program_id(0)
    depth = tl.arange(0, DEPTH_PAD)[:, None]
    head = tl.arange(0, HEADS_PAD)[None, :]
    channel, real = depth * HEADS + head, (depth < DEPTH) & (head < HEADS)
    own = tl.load(row_of + atom).to(tl.int32) if SHARED else atom
    at_i = own * stride + channel
    q_i = tl.load(query + at_i, mask=real, other=0.0)[None, :, :]
    k_i = tl.load(key + at_i, mask=real, other=0.0)[None, :, :]
    v_i = tl.load(value + at_i, mask=real, other=0.0)[None, :, :]
    g_i = tl.load(grad_scalar + atom * CHANNELS + channel, mask=real, other=0.0)[None, :, :]
    if VECTORS:
        of_i = grad_vector + atom * (3 * CHANNELS) + channel
        gx_i = tl.load(of_i, mask=real, other=0.0)[None, :, :]
        gy_i = tl.load(of_i + CHANNELS, mask=real, other=0.0)[None, :, :]
        gz_i = tl.load(of_i + 2 * CHANNELS, mask=real, other=0.0)[None, :, :]
    first, n_edges = tl.load(start + atom).to(tl.int64), tl.load(count + atom)
    total_q = tl.zeros([BLOCK, DEPTH_PAD, HEADS_PAD], tl.float32)
    total_k, total_v = total_q, total_q
    force_x = tl.zeros([BLOCK], tl.float32)
    force_y, force_z = force_x, force_x
    xx, xy, xz = force_x, force_x, force_x
    yx, yy, yz = force_x, force_x, force_x
    zx, zy, zz = force_x, force_x, force_x
    for offset in range(0, n_edges, BLOCK):
        position = offset + tl.arange(0, BLOCK)
        here = position < n_edges
        slot = first + position
        j, knot, ux, uy, uz, t, f = _edge(index, geometry, slot, here)
        mask = here[:, None, None] & real[None, :, :]
        row = tl.load(row_of + j, mask=here, other=0).to(tl.int32) if SHARED else j
        at_j = row[:, None, None] * stride + channel[None, :, :]
        q_j = tl.load(query + at_j, mask=mask, other=0.0)
        k_j = tl.load(key + at_j, mask=mask, other=0.0)
        v_j = tl.load(value + at_j, mask=mask, other=0.0)
        g_j = tl.load(
            grad_scalar + j[:, None, None] * CHANNELS + channel[None, :, :], mask=mask, other=0.0
        )
        df = tl.load(geometry + slot * 8 + 5, mask=here, other=0.0)
        c0, c1, c2, c3 = _coefficients(table, knot, channel, mask, CHANNELS)
        x = t[:, None, None]
        e = c0 + x * (c1 + x * (c2 + x * c3))
        de = (c1 + x * (2.0 * c2 + 3.0 * x * c3)) * inverse_spacing

        # i <- j
        s = tl.sum(q_i * k_j, axis=1)
        gate = tl.sigmoid(s)
        attention = s * gate
        from_j = v_j * e
        to_attention = tl.sum(g_i * from_j, axis=1)
        to_f = tl.sum(to_attention * attention, axis=1)
        ahead = g_i * (attention * f[:, None])[:, None, :]  # dE/d(v_j e)
        if NODES:
            to_s = to_attention * f[:, None] * gate * (1.0 + s * (1.0 - gate))
            total_q += to_s[:, None, :] * k_j

        # j <- i
        s = tl.sum(q_j * k_i, axis=1)
        gate = tl.sigmoid(s)
        attention = s * gate
        from_i = v_i * e
        to_attention = tl.sum(g_j * from_i, axis=1)
        to_f += tl.sum(to_attention * attention, axis=1)
        behind = g_j * (attention * f[:, None])[:, None, :]  # dE/d(v_i e)
        if NODES:
            to_s = to_attention * f[:, None] * gate * (1.0 + s * (1.0 - gate))
            total_k += to_s[:, None, :] * q_j

        if VECTORS:
            of_j = grad_vector + j[:, None, None] * (3 * CHANNELS) + channel[None, :, :]
            gx_j = tl.load(of_j, mask=mask, other=0.0)
            gy_j = tl.load(of_j + CHANNELS, mask=mask, other=0.0)
            gz_j = tl.load(of_j + 2 * CHANNELS, mask=mask, other=0.0)
            ahead += gx_i * ux[:, None, None] + gy_i * uy[:, None, None] + gz_i * uz[:, None, None]
            behind -= gx_j * ux[:, None, None] + gy_j * uy[:, None, None] + gz_j * uz[:, None, None]
        if NODES:
            total_v += behind * e
        radial = _sum_channels((ahead * v_j + behind * v_i) * de) + to_f * df
        gx, gy, gz = radial * ux, radial * uy, radial * uz
        if VECTORS:  # the direction turns with the vector: (1 - u u)/r
            tx = _sum_channels(gx_i * from_j - gx_j * from_i)
            ty = _sum_channels(gy_i * from_j - gy_j * from_i)
            tz = _sum_channels(gz_i * from_j - gz_j * from_i)
            along = tx * ux + ty * uy + tz * uz
            inverse = tl.load(geometry + slot * 8 + 6, mask=here, other=0.0)
            gx += (tx - along * ux) * inverse
            gy += (ty - along * uy) * inverse
            gz += (tz - along * uz) * inverse
        force_x -= gx
        force_y -= gy
        force_z -= gz
        if CELL:
            image = tl.load(index + slot * 3 + 2, mask=here, other=-1)
            across = image >= 0
            place = shift + image.to(tl.int64) * 3
            a = tl.load(place, mask=across, other=0).to(tl.float32)
            b = tl.load(place + 1, mask=across, other=0).to(tl.float32)
            c = tl.load(place + 2, mask=across, other=0).to(tl.float32)
            xx += a * gx
            xy += a * gy
            xz += a * gz
            yx += b * gx
            yy += b * gy
            yz += b * gz
            zx += c * gx
            zy += c * gy
            zz += c * gz
    if NODES:
        at_i = atom * grad_stride + channel
        tl.store(grad_query + at_i, tl.sum(total_q, axis=0), mask=real)
        tl.store(grad_key + at_i, tl.sum(total_k, axis=0), mask=real)
        tl.store(grad_value + at_i, tl.sum(total_v, axis=0), mask=real)
    _add(d_positions + atom * 3, force_x, 1.0)
    _add(d_positions + atom * 3 + 1, force_y, 1.0)
    _add(d_positions + atom * 3 + 2, force_z, 1.0)
    if CELL:  # both atoms of a pair meet it with the same product: half each
        at = d_cell + atom * 9
        _add(at, xx, 0.5)
        _add(at + 1, xy, 0.5)
        _add(at + 2, xz, 0.5)
        _add(at + 3, yx, 0.5)
        _add(at + 4, yy, 0.5)
        _add(at + 5, yz, 0.5)
        _add(at + 6, zx, 0.5)
        _add(at + 7, zy, 0.5)
        _add(at + 8, zz, 0.5)


@triton.jit
def _add(place, parts, factor):
    """Add a sum over neighbours to a float64 number that no other program touches."""
    tl.store(place, tl.load(place) + factor * tl.sum(parts, axis=0).to(tl.float64))
