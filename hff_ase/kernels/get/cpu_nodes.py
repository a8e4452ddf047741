"""GET's operations on single atoms between two edge sums, for the CPU: numba functions.

Projections, the update of scalars and vectors, the normalisation and the next layer's queries, keys
and values, forward and backward, for blocks of atoms small enough that what one step writes the
next reads from the cache. Vectors [n_atoms, 3 channels] are stored component by component, and read
as 3 n_atoms rows by the projections.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import literally

from hff_ase.kernels.get.simd import load, store, total, zeros
from hff_ase.kernels.jit import jit

BLOCK = 32  # atoms
EPSILON = 1e-5  # of torch.nn.LayerNorm


@jit
def add_product(
    first: int, last: int, x: np.ndarray, weight: np.ndarray, out: np.ndarray, lanes: int
) -> None:
    """out[first:last] += x[first:last] @ weight, `lanes` columns at a time.

    Four rows share what is read of the weights; their sums stay in registers.
    """
    lanes = literally(lanes)
    for column in range(0, weight.shape[1], lanes):
        row = first
        while row + 4 <= last:
            a, b = load(out, row, column, lanes), load(out, row + 1, column, lanes)
            c, d = load(out, row + 2, column, lanes), load(out, row + 3, column, lanes)
            for k in range(weight.shape[0]):
                w = load(weight, k, column, lanes)
                a += w * x[row, k]
                b += w * x[row + 1, k]
                c += w * x[row + 2, k]
                d += w * x[row + 3, k]
            store(out, row, column, a)
            store(out, row + 1, column, b)
            store(out, row + 2, column, c)
            store(out, row + 3, column, d)
            row += 4
        while row < last:
            a = load(out, row, column, lanes)
            for k in range(weight.shape[0]):
                a += load(weight, k, column, lanes) * x[row, k]
            store(out, row, column, a)
            row += 1


@jit
def fill_rows(first: int, last: int, row: np.ndarray, out: np.ndarray, lanes: int) -> None:
    """out[first:last] = row, [1, columns]."""
    lanes = literally(lanes)
    for column in range(0, out.shape[1], lanes):
        value = load(row, 0, column, lanes)
        for i in range(first, last):
            store(out, i, column, value)


class NodeKernels(NamedTuple):
    """The compiled node operations of one network shape."""

    forward: Callable[..., None]
    backward: Callable[..., None]
    project: Callable[..., None]
    project_backward: Callable[..., None]


@cache
def node_kernels(channels: int, parts: int) -> NodeKernels:
    """Node operations for a number of channels.

    Args:
        parts: how many blocks the output projection has: 1 in the first layer, 3 in a middle one, 2
            in the last.
    """
    C, C2, C3 = channels, 2 * channels, 3 * channels
    # Columns of o2 and o3 in the output projection (o1 comes first in a middle layer).
    AT_2, AT_3 = (parts - 2) * channels, (parts - 1) * channels
    PC, PC2 = parts * channels, 2 * parts * channels
    assert C2 + C3 + AT_2 + AT_3 + PC + PC2  # constants of the functions below

    @jit
    def forward(
        first: int,
        last: int,
        m: np.ndarray,
        M: np.ndarray,
        x: np.ndarray,
        V: np.ndarray,
        out_weight: np.ndarray,
        out_bias: np.ndarray,
        vec_weight: np.ndarray,
        o: np.ndarray,
        abc: np.ndarray,
        x_new: np.ndarray,
        V_new: np.ndarray,
    ) -> None:
        """o = O(m), (A, B, C) = P V, x <- x + (A.B) o2 + o3, V <- V + C o1 + M."""
        V_rows, abc_rows = V.reshape(-1, C), abc.reshape(-1, PC)
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            fill_rows(start, stop, out_bias, o, C)
            add_product(start, stop, m, out_weight, o, C)
            if parts > 1:
                abc_rows[3 * start : 3 * stop] = 0.0
                add_product(3 * start, 3 * stop, V_rows, vec_weight, abc_rows, C)
            for i in range(start, stop):
                new = load(x, i, 0, C) + load(o, i, AT_3, C)
                if parts > 1:
                    dot = load(abc, i, 0, C) * load(abc, i, C, C)
                    dot += load(abc, i, PC, C) * load(abc, i, PC + C, C)
                    dot += load(abc, i, PC2, C) * load(abc, i, PC2 + C, C)
                    new += dot * load(o, i, AT_2, C)
                store(x_new, i, 0, new)
                if parts == 3:
                    o1 = load(o, i, 0, C)
                    for k in range(3):
                        value = load(V, i, k * C, C) + load(M, i, k * C, C)
                        value += load(abc, i, k * PC + C2, C) * o1
                        store(V_new, i, k * C, value)

    @jit
    def backward(
        first: int,
        last: int,
        grad_x: np.ndarray,
        grad_V: np.ndarray,
        out_weight: np.ndarray,
        vec_weight: np.ndarray,
        o: np.ndarray,
        abc: np.ndarray,
        grad_o: np.ndarray,
        grad_abc: np.ndarray,
        grad_m: np.ndarray,
        grad_V_new: np.ndarray,
    ) -> None:
        """Gradients of m and V; those of M and of the residual x are grad_V and grad_x.

        The weights are those of the forward pass, transposed. grad_o and grad_abc may be o and abc
        themselves.
        """
        V_rows, abc_rows = grad_V_new.reshape(-1, C), grad_abc.reshape(-1, PC)
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            for i in range(start, stop):
                g = load(grad_x, i, 0, C)
                store(grad_o, i, AT_3, g)
                if parts > 1:
                    to_dot = g * load(o, i, AT_2, C)
                    dot = zeros(o, C)
                    for k in range(3):
                        a, b = load(abc, i, k * PC, C), load(abc, i, k * PC + C, C)
                        dot += a * b
                        store(grad_abc, i, k * PC, to_dot * b)
                        store(grad_abc, i, k * PC + C, to_dot * a)
                    store(grad_o, i, AT_2, g * dot)
                if parts == 3:
                    o1 = load(o, i, 0, C)
                    to_o1 = zeros(o, C)
                    for k in range(3):
                        to_V = load(grad_V, i, k * C, C)
                        store(grad_V_new, i, k * C, to_V)
                        to_o1 += to_V * load(abc, i, k * PC + C2, C)
                        store(grad_abc, i, k * PC + C2, to_V * o1)
                    store(grad_o, i, 0, to_o1)
            grad_m[start:stop] = 0.0
            add_product(start, stop, grad_o, out_weight, grad_m, C)
            if parts == 2:
                V_rows[3 * start : 3 * stop] = 0.0
            if parts > 1:
                add_product(3 * start, 3 * stop, abc_rows, vec_weight, V_rows, C)

    @jit
    def project(
        first: int,
        last: int,
        x: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray,
        normed: np.ndarray,
        scale: np.ndarray,
        qkv: np.ndarray,
    ) -> None:
        """Normalise, then queries, keys and values; the norm's own weights are in `weight`."""
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            for i in range(start, stop):
                value = load(x, i, 0, C)
                value = value - total(value) / C
                scale[i] = 1.0 / np.sqrt(total(value * value) / C + EPSILON)
                store(normed, i, 0, value * scale[i])
            fill_rows(start, stop, bias, qkv, C)
            add_product(start, stop, normed, weight, qkv, C)

    @jit
    def project_backward(
        first: int,
        last: int,
        grad_qkv: np.ndarray,
        weight: np.ndarray,
        normed: np.ndarray,
        scale: np.ndarray,
        grad_normed: np.ndarray,
        grad_x: np.ndarray,
    ) -> None:
        """grad_x += the gradient through `project`."""
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            grad_normed[start:stop] = 0.0
            add_product(start, stop, grad_qkv, weight, grad_normed, C)
            for i in range(start, stop):
                g, value = load(grad_normed, i, 0, C), load(normed, i, 0, C)
                g = g - total(g) / C - value * (total(g * value) / C)
                store(grad_x, i, 0, load(grad_x, i, 0, C) + g * scale[i])

    return NodeKernels(forward, backward, project, project_backward)
