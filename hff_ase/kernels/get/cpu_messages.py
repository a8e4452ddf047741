"""The edge sums of GET for the CPU: numba functions for one number of channels and heads.

Every function works on the atoms first ... last - 1 and writes to the rows of those atoms only, so
that atoms may be shared out over threads in any way without a change in the result. Rows of
channels are head-fastest (c = d * heads + h): a product of heads is then a product of whole rows,
folded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from hff_ase.kernels.get.simd import fold, load, repeat, sigmoid, store, total, zeros
from hff_ase.kernels.jit import jit

# Columns of `geometry`, float [n_slots, 7]: unit vector, inverse distance, position between two
# knots, envelope and its slope.
UX, UY, UZ, INVERSE, BETWEEN, CUT, SLOPE = range(7)


@jit
def find_edges(
    first: int,
    last: int,
    positions: np.ndarray,
    cell: np.ndarray,
    system: np.ndarray,
    start: np.ndarray,
    count: np.ndarray,
    partner: np.ndarray,
    shift: np.ndarray,
    cutoff: float,
    spacing: float,
    envelope: np.ndarray,
    n_edges: np.ndarray,
    index: np.ndarray,
    geometry: np.ndarray,
) -> None:
    """Select the pairs within the cutoff, with the data that the layers need.

    Args:
        n_edges: out [n_atoms], edges of each atom, from its slot ``start`` on.
        index: out int32 [n_slots, 3]: neighbour, knot, slot of the shift (-1 where it is zero).
        geometry: out [n_slots, 7].
    """
    beyond, per_length = cutoff * cutoff, 1.0 / spacing
    for i in range(first, last):
        x_i, y_i, z_i = positions[i, 0], positions[i, 1], positions[i, 2]
        box = cell[system[i]]
        place = start[i]
        for slot in range(start[i], start[i] + count[i]):
            j = partner[slot]
            dx, dy, dz = positions[j, 0] - x_i, positions[j, 1] - y_i, positions[j, 2] - z_i
            a, b, c = shift[slot, 0], shift[slot, 1], shift[slot, 2]
            image = (a | b | c) != 0
            if image:
                dx += a * box[0, 0] + b * box[1, 0] + c * box[2, 0]
                dy += a * box[0, 1] + b * box[1, 1] + c * box[2, 1]
                dz += a * box[0, 2] + b * box[1, 2] + c * box[2, 2]
            square = dx * dx + dy * dy + dz * dz
            if square >= beyond:
                continue
            r = np.sqrt(square)
            inverse, x = 1.0 / r, r * per_length
            # A nan passes: it must come out as a nan, without leading out of the table.
            knot = max(min(int(x), len(envelope) - 1), 0)
            t = x - knot
            c0, c1 = envelope[knot, 0], envelope[knot, 1]
            c2, c3 = envelope[knot, 2], envelope[knot, 3]
            index[place, 0] = j
            index[place, 1] = knot
            index[place, 2] = slot if image else -1
            geometry[place, UX] = dx * inverse
            geometry[place, UY] = dy * inverse
            geometry[place, UZ] = dz * inverse
            geometry[place, INVERSE] = inverse
            geometry[place, BETWEEN] = t
            geometry[place, CUT] = c0 + t * (c1 + t * (c2 + t * c3))
            geometry[place, SLOPE] = (c1 + t * (2.0 * c2 + 3.0 * t * c3)) * per_length
            place += 1
        n_edges[i] = place - start[i]


class MessageKernels(NamedTuple):
    """The compiled edge sums of one network shape."""

    forward: Callable[..., None]
    backward: Callable[..., None]


@cache
def message_kernels(channels: int, heads: int, vectors: bool, nodes: bool) -> MessageKernels:
    """The edge sums for a number of channels and heads.

    Args:
        vectors: with vector messages.
        nodes: with gradients of queries, keys and values (not wanted in the first layer, whose
            atoms know nothing of each other yet).
    """
    C, H, C2, C3, C4 = channels, heads, 2 * channels, 3 * channels, 4 * channels
    assert C4  # a constant of the functions below

    @jit
    def forward(
        first: int,
        last: int,
        qkv: np.ndarray,
        start: np.ndarray,
        count: np.ndarray,
        index: np.ndarray,
        geometry: np.ndarray,
        table: np.ndarray,
        m: np.ndarray,
        M: np.ndarray,
    ) -> None:
        for i in range(first, last):
            query = load(qkv, i, 0, C)
            sum_m = zeros(qkv, C)
            sum_x = zeros(qkv, C)
            sum_y = zeros(qkv, C)
            sum_z = zeros(qkv, C)
            for edge in range(start[i], start[i] + count[i]):
                j, knot, t = index[edge, 0], index[edge, 1], geometry[edge, BETWEEN]
                s = fold(query * load(qkv, j, C, C), H)
                attention = s * sigmoid(s) * geometry[edge, CUT]
                e = load(table, knot, C3, C)
                e = e * t + load(table, knot, C2, C)
                e = e * t + load(table, knot, C, C)
                e = e * t + load(table, knot, 0, C)
                carried = load(qkv, j, C2, C) * e
                sum_m += carried * repeat(attention, C)
                if vectors:
                    sum_x += carried * geometry[edge, UX]
                    sum_y += carried * geometry[edge, UY]
                    sum_z += carried * geometry[edge, UZ]
            store(m, i, 0, sum_m)
            if vectors:
                store(M, i, 0, sum_x)
                store(M, i, C, sum_y)
                store(M, i, C2, sum_z)

    @jit
    def backward(
        first: int,
        last: int,
        qkv: np.ndarray,
        grad_m: np.ndarray,
        grad_M: np.ndarray,
        start: np.ndarray,
        count: np.ndarray,
        index: np.ndarray,
        geometry: np.ndarray,
        table: np.ndarray,
        shift: np.ndarray,
        inverse_spacing: float,
        grad_qkv: np.ndarray,
        d_positions: np.ndarray,
        d_cell: np.ndarray,
    ) -> None:
        for i in range(first, last):
            q_i = load(qkv, i, 0, C)
            k_i = load(qkv, i, C, C)
            v_i = load(qkv, i, C2, C)
            g_i = load(grad_m, i, 0, C)
            gx_i = load(grad_M, i, 0, C)
            gy_i = load(grad_M, i, C, C)
            gz_i = load(grad_M, i, C2, C)
            sum_q = zeros(qkv, C)
            sum_k = zeros(qkv, C)
            sum_v = zeros(qkv, C)
            force_x = zeros(qkv, H)
            force_y = zeros(qkv, H)
            force_z = zeros(qkv, H)
            for edge in range(start[i], start[i] + count[i]):
                j, knot, t = index[edge, 0], index[edge, 1], geometry[edge, BETWEEN]
                ux, uy, uz = geometry[edge, UX], geometry[edge, UY], geometry[edge, UZ]
                f, df = geometry[edge, CUT], geometry[edge, SLOPE]
                v_j = load(qkv, j, C2, C)
                g_j = load(grad_m, j, 0, C)
                c1, c2, c3 = (
                    load(table, knot, C, C), load(table, knot, C2, C), load(table, knot, C3, C)
                )  # fmt: skip
                t2 = t + t
                t3 = t2 * t + t * t
                e = ((c3 * t + c2) * t + c1) * t + load(table, knot, 0, C)
                de = c3 * t3 + (c2 * t2 + c1)
                from_j = v_j * e
                from_i = v_i * e
                # i <- j: what atom i hears from j
                k_j = load(qkv, j, C, C)
                s = fold(q_i * k_j, H)
                gate = sigmoid(s)
                attention = s * gate
                to_attention = fold(g_i * from_j, H)
                radial_f = to_attention * attention
                ahead = g_i * repeat(attention * f, C)  # dE/d(v_j e)
                if nodes:
                    to_s = to_attention * (gate + attention * (1.0 - gate)) * f
                    sum_q += repeat(to_s, C) * k_j
                # j <- i: what j hears from i
                q_j = load(qkv, j, 0, C)
                s = fold(q_j * k_i, H)
                gate = sigmoid(s)
                attention = s * gate
                to_attention = fold(g_j * from_i, H)
                radial_f += to_attention * attention
                behind = g_j * repeat(attention * f, C)  # dE/d(v_i e)
                if nodes:
                    to_s = to_attention * (gate + attention * (1.0 - gate)) * f
                    sum_k += repeat(to_s, C) * q_j
                if vectors:
                    gx_j = load(grad_M, j, 0, C)
                    gy_j = load(grad_M, j, C, C)
                    gz_j = load(grad_M, j, C2, C)
                    ahead += gx_i * ux + gy_i * uy + gz_i * uz
                    behind -= gx_j * ux + gy_j * uy + gz_j * uz
                if nodes:
                    sum_v += behind * e
                radial = fold((ahead * v_j + behind * v_i) * de, H) * inverse_spacing
                radial += radial_f * df
                along_x = radial * ux
                along_y = radial * uy
                along_z = radial * uz
                if vectors:  # the direction turns with the vector: (1 - u u)/r
                    inverse = geometry[edge, INVERSE]
                    turn_x = fold(gx_i * from_j - gx_j * from_i, H)
                    turn_y = fold(gy_i * from_j - gy_j * from_i, H)
                    turn_z = fold(gz_i * from_j - gz_j * from_i, H)
                    along = turn_x * ux + turn_y * uy + turn_z * uz
                    along_x += (turn_x - along * ux) * inverse
                    along_y += (turn_y - along * uy) * inverse
                    along_z += (turn_z - along * uz) * inverse
                force_x += along_x
                force_y += along_y
                force_z += along_z
                slot = index[edge, 2]
                if slot >= 0:  # both atoms meet the pair with the same product: half each
                    tx, ty, tz = 0.5 * total(along_x), 0.5 * total(along_y), 0.5 * total(along_z)
                    for a in range(3):
                        d_cell[i, 3 * a] += shift[slot, a] * tx
                        d_cell[i, 3 * a + 1] += shift[slot, a] * ty
                        d_cell[i, 3 * a + 2] += shift[slot, a] * tz
            if nodes:
                store(grad_qkv, i, 0, sum_q)
                store(grad_qkv, i, C, sum_k)
                store(grad_qkv, i, C2, sum_v)
            d_positions[i, 0] -= total(force_x)
            d_positions[i, 1] -= total(force_y)
            d_positions[i, 2] -= total(force_z)

    return MessageKernels(forward, backward)
