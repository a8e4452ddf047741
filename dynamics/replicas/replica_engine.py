"""All replicas moved together by the torch engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms, units
from torch import Tensor

from hff_ase.calculators.results import split_results
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.engine.interface import Arrays, Sample
from hff_ase.dynamics.engine.torch.batch_engine import BatchEngine
from hff_ase.dynamics.engine.torch.record import COLUMNS
from hff_ase.dynamics.engine.torch.torch_engine import sample_of
from hff_ase.errors import HFFError

HARMLESS, KINETIC = COLUMNS.index("harmless"), COLUMNS.index("kinetic")


@dataclass(frozen=True)
class Replica:
    """One of the systems.

    Attributes:
        index: its number in the run; its noise and its folder are named by it.
        atoms: with momenta that add up to zero.
        config: its settings, as of a single run.
    """

    index: int
    atoms: Atoms
    config: MDConfig


@dataclass(frozen=True)
class ReplicaView:
    """One replica in its present state; read from the engine only when asked."""

    engine: ReplicaEngine
    place: int

    @property
    def atoms(self) -> Atoms:
        """The structure, positions not wrapped."""
        return self.engine.all_atoms()[self.place]

    @property
    def results(self) -> Mapping[str, Any]:
        """ASE's results for it."""
        return self.engine.all_results()[self.place]


class ReplicaEngine(BatchEngine):
    """Replicas of the same stages in one batch.

    A replica's noise depends on the seed and on its own number, and its forces on its own atoms: it
    moves as it would in any other batch, up to the rounding of sums.

    Args:
        replicas: in ascending order of their numbers.
        calc: a HybridFF, for its potential, device and skin.
        surroundings: as `get_surroundings` gave them; empty to search neighbours at the atoms.
        block: steps between two looks from the host; None to choose by the device.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        calc: Any,
        surroundings: Arrays | None = None,
        block: int | None = None,
    ) -> None:
        self.replicas, self._calc = list(replicas), calc
        self._forget()
        super().__init__(
            [replica.atoms for replica in replicas],
            [replica.config for replica in replicas],
            calc,
            surroundings or {},
            block,
            identity=[replica.index for replica in replicas],
        )
        self._periodic = self._conditions.batch.periodic.tolist()

    def begin(self, ensemble: str, step: int, state: Arrays) -> None:
        """Make a new integrator, or one with the variables of `get_state`."""
        self._forget()
        super().begin(ensemble, step, state)

    def advance(self, n_steps: int) -> Tensor:
        """Take one to ``n_steps`` steps; only the last may be anything but harmless.

        Returns:
            What is known of each step, [count, n_replicas, n_columns] on the host; see `sample`.

        Raises:
            HFFError: a step fails for one of them; all are left before it.
        """
        self._forget()
        return self.loop.advance(n_steps)

    def _forget(self) -> None:
        self._atoms: list[Atoms] | None = None
        self._results: list[dict[str, Any]] | None = None

    def here(self) -> Tensor:
        """The columns of all replicas in their present state, [n_replicas, n_columns]."""
        return self.loop.here()

    def sample(self, rows: Tensor, place: int) -> Sample:
        """One row of `advance` or `here` [n_replicas, n_columns] for the replica at a place."""
        atoms, periodic = self.replicas[place].atoms, self._periodic[place]
        return sample_of(self.loop.columns, rows[place].tolist(), atoms, periodic)

    def temperatures(self, row: Tensor) -> Tensor:
        """K of every replica, from a row [n_replicas, n_columns]."""
        return 2.0 * row[:, KINETIC] / (units.kB * self._conditions.thermal.cpu())

    def all_atoms(self) -> list[Atoms]:
        """The structures in their present state, positions not wrapped."""
        if self._atoms is None:
            self._atoms = self._copy_atoms()
        return self._atoms

    def _copy_atoms(self) -> list[Atoms]:
        state = self.loop.state
        ends = np.cumsum([len(replica.atoms) for replica in self.replicas])[:-1]
        positions = np.split(state.positions.cpu().numpy(), ends)
        momenta = np.split(state.momenta.cpu().numpy(), ends)
        cells = state.cell.cpu().numpy()
        found = []
        for place, replica in enumerate(self.replicas):
            atoms = replica.atoms.copy()
            atoms.positions = positions[place]
            atoms.set_momenta(momenta[place])
            if self._periodic[place]:
                atoms.set_cell(cells[place], scale_atoms=False)
            found.append(atoms)
        return found

    def all_results(self) -> list[dict[str, Any]]:
        """ASE's results of every replica, as HybridFF gives them."""
        if self._results is None:
            loop = self.loop
            moved = self._conditions.moved(loop.state)
            self._results = split_results(loop.evaluation(), moved)
        return self._results

    def look_at(self, place: int) -> ReplicaView:
        """One of the replicas, for a reporter."""
        return ReplicaView(self, place)

    def energy(self) -> float:
        """Total potential energy of all replicas, eV."""
        return float(self.loop.state.energy.sum())

    def only(self, places: Sequence[int]) -> ReplicaEngine:
        """An engine of some of the replicas in their present state and stage."""
        atoms = self.all_atoms()
        chosen = [replace(self.replicas[place], atoms=atoms[place]) for place in places]
        engine = ReplicaEngine(chosen, self._calc, block=self._block)
        state = {name: array[list(places)] for name, array in self.get_state().items()}
        engine.begin(self._ensemble, self.loop.step, state)
        return engine

    def blame(self, error: HFFError) -> dict[int, str]:
        """The replicas that cannot take the next step, each with its own error when stepped alone.

        Raises:
            HFFError: ``error``, where each of them can (too little memory for all together).
        """
        guilty: dict[int, str] = {}
        for place in range(len(self.replicas)):
            try:
                self.only([place]).advance(1)
            except HFFError as reason:
                guilty[place] = str(reason)
        if not guilty:
            raise error
        return guilty
