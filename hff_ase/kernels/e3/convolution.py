"""The fused edge sum of E3Net as an operation of torch that can be differentiated twice."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from hff_ase.kernels.e3 import loops
from hff_ase.kernels.threads import FEWEST, share


class Terms(Protocol):
    """The products of an edge sum: see `hff_ase.nets.e3_convolution.Couplings`."""

    @property
    def l_out(self) -> int:
        """Highest degree of the result."""

    @property
    def row_in(self) -> Tensor:
        """int32 [n_terms]."""

    @property
    def path(self) -> Tensor:
        """int32 [n_groups]."""

    @property
    def row_out(self) -> Tensor:
        """int32 [n_groups]."""

    @property
    def start(self) -> Tensor:
        """int32 [n_groups + 1]."""


class Plan(NamedTuple):
    """Index arrays of one call: pieces of receivers, edges of a receiver, senders, terms."""

    bounds: np.ndarray
    row: np.ndarray
    j: np.ndarray
    n_in: int
    n_out: int
    n_paths: int
    row_in: np.ndarray
    path: np.ndarray
    row_out: np.ndarray
    start: np.ndarray

    @property
    def n_pieces(self) -> int:
        """Number of pieces that the receivers are divided into."""
        return len(self.bounds) - 1

    def run(self, kernel: Any, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        """Call a kernel of `loops` for all pieces."""
        terms = (self.row_in, self.path, self.row_out, self.start)
        edges = (self.bounds, self.row, self.j, self.n_in, self.n_out, self.n_paths)
        share(kernel, self.n_pieces, *edges, *inputs, *terms, *outputs, fewest=2)


def pieces_of(start: np.ndarray) -> np.ndarray:
    """Receivers [n_pieces + 1] of pieces of about as many edges, from the first edge of each."""
    n = len(start) - 1
    n_pieces = torch.get_num_threads() if n >= FEWEST else 1
    cuts = np.searchsorted(start, np.arange(1, n_pieces) * (start[-1] // n_pieces))
    return np.concatenate([[0], cuts, [n]])


def fused(
    x: Tensor, weights: Tensor, factors: Tensor, i: Tensor, j: Tensor, table: Terms
) -> Tensor:
    """The edge sum [n_atoms, n_rows, channels]: `hff_ase.nets.e3_convolution.reference`, fused.

    Differentiable twice in x, weights and factors; receivers ``i`` ascend.
    """
    n = x.shape[0]
    row = torch.searchsorted(i, torch.arange(n + 1))
    bounds = pieces_of(row.numpy())
    arrays = (table.row_in, table.path, table.row_out, table.start)
    plan = Plan(
        bounds, row.numpy(), j.contiguous().numpy(), x.shape[1], (table.l_out + 1) ** 2,
        weights.shape[1],
        *(array.numpy() for array in arrays),
    )  # fmt: skip
    out: Tensor = EdgeSum.apply(x, weights, factors, plan)
    return out


def rows_of(*tensors: Tensor) -> list[np.ndarray]:
    """Arrays [..., width] as [rows, width]."""
    return [tensor.detach().contiguous().flatten(0, -2).numpy() for tensor in tensors]


class EdgeSum(Function):
    """out from x, weights, factors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, factors: Tensor, plan: Plan) -> Tensor:
        """[n_atoms, n_rows, channels]."""
        ctx.save_for_backward(x, weights, factors)
        ctx.plan = plan
        out = x.new_zeros(x.shape[0], plan.n_out, x.shape[2])
        kernel = loops.make_forward(x.shape[2])
        plan.run(kernel, rows_of(x, weights, factors), rows_of(out))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients in x, weights and factors."""
        d = EdgeSumGradient.apply(*gradients, *ctx.saved_tensors, ctx.plan)
        return *d, None


class EdgeSumGradient(Function):
    """Gradients of sum(g out) in x, weights, factors."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weights: Tensor, factors: Tensor, plan: Plan
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Shapes as x, weights and factors."""
        ctx.save_for_backward(g, x, weights, factors)
        ctx.plan = plan
        d_x = x.new_zeros(plan.n_pieces, *x.shape)
        d_weights, d_factors = _like(weights), _like(factors)
        kernel = loops.make_backward(x.shape[2])
        plan.run(kernel, rows_of(g, x, weights, factors), rows_of(d_x, d_weights, d_factors))
        return d_x.sum(0), d_weights, d_factors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *h: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients in g, x, weights and factors."""
        g, x, weights, factors = ctx.saved_tensors
        plan: Plan = ctx.plan
        d_g, d_x = torch.zeros(g.shape, dtype=g.dtype), x.new_zeros(plan.n_pieces, *x.shape)
        d_weights, d_factors = _like(weights), _like(factors)
        kernel = loops.make_second(x.shape[2])
        plan.run(
            kernel, rows_of(g, x, weights, factors, *h), rows_of(d_g, d_x, d_weights, d_factors)
        )
        return d_g, d_x.sum(0), d_weights, d_factors, None


def _like(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype)
