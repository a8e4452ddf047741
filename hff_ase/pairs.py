"""Pairs of atoms: in rows, as kernels want them, and flat, as tensor operations want them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch

__all__ = ["PairIndex", "PairRequest", "Pairs"]

PairKind = Literal["full", "half", "isolated"]


@dataclass(frozen=True)
class PairRequest:
    """The pairs that a term asks for.

    Attributes:
        cutoff: Angstrom.
        kind: ``full``: both directions of each pair, sorted by receiver ``i`` (message passing);
            ``half``: each pair once (pair terms); ``isolated``: each pair of a system without
            periodic boundaries once, at any distance (direct sums; periodic systems have none).
    """

    cutoff: float
    kind: PairKind


@dataclass(frozen=True, eq=False)
class Rows:
    """Pairs in rows: those of atom i are the slots start[i] ... start[i] + count[i].

    All int32: ``start`` and ``count`` [n_atoms], partner ``j`` [n_slots], image ``shift``
    [n_slots, 3]: j sits at x[j] + shift @ cell. Rows follow each other in the order of the atoms;
    slots between them mean nothing.
    """

    start: Tensor
    count: Tensor
    j: Tensor
    shift: Tensor

    def to(self, device: torch.device) -> Rows:
        """The same rows on another device."""
        return Rows(*(part.to(device) for part in (self.start, self.count, self.j, self.shift)))

    def slots(self) -> tuple[Tensor, Tensor]:
        """Row and slot of every pair, int64 [n_pairs], sorted by row."""
        device = self.start.device
        count = self.count.long()
        row = torch.repeat_interleave(torch.arange(count.shape[0], device=device), count)
        slot = torch.arange(row.shape[0], device=device)
        if row.shape[0] < self.j.shape[0]:  # rows with gaps
            gap = self.start - (torch.cumsum(count, 0) - count)
            slot = slot + gap.index_select(0, row)
        return row, slot


@dataclass(frozen=True, eq=False)
class PairIndex:
    """Pairs ``i``, ``j`` int64 [n_pairs]; j sits in the image ``shift`` float64 [n_pairs, 3]."""

    i: Tensor
    j: Tensor
    shift: Tensor

    def select(self, which: Tensor) -> PairIndex:
        """The pairs that a mask or an index picks out."""
        if which.dtype == torch.bool:
            which = torch.nonzero(which)[:, 0]
        parts = (part.index_select(0, which) for part in (self.i, self.j, self.shift))
        return PairIndex(*parts)

    def vectors(self, batch: AtomsBatch) -> Tensor:
        """r_j - r_i with the image shift, float64 [n_pairs, 3], differentiable."""
        positions = batch.positions
        vectors = positions.index_select(0, self.j) - positions.index_select(0, self.i)
        if not batch.any_periodic:
            return vectors
        if batch.n_systems == 1:
            return vectors + self.shift @ batch.cell[0]
        cell = batch.cell[batch.system[self.i]]
        return vectors + torch.einsum("pa,pab->pb", self.shift, cell)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of one evaluation, differentiable in positions and cell.

    Pairs beyond the cutoff may be among them (a padded list): a term must give exactly zero for
    those.

    Attributes:
        i, j: int64 [n_pairs], atoms of the batch.
        vector: float64 [n_pairs, 3], r_j - r_i, Angstrom.
        distance: float64 [n_pairs], Angstrom.
    """

    i: Tensor
    j: Tensor
    vector: Tensor
    distance: Tensor


def index_of(rows: Rows) -> PairIndex:
    """Rows as flat pairs, sorted by ``i``."""
    i, slot = rows.slots()
    if slot.shape[0] == rows.j.shape[0]:
        return PairIndex(i, rows.j.long(), rows.shift.double())
    return PairIndex(i, rows.j.index_select(0, slot).long(), rows.shift[slot].double())


def isolated_rows(batch: AtomsBatch) -> Rows:
    """Each pair of atoms of a non-periodic system once, without a search: rows without gaps."""
    device = batch.device
    index = torch.arange(batch.n_atoms, device=device)
    # atom i pairs with the atoms that follow it in its system
    count = (batch.first_atom + batch.counts).index_select(0, batch.system) - 1 - index
    count = count.masked_fill(batch.periodic.index_select(0, batch.system), 0)
    start = torch.cumsum(count, 0) - count
    i = torch.repeat_interleave(index, count)
    j = i + 1 + torch.arange(i.shape[0], device=device) - start.index_select(0, i)
    shift = torch.zeros((i.shape[0], 3), dtype=torch.int32, device=device)
    return Rows(start.int(), count.int(), j.int(), shift)
