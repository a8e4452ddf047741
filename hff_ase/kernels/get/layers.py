"""One evaluation of GET with the edge sums of a backend and torch's own dense operations.

The layers are written out by hand, forward and backward, because what autograd would keep and
launch for them costs more than they do. Shapes and the order of channels are those of
`hff_ase.kernels.get.weights`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.get.weights import LayerWeights, Weights
from hff_ase.pairs import Rows

EPSILON = 1e-5  # of torch.nn.LayerNorm


class _Kept(NamedTuple):
    """What the backward pass of a layer needs: its input, normalisation, q, k, v, and o and
    (A, B, C) where there are vectors."""

    x: Tensor
    mean: Tensor | None
    scale: Tensor | None
    qkv: tuple[Tensor, ...]
    o: Tensor
    abc: Tensor | None


class TritonPass:
    """A network on a batch: `forward` once, then `backward`.

    Args:
        kernels: the backend: a module with `prepare_edges`, `forward_messages`,
            `backward_messages` and `Accumulators` as in `hff_ase.kernels.get.gpu`.
    """

    def __init__(
        self, weights: Weights, species: Tensor, batch: AtomsBatch, rows: Rows, kernels: Any
    ) -> None:
        self.weights, self.batch, self.kernels = weights, batch, kernels
        self.species = species
        self.kept: list[_Kept] = []
        positions, cell = batch.positions.detach(), batch.cell.detach()
        self.edges = kernels.prepare_edges(
            positions, cell, batch.system, rows, weights.cutoff, weights.table
        )

    def forward(self) -> Tensor:
        """Scalar node features [n_atoms, channels]."""
        weights, kernels = self.weights, self.kernels
        x = weights.embedding.index_select(0, self.species)
        vectors: Tensor | None = None
        for k, layer in enumerate(weights.layers):
            qkv, mean, scale = self._project(x, layer, first=k == 0)
            m, big_m = kernels.forward_messages(
                *qkv,
                self.edges,
                weights.table,
                weights.heads,
                layer.parts != 2,
                row_of=self.species if k == 0 else None,
            )
            o = torch.addmm(layer.out_bias, m, layer.out)
            abc = None if vectors is None else vectors @ layer.vec
            self.kept.append(_Kept(x, mean, scale, qkv, o, abc))
            if vectors is None or abc is None:
                x, vectors = x + o, big_m
                continue
            blocks, outs = abc.chunk(layer.parts, -1), o.chunk(layer.parts, -1)
            x = torch.addcmul(x + outs[-1], (blocks[0] * blocks[1]).sum(1), outs[-2])
            if layer.parts == 3:
                vectors = torch.addcmul(vectors + big_m, blocks[2], outs[0][:, None])
        return x

    def _project(
        self, x: Tensor, layer: LayerWeights, first: bool
    ) -> tuple[tuple[Tensor, ...], Tensor | None, Tensor | None]:
        """Queries, keys and values, thirds of one tensor: a row per atom, or per species in the
        first layer, whose atoms know nothing of each other yet."""
        if first:
            return self.weights.first_qkv.chunk(3, 1), None, None
        normed, mean, scale = torch.native_layer_norm(
            x, (self.weights.channels,), None, None, EPSILON
        )
        return torch.addmm(layer.qkv_bias, normed, layer.qkv).chunk(3, 1), mean, scale

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of positions [n_atoms, 3] and cell [n_systems, 3, 3], float64, for a gradient
        of the features."""
        weights, batch = self.weights, self.batch
        sums = self.kernels.Accumulators.zeros(batch.n_atoms, batch.device, cell=batch.any_periodic)
        grad_x, grad_vectors = gradient.detach(), None
        for layer, kept in zip(reversed(weights.layers), reversed(self.kept), strict=True):
            grad_o, grad_abc = _update_backward(layer, kept, grad_x, grad_vectors)
            grads = self.kernels.backward_messages(
                *kept.qkv,
                grad_o @ layer.out.T,
                grad_vectors,
                self.edges,
                weights.table,
                weights.heads,
                sums,
                nodes=kept.scale is not None,
                row_of=self.species if kept.scale is None else None,
            )
            if grads is None or grad_abc is None:  # the first layer
                break
            through = grad_abc @ layer.vec.T
            grad_vectors = through if grad_vectors is None else grad_vectors + through
            grad_x = grad_x + self._project_backward(layer, kept, grads)
        d_cell = sums.d_cell(batch.system, batch.n_systems)
        return sums.positions, torch.zeros_like(batch.cell) if d_cell is None else d_cell

    def _project_backward(
        self, layer: LayerWeights, kept: _Kept, grads: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        C = self.weights.channels
        grad_normed = torch.cat(grads, -1) @ layer.qkv.T
        grad_x, _, _ = torch.ops.aten.native_layer_norm_backward(
            grad_normed, kept.x, (C,), kept.mean, kept.scale, None, None, [True, False, False]
        )
        return grad_x


def _update_backward(
    layer: LayerWeights, kept: _Kept, grad_x: Tensor, grad_vectors: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Gradients of o and (A, B, C) for those of a layer's new scalars and vectors."""
    if kept.abc is None:
        return grad_x, None
    blocks, outs = kept.abc.chunk(layer.parts, -1), kept.o.chunk(layer.parts, -1)
    a, b = blocks[0], blocks[1]
    to_dot = (grad_x * outs[-2])[:, None]
    to_o, to_abc = [grad_x * (a * b).sum(1), grad_x], [to_dot * b, to_dot * a]
    if grad_vectors is not None:
        to_o.insert(0, (grad_vectors * blocks[2]).sum(1))
        to_abc.append(grad_vectors * outs[0][:, None])
    return torch.cat(to_o, -1), torch.cat(to_abc, -1)
