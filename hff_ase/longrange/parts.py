"""Which systems of a batch are solved densely and which iteratively, and what each part prepares.

Each system is solved by the method that suits its own size, so that its result does not depend on
what else is in its batch. A part that is the whole batch (the usual case) costs no indexing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hff_ase.arrays import inverse
from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError
from hff_ase.longrange.ewald import ReciprocalEwald
from hff_ase.longrange.pme import ReciprocalPME
from hff_ase.longrange.sparse_inverse import SparseInverse
from hff_ase.pairs import Pairs, Rows

Solver = Literal["auto", "dense", "iterative"]
SOLVERS = ("auto", "dense", "iterative")
# Where the two take the same time for one box of a liquid (docs/decisions/qeq-solver.md).
CROSSOVER = 200


def check_solver(what: str, solver: str, tolerance: float, option: str, unit: str) -> None:
    """Refuse an unknown solver or a tolerance that cannot be met.

    Raises:
        ConfigError: names the value.
    """
    if solver not in SOLVERS:
        raise ConfigError(f"expected a {what} solver among {', '.join(SOLVERS)}, got {solver!r}")
    if not 1e-13 <= tolerance <= 1e-2:
        raise ConfigError(f"expected a {option} of 1e-13 to 1e-2 {unit}, got {tolerance}")


@dataclass
class Part:
    """Systems of a batch that are solved together.

    Attributes:
        dense: by which method.
        systems: int64 [n_part], atoms: int64 [n_part_atoms], rank: int64 [n_atoms], the index in
            the part of each atom of the batch; None where the part is the whole batch.
        start: the part when neighbours were last searched.
        reciprocal, plan: the smooth part of the lattice sum; plan None without boxes.
        inverse: made at the first solve, from `start`: it is the same after a restart.
        iterations: of the last solve.
    """

    dense: bool
    systems: Tensor | None
    atoms: Tensor | None
    rank: Tensor | None
    start: AtomsBatch
    reciprocal: ReciprocalPME | ReciprocalEwald
    plan: Any
    inverse: SparseInverse | None = None
    iterations: int = 0

    def batch(self, whole: AtomsBatch) -> AtomsBatch:
        """The systems of this part, at the positions of ``whole``."""
        if self.atoms is None:
            return whole
        mine = self.start.moved(whole.positions[self.atoms], whole.cell[self.systems])
        return mine.replace(charge=whole.charge[self.systems])

    def of_atoms(self, values: Tensor) -> Tensor:
        """The rows of this part's atoms."""
        return values if self.atoms is None else values[self.atoms]

    def merge(self, values: Tensor, mine: Tensor) -> Tensor:
        """``values`` [n_atoms] of the batch with those of this part's atoms put in."""
        return mine if self.atoms is None else values.index_copy(0, self.atoms, mine)

    def pairs(self, pairs: Pairs) -> Pairs:
        """The pairs of this part's atoms."""
        if self.rank is None:
            return pairs
        mine = torch.nonzero(self.rank[pairs.i] >= 0)[:, 0]
        i, j, vector, distance = (x[mine] for x in (pairs.i, pairs.j, pairs.vector, pairs.distance))
        return Pairs(self.rank[i], self.rank[j], vector, distance)

    def rows(self, rows: Rows) -> Rows:
        """The rows of this part's atoms."""
        if self.rank is None:
            return rows
        start, count = self.of_atoms(rows.start), self.of_atoms(rows.count)
        # Slots between rows may hold anything.
        partner = rows.j.long().clamp(0, len(self.rank) - 1)
        return Rows(start, count, self.rank[partner].to(torch.int32), rows.shift)


def make_parts(
    batch: AtomsBatch, dense: Tensor, exact: ReciprocalEwald, mesh: ReciprocalPME | ReciprocalEwald
) -> list[Part]:
    """The parts of a batch, given which systems, bool [n_systems], are solved densely.

    Args:
        exact, mesh: the smooth part of the lattice sum for dense and for iterative solutions.
    """
    parts = []
    for method, systems in ((True, dense), (False, ~dense)):
        if bool(systems.all()):
            parts.append(_part(method, batch, exact if method else mesh))
        elif bool(systems.any()):
            index = torch.nonzero(systems)[:, 0]
            atoms = batch.atoms_of(index)
            rank = inverse(atoms, batch.n_atoms)
            mine = batch.select(index)
            parts.append(_part(method, mine, exact if method else mesh, index, atoms, rank))
    return parts


def _part(
    dense: bool,
    batch: AtomsBatch,
    reciprocal: ReciprocalPME | ReciprocalEwald,
    systems: Tensor | None = None,
    atoms: Tensor | None = None,
    rank: Tensor | None = None,
) -> Part:
    plan = reciprocal.prepare(batch) if batch.any_periodic else None
    return Part(dense, systems, atoms, rank, batch, reciprocal, plan)


def choose_dense(batch: AtomsBatch, solver: str, training: bool, size: int) -> Tensor:
    """Which systems are solved densely, bool [n_systems]: all in training and where that is asked
    for, with "auto" those of up to ``size`` atoms."""
    if solver == "auto" and not training:
        return batch.counts <= size
    return torch.full_like(batch.periodic, training or solver == "dense")


def refuse_dense(batch: AtomsBatch, max_atoms: int, what: str, unknowns: int = 1) -> None:
    """Refuse systems too large for a dense matrix.

    Args:
        what: is solved for; unknowns: of an atom.

    Raises:
        StructureError: names the size and the memory.
    """
    if batch.max_count > max_atoms:
        size = (unknowns * batch.max_count) ** 2 * 8e-9
        raise StructureError(
            f"expected at most {max_atoms} atoms in a system with dense {what}, got "
            f"{batch.max_count} ({size:.1f} GB per copy of the matrix; the "
            "option max_atoms sets the limit, solver='iterative' needs no matrix)"
        )
