"""The edge sum of E3Net with radial weights from a table, as an operation of torch.

Differentiable once: in features, factors and places between knots, or in features and table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from hff_ase.kernels.e3 import loops
from hff_ase.kernels.e3.convolution import Terms, pieces_of, rows_of
from hff_ase.kernels.e3.edges import Array, EdgeList
from hff_ase.kernels.threads import share


@dataclass(frozen=True)
class Places:
    """Positions of edges in the tables, and their division among threads.

    Attributes:
        edges: the edges.
        knot: int32 [n_edges], interval.
        between: [n_edges, 1], t from 0 to 1 in it; differentiable.
        bounds: int64 [n_pieces + 1], receivers of each piece.
    """

    edges: EdgeList
    knot: Array
    between: Tensor
    bounds: Array


def places_of(
    distance: Tensor, edges: EdgeList, n_intervals: int, cutoff: float, dtype: torch.dtype
) -> Places:
    """Places of edges of some distances, float64 [n_edges], in the network's precision."""
    scaled = distance * (n_intervals / cutoff)
    # no number must not lead out of the table; t stays no number
    knot = scaled.detach().nan_to_num(0.0).floor().clamp(0, n_intervals - 1)
    between = (scaled - knot)[:, None].to(dtype)
    return Places(edges, knot.int().numpy(), between, pieces_of(edges.start))


class _Call:
    """Arguments shared by all kernels of an edge sum."""

    def __init__(self, places: Places, terms: Terms, n_paths: int) -> None:
        self.places, self.n_pieces = places, len(places.bounds) - 1
        self.n_out, self.n_paths = (terms.l_out + 1) ** 2, n_paths
        arrays = (terms.row_in, terms.path, terms.row_out, terms.start)
        self.terms = [array.numpy() for array in arrays]

    def run(self, kernel: Any, n_in: int, inputs: list[Array], outputs: list[Array]) -> None:
        """Call a kernel for all pieces; ``inputs`` without the places between knots."""
        places, edges = self.places, self.places.edges
        where = (places.bounds, edges.start, edges.j, places.knot)
        sizes = (n_in, self.n_out, self.n_paths, places.between.detach().numpy())
        share(kernel, self.n_pieces, *where, *sizes, *inputs, *self.terms, *outputs, fewest=2)


def edge_sum(x: Tensor, table: Tensor, factors: Tensor, places: Places, terms: Terms) -> Tensor:
    """The edge sum [n_atoms, n_rows, channels]: `hff_ase.nets.e3_convolution.reference` with the
    weights of a table [n_intervals, n_paths, 4, channels]."""
    call = _Call(places, terms, table.shape[1])
    out: Tensor = _EdgeSum.apply(x, table, factors, places.between, call)
    return out


class _EdgeSum(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, table: Tensor, factors: Tensor, between: Tensor, call: _Call
    ) -> Tensor:
        """[n_atoms, n_rows, channels]."""
        ctx.save_for_backward(x, table, factors)
        ctx.call = call
        out = x.new_zeros(x.shape[0], call.n_out, x.shape[2])
        kernel = loops.make_tabulated(x.shape[2])
        call.run(kernel, x.shape[1], rows_of(x, table, factors), rows_of(out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients in x and table, or in x, factors and places."""
        x, table, factors = ctx.saved_tensors
        call: _Call = ctx.call
        d_x = x.new_zeros(call.n_pieces, *x.shape)
        given = rows_of(gradients[0], x, table, factors)
        if ctx.needs_input_grad[1]:
            d_table = table.new_zeros(call.n_pieces, *table.shape)
            kernel = loops.make_tabulated_parameters(x.shape[2])
            call.run(kernel, x.shape[1], given, rows_of(d_x, d_table))
            return d_x.sum(0), d_table.sum(0), None, None, None
        d_factors, d_between = torch.empty_like(factors), x.new_empty(len(factors), 1)
        kernel = loops.make_tabulated_places(x.shape[2])
        call.run(kernel, x.shape[1], given, rows_of(d_x, d_factors, d_between))
        return d_x.sum(0), None, d_factors, d_between, None
