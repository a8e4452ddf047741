"""GET as one operation: positions and cell to node features, with a backward pass by hand.

The whole network is one node of autograd's graph, differentiable once: in positions and cell with
parameters as constants or, in training on the CPU, in parameters with positions as constants.

On the CPU everything runs in numba kernels (`hff_ase.kernels.get.cpu`),
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

from hff_ase.backends import Backend
from hff_ase.batch import AtomsBatch
from hff_ase.halo import Halo
from hff_ase.kept import LiveParameters
from hff_ase.kernels.cubics import training_intervals
from hff_ase.kernels.get.weights import Weights, fused_weights, live_weights
from hff_ase.nets.get import GET
from hff_ase.pairs import Rows


class NetworkPass(Protocol):
    """The network on one batch: a forward pass, then at most one backward pass."""

    def forward(self) -> Tensor:
        """Node features [n_atoms, channels]."""

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """d/dpositions [n_atoms, 3] and d/dcell [n_systems, 3, 3], float64, for a gradient of the
        features."""


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, cell: Tensor, evaluation: NetworkPass) -> Tensor:
        ctx.evaluation = evaluation
        return evaluation.forward()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        return *ctx.evaluation.backward(grads[0]), None


class _FusedParameters(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, evaluation: Any, *live: Tensor) -> Tensor:
        ctx.evaluation = evaluation
        features: Tensor = evaluation.forward()
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        return None, *ctx.evaluation.weight_gradients(grads[0])


def fused_get(
    net: GET,
    species: Tensor,
    batch: AtomsBatch,
    rows: Rows,
    backend: Backend,
    parameters: LiveParameters | None = None,
    halo: Halo | None = None,
) -> Tensor:
    """GET as a `hff_ase.kernels.networks.FusedNetwork`."""
    if parameters is not None:
        return _with_parameters(net, species, batch, rows, backend, parameters)
    weights = fused_weights(net)
    evaluation: NetworkPass
    if backend == "numba":
        from hff_ase.kernels.get.cpu import NumbaPass

        halo = None if halo is None else halo.within(net.cutoff)
        evaluation = NumbaPass(weights, species, batch, rows, halo)
    else:
        from hff_ase.kernels.get import gpu
        from hff_ase.kernels.get.layers import TritonPass

        evaluation = TritonPass(weights, species, batch, rows, gpu)
    if torch.is_grad_enabled() and (batch.positions.requires_grad or batch.cell.requires_grad):
        return _Fused.apply(batch.positions, batch.cell, evaluation)
    return evaluation.forward()


def _with_parameters(
    net: GET,
    species: Tensor,
    batch: AtomsBatch,
    rows: Rows,
    backend: Backend,
    parameters: LiveParameters,
) -> Tensor:
    """With this step's weights, differentiable in positions and cell where these want a gradient
    and in parameters otherwise."""
    if backend != "numba":
        raise RuntimeError(f"expected numba for gradients of parameters, got {backend}")
    from hff_ase.kernels.get.cpu import NumbaPass
    from hff_ase.kernels.get.cpu_parameters import ParameterPass

    def make() -> Weights:
        return live_weights(net, training_intervals(net.radial.weight.dtype))

    weights: Weights = parameters.of(net, make)
    if not torch.is_grad_enabled():
        return NumbaPass(weights, species, batch, rows).forward()
    if batch.positions.requires_grad or batch.cell.requires_grad:
        evaluation = NumbaPass(weights, species, batch, rows)
        return _Fused.apply(batch.positions, batch.cell, evaluation)
    if not any(tensor.requires_grad for tensor in weights.live):
        return NumbaPass(weights, species, batch, rows).forward()
    return _FusedParameters.apply(ParameterPass(weights, species, batch, rows), *weights.live)
