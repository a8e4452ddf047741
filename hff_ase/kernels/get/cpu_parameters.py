"""GET on the CPU with gradients of its parameters instead of positions.

Forward pass, and the backward pass from layer to layer, are those of `hff_ase.kernels.get.cpu`. On
top of it come the gradients of what the kernels read (`hff_ase.kernels.get.weights`): of matrices
as products over all atoms, of the radial table in the edge sums.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hff_ase.kernels.get.cpu import Array, NumbaPass
from hff_ase.kernels.get.cpu_messages import BETWEEN, CUT, UX, UY, UZ
from hff_ase.kernels.get.cpu_nodes import node_kernels
from hff_ase.kernels.get.simd import fold, load, repeat, sigmoid, store, zeros
from hff_ase.kernels.jit import jit
from hff_ase.kernels.threads import FEWEST, share


@cache
def edge_kernel(channels: int, heads: int, vectors: bool) -> Callable[..., None]:
    """The backward pass of the edge sums for a number of channels and heads.

    Args:
        vectors: with vector messages.
    """
    C, H, C2, C3 = channels, heads, 2 * channels, 3 * channels
    assert C3  # a constant of the function below

    @jit
    def backward(
        first: int,
        last: int,
        n_parts: int,
        qkv: np.ndarray,
        grad_m: np.ndarray,
        grad_M: np.ndarray,
        start: np.ndarray,
        count: np.ndarray,
        index: np.ndarray,
        geometry: np.ndarray,
        table: np.ndarray,
        grad_qkv: np.ndarray,
        grad_table: np.ndarray,
    ) -> None:
        """Gradients of queries, keys and values and, added to what is there, of the table.

        Part p of the atoms has rows p n_intervals ... of ``grad_table`` to itself.
        """
        n = len(start)
        for part in range(first, last):
            at_table = part * len(table)
            for i in range(part * n // n_parts, (part + 1) * n // n_parts):
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
                for edge in range(start[i], start[i] + count[i]):
                    j, knot, t = index[edge, 0], index[edge, 1], geometry[edge, BETWEEN]
                    ux, uy, uz = geometry[edge, UX], geometry[edge, UY], geometry[edge, UZ]
                    f = geometry[edge, CUT]
                    v_j = load(qkv, j, C2, C)
                    g_j = load(grad_m, j, 0, C)
                    e = load(table, knot, C3, C)
                    e = e * t + load(table, knot, C2, C)
                    e = e * t + load(table, knot, C, C)
                    e = e * t + load(table, knot, 0, C)
                    # i <- j: what atom i hears from j
                    k_j = load(qkv, j, C, C)
                    s = fold(q_i * k_j, H)
                    gate = sigmoid(s)
                    attention = s * gate
                    to_attention = fold(g_i * v_j * e, H)
                    to_s = to_attention * (gate + attention * (1.0 - gate)) * f
                    sum_q += repeat(to_s, C) * k_j
                    ahead = g_i * repeat(attention * f, C)  # dL/d(v_j e)
                    # j <- i: what j hears from i
                    q_j = load(qkv, j, 0, C)
                    s = fold(q_j * k_i, H)
                    gate = sigmoid(s)
                    attention = s * gate
                    to_attention = fold(g_j * v_i * e, H)
                    to_s = to_attention * (gate + attention * (1.0 - gate)) * f
                    sum_k += repeat(to_s, C) * q_j
                    behind = g_j * repeat(attention * f, C)  # dL/d(v_i e)
                    if vectors:
                        ahead += gx_i * ux + gy_i * uy + gz_i * uz
                        behind -= load(grad_M, j, 0, C) * ux
                        behind -= load(grad_M, j, C, C) * uy
                        behind -= load(grad_M, j, C2, C) * uz
                    sum_v += behind * e
                    # Both directions share e: what they give is added once, in the row of the
                    # earlier atom. (Rows are sorted by j, so that the branch is foreseen.) An
                    # atom's own images are met in both directions here.
                    if j < i:
                        continue
                    to_e = ahead * v_j
                    if j > i:
                        to_e += behind * v_i
                    row, t2 = at_table + knot, t * t
                    store(grad_table, row, 0, load(grad_table, row, 0, C) + to_e)
                    store(grad_table, row, C, load(grad_table, row, C, C) + to_e * t)
                    store(grad_table, row, C2, load(grad_table, row, C2, C) + to_e * t2)
                    store(grad_table, row, C3, load(grad_table, row, C3, C) + to_e * (t2 * t))
                store(grad_qkv, i, 0, sum_q)
                store(grad_qkv, i, C, sum_k)
                store(grad_qkv, i, C2, sum_v)

    return backward


class ParameterPass(NumbaPass):
    """A network on a batch whose `backward` gives the gradients of its weights."""

    keep: ClassVar[bool] = True

    def weight_gradients(self, gradient: Tensor) -> tuple[Tensor, ...]:
        """Gradients of `Weights.live` for a gradient of the features [n_atoms, channels].

        Raises:
            RuntimeError: a second call.
        """
        if self.spent:
            raise RuntimeError("expected one backward pass through fused kernels, got a second")
        self.spent = True
        n, C, weights = self.n, self.weights.channels, self.weights
        edges = (self.start, self.count, self.index, self.geometry, self.table)
        threads = torch.get_num_threads()
        n_parts = threads if n >= FEWEST else 1
        grad_table = self.buffers.get("grad_table", (n_parts * len(self.table), 4 * C), self.dtype)
        grad_table.fill(0.0)
        grad_x, grad_m = self._rows("x", C), self._rows("m", C)
        grad_V, grad_V_new = self._rows("grad_V0", 3 * C), self._rows("grad_V1", 3 * C)
        grad_qkv, grad_normed = self._rows("M", 3 * C), self._rows("grad_normed", C)
        np.copyto(grad_x, gradient.detach().numpy())
        found: list[tuple[Tensor, ...]] = []
        for k in reversed(range(len(weights.layers))):
            layer, w = weights.layers[k], weights.layers[k].arrays
            o, abc = self._kept(k)
            nodes = node_kernels(C, layer.parts)
            matrices, qkv = (w["out_T"], w["vec_T"]), self._rows(f"qkv{k}", 3 * C)
            share(nodes.backward, n, grad_x, grad_V, *matrices, o, abc, o, abc, grad_m, grad_V_new)
            kernel = edge_kernel(C, weights.heads, layer.parts != 2)
            given = (n_parts, qkv, grad_m, grad_V, *edges, grad_qkv, grad_table)
            share(kernel, n_parts, *given, fewest=2)
            found.append(self._matrices(k, o, abc, grad_qkv))
            if k > 0:
                kept = self._rows(f"normed{k}", C), self._rows(f"scale{k}")
                share(nodes.project_backward, n, grad_qkv, w["qkv_T"], *kept, grad_normed, grad_x)
                grad_V, grad_V_new = grad_V_new, grad_V
        table = torch.from_numpy(grad_table).view(n_parts, -1, 4, C).sum(0)
        first = self._per_species(grad_x), self._per_species(grad_qkv), table
        return (*first, *(gradient for layer in reversed(found) for gradient in layer))

    def _matrices(self, k: int, o: Array, abc: Array, grad_qkv: Array) -> tuple[Tensor, ...]:
        """Gradients of a layer's qkv, qkv_bias, out, out_bias and vec, where `o` and `abc` hold
        theirs; what enters the first layer is a matter of species."""
        C, parts = self.weights.channels, self.weights.layers[k].parts
        to_o, to_qkv = torch.from_numpy(o), torch.from_numpy(grad_qkv)
        to_out = torch.from_numpy(self._messages(k)).T @ to_o
        to_bias = to_o.sum(0, keepdim=True)
        if k == 0:
            layer = self.weights.layers[0]
            nothing = torch.zeros_like(layer.qkv), torch.zeros_like(layer.qkv_bias)
            return *nothing, to_out, to_bias, torch.zeros_like(layer.vec)
        normed = torch.from_numpy(self._rows(f"normed{k}", C))
        vectors = torch.from_numpy(self._vectors(k)).view(-1, C)
        to_vec = vectors.T @ torch.from_numpy(abc).view(-1, parts * C)
        return normed.T @ to_qkv, to_qkv.sum(0, keepdim=True), to_out, to_bias, to_vec

    def _per_species(self, per_atom: Array) -> Tensor:
        """Sum [n_species, columns] over the atoms of each species."""
        values = torch.from_numpy(per_atom)
        out = values.new_zeros(len(self.weights.embedding), values.shape[1])
        return out.index_add_(0, torch.from_numpy(self.species), values)
