"""Every system of a batch twice, displaced forwards and backwards along a direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.pair_source import PairSource
from hff_ase.pairs import PairRequest, Rows
from hff_ase.potential import HybridPotential
from hff_ase.reduce import segment_max

REACH = 5.0  # Angstrom: how far apart two atoms are for which a strain counts as a displacement


@dataclass(frozen=True)
class Direction:
    """A direction in positions and cells, with a step along it.

    Attributes:
        positions: dx/ds, [n_atoms, 3], Angstrom per unit of s.
        cell: dh/ds, [n_systems, 3, 3].
        step: [n_systems], in units of s; 0 for systems that stay where they are.
    """

    positions: Tensor
    cell: Tensor
    step: Tensor

    @classmethod
    def of(cls, batch: AtomsBatch, atoms: Tensor, strain: Tensor, length: float) -> Direction:
        """Displacements of the atoms on top of a strain, with a step of a given length.

        Args:
            atoms: float64 [n_atoms, 3]; strain: symmetric, float64 [n_systems, 3, 3].
            length: Angstrom, by which the atom that goes farthest is displaced, the relative
                displacement of two atoms at a distance of `REACH` by the strain included.
        """
        farthest = segment_max(atoms.square().sum(1), batch.system, batch.n_systems).sqrt()
        farthest = farthest + REACH * torch.linalg.matrix_norm(strain)
        moves = farthest > 0.0
        step = torch.where(moves, length / torch.where(moves, farthest, 1.0), 0.0)
        # The strain acts on positions and cell alike: fractional coordinates stay.
        affine = (batch.positions[:, None] @ strain[batch.system])[:, 0]
        return cls(atoms + affine, batch.cell @ strain, step)


def displaced(batch: AtomsBatch, direction: Direction) -> AtomsBatch:
    """All systems a step ahead, then all of them a step behind: 2 n_systems systems."""
    along = direction.step[batch.system][:, None] * direction.positions
    along_cell = direction.step[:, None, None] * direction.cell
    ahead = batch.moved(batch.positions + along, batch.cell + along_cell)
    behind = batch.moved(batch.positions - along, batch.cell - along_cell)
    return AtomsBatch.join([ahead, behind])


class JoinedList(PairSource):
    """The pairs of several batches put together as one, without a search.

    Two displaced copies of a batch have the pairs of the batch, and frames that are met in every
    epoch need their pairs searched once.

    Args:
        parts: the lists, all for the same potential and with the same skin, of batches that are
            joined in this order; each must have been updated with its own batch.
        potential: whose terms ask.
    """

    def __init__(self, parts: Sequence[PairSource], potential: HybridPotential) -> None:
        planners = [term for _, term in potential.named_terms()]
        super().__init__(parts[0].requests, parts[0].skin, planners=planners)
        self.parts = tuple(parts)

    def _find(self, request: PairRequest, batch: AtomsBatch) -> Rows:
        return join_rows([part.rows(request) for part in self.parts])


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Rows of several batches as those of one."""
    atoms = [0, *accumulate(rows.start.shape[0] for rows in parts)]
    slots = [0, *accumulate(rows.j.shape[0] for rows in parts)]
    return Rows(
        start=torch.cat([rows.start + n for rows, n in zip(parts, slots[:-1], strict=True)]),
        count=torch.cat([rows.count for rows in parts]),
        j=torch.cat([rows.j + n for rows, n in zip(parts, atoms[:-1], strict=True)]),
        shift=torch.cat([rows.shift for rows in parts]),
    )
