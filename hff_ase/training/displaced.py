"""Every system of a batch twice, displaced forth and back along a direction, and their pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.reduce import segment_max
from hff_ase.neighbors import NeighborList, PairRequest
from hff_ase.pairs import Rows, molecule_rows
from hff_ase.potential import HybridPotential

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
    both = AtomsBatch(
        positions=torch.cat([batch.positions + along, batch.positions - along]),
        numbers=batch.numbers.repeat(2),
        system=torch.cat([batch.system, batch.system + batch.n_systems]),
        cell=torch.cat([batch.cell + along_cell, batch.cell - along_cell]),
        periodic=batch.periodic.repeat(2),
        charge=batch.charge.repeat(2),
        molecule=None if batch.molecule is None else batch.molecule.repeat(2),
    )
    both.__dict__.update(
        counts=batch.counts.repeat(2),
        max_count=batch.max_count,
        any_periodic=batch.any_periodic,
        all_periodic=batch.all_periodic,
    )
    return both


class JoinedList(NeighborList):
    """The list of several batches put together as one, without a search.

    Two displaced copies of a batch have the pairs of the batch, and frames that are met in every
    epoch need their pairs searched once.

    Args:
        parts: the lists, all for the same potential and with the same skin, of batches that are
            joined in this order; each must have been updated with its own batch.
        potential: whose terms ask.
    """

    def __init__(self, parts: Sequence[NeighborList], potential: HybridPotential) -> None:
        planners = [term for _, term in potential.named_terms()]
        super().__init__(parts[0].requests, parts[0].skin, planners=planners)
        self.parts = tuple(parts)

    def rows(self, request: PairRequest) -> Rows:
        """The rows of all parts, one after the other."""
        if request not in self._rows:
            if request.kind == "molecule":
                self._rows[request] = molecule_rows(self._built())
            else:
                self._rows[request] = join_rows([part.rows(request) for part in self.parts])
        return self._rows[request]

    def _outdated(self, batch: AtomsBatch) -> bool:
        return self._reference is None  # who joined the lists answers for them


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
