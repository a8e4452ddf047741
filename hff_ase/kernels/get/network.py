"""GET as one operation: positions and cell to node features, with a backward pass by hand.

The whole network is one node of autograd's graph, differentiable once in positions and cell;
parameters are constants. On the CPU everything runs in numba kernels (`hff_ase.kernels.get.cpu`),
on a GPU the edge sums are Triton kernels between torch's own dense operations
(`hff_ase.kernels.get.layers`). Both read radial features from a table (`hff_ase.kernels.get.table`)
and both gather the gradients of an atom from its own row of a full list: since that row holds the
edges of both directions, nothing is scattered and sums have a fixed order.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hff_ase.batch import AtomsBatch
from hff_ase.kernels import Backend
from hff_ase.kernels.get.weights import fused_weights
from hff_ase.neighbors import Rows
from hff_ase.nets.get import GET


class Evaluation(Protocol):
    """One evaluation of the network: a forward pass, then at most one backward pass."""

    def forward(self) -> Tensor:
        """Node features [n_atoms, channels]."""

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """d/dpositions [n_atoms, 3] and d/dcell [n_systems, 3, 3], float64, for a gradient of the
        features."""


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, cell: Tensor, evaluation: Evaluation) -> Tensor:
        ctx.evaluation = evaluation
        return evaluation.forward()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        return *ctx.evaluation.backward(grads[0]), None


def fused_get(net: GET, species: Tensor, batch: AtomsBatch, rows: Rows, backend: Backend) -> Tensor:
    """GET as a `hff_ase.kernels.networks.FusedNetwork`."""
    weights = fused_weights(net)
    evaluation: Evaluation
    if backend == "numba":
        from hff_ase.kernels.get.cpu import Evaluation as NumbaEvaluation

        evaluation = NumbaEvaluation(weights, species, batch, rows)
    else:
        from hff_ase.kernels.get import gpu
        from hff_ase.kernels.get.layers import Evaluation as LayerEvaluation

        evaluation = LayerEvaluation(weights, species, batch, rows, gpu)
    if torch.is_grad_enabled() and (batch.positions.requires_grad or batch.cell.requires_grad):
        return _Fused.apply(batch.positions, batch.cell, evaluation)
    return evaluation.forward()
