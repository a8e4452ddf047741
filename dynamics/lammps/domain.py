"""What one process evaluates: its own atoms, the ghosts around them, and their pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.chain import refuse_whole_system_terms
from hff_ase.domain_pairs import DomainPairs, Points, points_of
from hff_ase.dynamics.lammps.exchange import Link, MPIHalo
from hff_ase.dynamics.lammps.long_range import LongRange
from hff_ase.dynamics.lammps.owners import owners_of
from hff_ase.errors import ConfigError
from hff_ase.evaluator import Evaluator
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential

SLACK = 1.01  # of a comparison of distances that two programs have measured


@dataclass(frozen=True)
class Frame:
    """What a process of a host knows at one step.

    Attributes:
        x: float64 [n_points, 3], Angstrom from the box's origin: own atoms, then copies of others
            and of its own across the faces of the box.
        tag: int64 [n_points], names; type: [n_points], rows of a table of elements.
        n_own: own atoms.
        cell: float64 [3, 3], rows, Angstrom.
    """

    x: np.ndarray
    tag: np.ndarray
    type: np.ndarray
    n_own: int
    cell: np.ndarray


class Domain:
    """The part of a box that one process has, and its energies and forces.

    Args:
        potential: of the whole box.
        numbers: atomic number of each type, int64 [n_types + 1].
        world: an mpi4py communicator; every method that says so is called by all its processes.
        skin: how much farther than the cutoffs copies are there, Angstrom.
        charge: of the whole box, e.
        long_range: what sums over the charges of all processes, for models with a Coulomb term.

    Attributes:
        halo: to the other processes, since the last `build`.
        n_builds: how often pairs were searched.
    """

    def __init__(
        self,
        potential: HybridPotential,
        numbers: Sequence[int],
        world: Any,
        skin: float,
        charge: float,
        long_range: LongRange | None = None,
    ) -> None:
        self.potential, self.world, self.skin, self.charge = potential, world, skin, charge
        self.numbers = np.asarray(numbers, np.int64)
        self.evaluator = Evaluator(potential)
        requests = [r for r in potential.requests() if r.kind != "isolated"]
        self.reach = potential.cutoff + skin
        full = [r.cutoff for r in requests if r.kind == "full"]
        self.near = min(full, default=potential.cutoff) + skin
        self.long_range = long_range
        self.points: Points | None = None
        self.n_builds = 0

    def refuse_indivisible(self) -> None:
        """Refuse terms that need the whole box in one process.

        Raises:
            ConfigError: names the first.
        """
        nothing = Link(self.world, [], [])
        halo = MPIHalo(self.world, 0, 0, 0, 0.0, (nothing, nothing), (0.0, 0), None)
        terms = dict(self.potential.named_terms())
        batch = AtomsBatch.from_atoms(Atoms("H", cell=[1.0, 1.0, 1.0], pbc=True))
        refuse_whole_system_terms(terms, self.evaluator.neighbors.bind(batch, halo=halo))

    def refuse_strayed(self, frame: Frame) -> None:
        """Refuse that atoms have moved farther since pairs were searched than copies allow: the
        host then exchanges atoms less often than it was told to.

        Raises:
            ConfigError: they have.
        """
        farthest = self.moved(frame)[1]
        if 2.0 * farthest > SLACK * self.skin:
            raise ConfigError(
                f"expected an exchange of atoms before one has moved {0.5 * self.skin:g} Angstrom, "
                f"got {farthest:.3g}: leave neighbor and neigh_modify as the force field set them"
            )

    def outdated(self, frame: Frame) -> bool:
        """Whether atoms came or went, or a pair within a cutoff may be missing."""
        if self.points is None or not np.array_equal(frame.tag, self._tag):
            return True
        strain, farthest = self.moved(frame)
        cutoff = self.potential.cutoff
        return self.reach * (1.0 - strain) - 2.0 * farthest < cutoff or strain > 0.5 * self.skin

    def moved(self, frame: Frame) -> tuple[float, float]:
        """The strain of the box since pairs were searched, and how far an atom has moved at most
        beside it, Angstrom."""
        deformation = self._inverse @ frame.cell  # rows: x_new = x_old F
        moved = self._positions(frame) - self._reference @ deformation
        farthest = float(np.sqrt((moved**2).sum(1).max(initial=0.0)))
        return float(np.linalg.norm(deformation - np.eye(3))), farthest

    def build(self, frame: Frame) -> None:
        """Find pairs and owners again; called by all processes."""
        self._tag, self._inverse = frame.tag.copy(), np.linalg.inv(frame.cell)
        self.points = points_of(frame.x, frame.n_own, frame.tag, frame.cell, self.reach, self.near)
        self._reference = self._positions(frame)
        # a process without atoms has one ghost of no owner: nothing has to know of empty batches
        types = frame.type[self.points.base] if frame.n_own else np.array([-1])
        batch = self._batch = self._new_batch(frame, self.numbers[types])
        terms = [term for _, term in self.potential.named_terms()]
        self.pairs = DomainPairs(self.potential.requests(), self.points, self.skin, terms)
        self.pairs.build(batch)
        self.halo = self._links(frame)
        if self.long_range is not None:
            self.long_range.renew(frame.tag[: frame.n_own])
        self._owned = torch.arange(batch.n_atoms, device=batch.device) < frame.n_own
        self.n_builds += 1

    def evaluate(self, frame: Frame) -> Evaluation:
        """Energy, stress, charges of own atoms, forces on them and on ghosts; called by all."""
        batch = self._batch.moved(*self._geometry(frame))
        return self.evaluator.evaluate(batch, pairs=self.pairs, owned=self._owned, halo=self.halo)

    def _positions(self, frame: Frame) -> np.ndarray:
        """Of own atoms and ghosts; of a process without atoms, one that is nowhere."""
        assert self.points is not None
        return frame.x[self.points.base] if frame.n_own else np.zeros((1, 3))

    def _geometry(self, frame: Frame) -> tuple[Tensor, Tensor]:
        device = self.potential.known.device
        x, cell = torch.from_numpy(self._positions(frame)), torch.from_numpy(frame.cell.copy())
        return x.to(device), cell[None].to(device)

    def _new_batch(self, frame: Frame, numbers: np.ndarray) -> AtomsBatch:
        x, cell = self._geometry(frame)
        batch = AtomsBatch.of(
            {
                "positions": x.cpu(),
                "numbers": torch.from_numpy(numbers),
                "system": torch.zeros(len(x), dtype=torch.int64),
                "cell": cell.cpu(),
                "periodic": torch.ones(1, dtype=torch.bool),
                "charge": torch.full((1,), self.charge, dtype=torch.float64),
            }
        )
        return batch.to(self.potential.known.device)

    def _links(self, frame: Frame) -> MPIHalo:
        points = self.points
        assert points is not None
        n_own, n_atoms = frame.n_own, max(len(points.base), 1)
        n_near = points.n_near if frame.n_own else 1
        links = []
        for last in (n_near, len(points.base)) if self.world.size > 1 else ():
            theirs, mine = owners_of(self.world, points.tag[:n_own], points.tag[n_own:last])
            links.append(Link(self.world, theirs, [part + n_own for part in mine]))
        empty = Link(self.world, [], [])
        near, everything = links or (empty, empty)
        n_total, n_with = (int(self.world.allreduce(n)) for n in (n_own, n_own > 0))
        counts = n_own, n_atoms, n_total, (1.0 / n_with if n_own else 0.0)
        halo = (everything, near), (self.near - self.skin, n_near), self.long_range
        return MPIHalo(self.world, *counts, *halo)
