"""The edges of E3Net within its cutoff, and their vectors with a backward pass by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.jit import jit
from hff_ase.kernels.threads import share
from hff_ase.pairs import Rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class EdgeList:
    """Edges of receivers in ascending order: those of atom i are start[i] ... start[i + 1] - 1.

    Attributes:
        start: int64 [n_atoms + 1].
        j: int32 [n_edges], sender.
        slot: int32 [n_edges], where the list of pairs has the image of j.
        vector: float64 [n_edges, 3], r_j - r_i.
    """

    start: Array
    j: Array
    slot: Array
    vector: Array


@jit
def _mark(  # type: ignore[no-untyped-def]
    first, last, positions, cell, system, start, count, partner, shift, beyond, marked, within
):  # fmt: skip
    """Mark the pairs within the cutoff, and count those of each atom."""
    for i in range(first, last):
        box, found = cell[system[i]], 0
        for slot in range(start[i], start[i] + count[i]):
            square = 0.0
            for k in range(3):
                d = positions[partner[slot], k] - positions[i, k]
                for a in range(3):
                    d += shift[slot, a] * box[a, k]
                square += d * d
            marked[slot] = not square >= beyond  # nan must stay nan
            found += marked[slot]
        within[i + 1] = found


@jit
def _fill(  # type: ignore[no-untyped-def]
    first, last, positions, cell, system, start, count, partner, shift, marked, to, j, slots, vector
):  # fmt: skip
    """Senders, slots and vectors of the marked pairs."""
    for i in range(first, last):
        box, place = cell[system[i]], to[i]
        for slot in range(start[i], start[i] + count[i]):
            if marked[slot]:
                j[place], slots[place] = partner[slot], slot
                for k in range(3):
                    d = positions[partner[slot], k] - positions[i, k]
                    for a in range(3):
                        d += shift[slot, a] * box[a, k]
                    vector[place, k] = d
                place += 1


@jit
def _collect(gradient, start, j, slots, shift, system, d_positions, d_cell):  # type: ignore[no-untyped-def]
    for i in range(len(start) - 1):
        box = d_cell[system[i]]
        for e in range(start[i], start[i + 1]):
            for k in range(3):
                g = gradient[e, k]
                d_positions[i, k] -= g
                d_positions[j[e], k] += g
                for a in range(3):
                    box[a, k] += shift[slots[e], a] * g


def edges_within(batch: AtomsBatch, rows: Rows, cutoff: float) -> EdgeList:
    """The pairs of a full list that are closer than a cutoff."""
    n = batch.n_atoms
    given = (
        batch.positions.detach().numpy(), batch.cell.detach().numpy(), batch.system.numpy(),
        rows.start.numpy(), rows.count.numpy(), rows.j.numpy(), rows.shift.numpy(),
    )  # fmt: skip
    start, marked = np.zeros(n + 1, np.int64), np.zeros(len(rows.j), np.uint8)
    share(_mark, n, *given, cutoff * cutoff, marked, start)
    np.cumsum(start, out=start)
    n_edges = int(start[-1])
    j, slot = np.empty(n_edges, np.int32), np.empty(n_edges, np.int32)
    vector = np.empty((n_edges, 3))
    share(_fill, n, *given, marked, start, j, slot, vector)
    return EdgeList(start, j, slot, vector)


class EdgeVectors(Function):
    """Vectors [n_edges, 3] of edges from positions and cell."""

    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, cell: Tensor, edges: EdgeList, batch: AtomsBatch, rows: Rows
    ) -> Tensor:
        """The vectors that were found with the edges."""
        ctx.edges, ctx.system, ctx.shift = edges, batch.system, rows.shift
        ctx.shapes = positions.shape, cell.shape
        return torch.from_numpy(edges.vector)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients in positions and cell."""
        d_positions, d_cell = (np.zeros(shape) for shape in ctx.shapes)
        edges: EdgeList = ctx.edges
        gradient = gradients[0].contiguous().numpy()
        where = (edges.start, edges.j, edges.slot, ctx.shift.numpy(), ctx.system.numpy())
        _collect(gradient, *where, d_positions, d_cell)
        return torch.from_numpy(d_positions), torch.from_numpy(d_cell), None, None, None
