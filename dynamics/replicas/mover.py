"""All replicas moved together by the torch engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.calculators.results import split_results
from hff_ase.dynamics.config import DEFAULT_PRESSURE, MDConfig
from hff_ase.dynamics.engine import Conditions, Loop, Noise, begin
from hff_ase.dynamics.engine.record import COLUMNS
from hff_ase.dynamics.guards import Limits
from hff_ase.dynamics.movers import Arrays, Sample
from hff_ase.dynamics.torch_mover import (
    BLOCK,
    VARIABLES,
    conditions_of,
    forces_of,
    integrator_of,
    sample_of,
    with_results,
)
from hff_ase.errors import HFFError
from hff_ase.units import BAR

HARMLESS, KINETIC = COLUMNS.index("harmless"), COLUMNS.index("kinetic")


@dataclass(frozen=True)
class Replica:
    """One of the systems.

    Attributes:
        index: its number in the run; its noise and its folder are named by it.
        atoms: with momenta that add up to zero.
        config: its settings, as of a run of its own.
    """

    index: int
    atoms: Atoms
    config: MDConfig


@dataclass(frozen=True)
class View:
    """One replica as it is; looked at only where something is asked."""

    mover: ReplicaMover
    place: int

    @property
    def atoms(self) -> Atoms:
        """The structure, positions not wrapped."""
        return self.mover.all_atoms()[self.place]

    @property
    def results(self) -> Mapping[str, Any]:
        """ASE's results for it."""
        return self.mover.all_results()[self.place]


class ReplicaMover:
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
        self.replicas = list(replicas)
        self._calc, self._config = calc, replicas[0].config
        self._on_gpu = calc.device.type == "cuda"
        self._block = block or (BLOCK if self._on_gpu else 1)
        structures = [replica.atoms for replica in replicas]
        self._batch = AtomsBatch.from_atoms(structures, calc.device)
        self._periodic = self._batch.periodic.tolist()
        self._forces = forces_of(self._config, calc)
        self._conditions = conditions_of_all(self.replicas, self._batch)
        if surroundings:
            kept = {k: torch.tensor(v, device=calc.device) for k, v in surroundings.items()}
            self._forces.set_state(self._batch, kept)
        momenta = np.concatenate([atoms.get_momenta() for atoms in structures])
        at_rest = begin(
            self._conditions,
            self._batch.positions,
            torch.as_tensor(momenta, device=calc.device),
            self._batch.cell,
        )
        self._start = with_results(at_rest, self._conditions, self._forces)
        self._loop: Loop | None = None
        self._atoms: list[Atoms] | None = None
        self._results: list[dict[str, Any]] | None = None
        self.begin(self._config.plan[0].ensemble, 0, {})

    @property
    def loop(self) -> Loop:
        """The loop of this stage."""
        if self._loop is None:
            raise RuntimeError("expected a stage that has begun, got none")
        return self._loop

    def begin(self, ensemble: str, step: int, state: Arrays) -> None:
        """A new integrator, or one with the variables of `get_state`."""
        self._forget()
        before = self._start if self._loop is None else self._loop.state
        integrator = integrator_of(ensemble, self._conditions, self._config)
        start = integrator.start(before)
        if state:
            device = before.positions.device
            kept = {name: torch.tensor(state[name], device=device) for name in VARIABLES}
            start = replace(start, **kept)
        noise = None
        if integrator.draws_noise:
            identity = torch.tensor([replica.index for replica in self.replicas])
            noise = Noise(self._config.seed, self._batch, identity)
        self._ensemble = ensemble
        limits = Limits.of(self._config)
        self._loop = Loop(
            integrator,
            self._forces,
            start,
            step,
            limits,
            noise,
            self._block,
            self._on_gpu,
            tensor=self._config.pressure_interval is not None,
        )

    def advance(self, n_steps: int) -> Tensor:
        """Take one to ``n_steps`` steps; only the last may be anything but harmless.

        Returns:
            What is known of each step, [count, n_replicas, n_columns] on the host; see `sample`.

        Raises:
            HFFError: a step leads nowhere for one of them; they are left before it.
        """
        self._forget()
        return self.loop.advance(n_steps)

    def _forget(self) -> None:
        self._atoms, self._results = None, None

    def here(self) -> Tensor:
        """What is known of the replicas as they are, [n_replicas, n_columns]."""
        return self.loop.here()

    def sample(self, rows: Tensor, place: int) -> Sample:
        """One row of `advance` or `here` [n_replicas, n_columns] for the replica at a place."""
        atoms, periodic = self.replicas[place].atoms, self._periodic[place]
        return sample_of(self.loop.columns, rows[place].tolist(), atoms, periodic)

    def temperatures(self, row: Tensor) -> Tensor:
        """K of every replica, from a row [n_replicas, n_columns]."""
        return 2.0 * row[:, KINETIC] / (units.kB * self._conditions.thermal.cpu())

    def all_atoms(self) -> list[Atoms]:
        """The structures as they are, positions not wrapped."""
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

    def look_at(self, place: int) -> View:
        """One of the replicas, to write down."""
        return View(self, place)

    def energy(self) -> float:
        """Potential energy of all together, eV."""
        return float(self.loop.state.energy.sum())

    def get_state(self) -> Arrays:
        """Thermostats and barostats."""
        tensors = self.loop.state.tensors()
        return {name: tensors[name].cpu().numpy().copy() for name in VARIABLES}

    def get_surroundings(self) -> Arrays:
        """Where neighbours were last searched."""
        state = self._forces.get_state()
        return {name: tensor.cpu().numpy().copy() for name, tensor in state.items()}

    def only(self, places: Sequence[int]) -> ReplicaMover:
        """A mover of some of the replicas, as they are, in the same stage."""
        atoms = self.all_atoms()
        chosen = [replace(self.replicas[place], atoms=atoms[place]) for place in places]
        mover = ReplicaMover(chosen, self._calc, block=self._block)
        state = {name: array[list(places)] for name, array in self.get_state().items()}
        mover.begin(self._ensemble, self.loop.step, state)
        return mover

    def blame(self, error: HFFError) -> dict[int, str]:
        """Which places cannot take the next step, each with what it says when it tries alone.

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


def conditions_of_all(replicas: Sequence[Replica], batch: AtomsBatch) -> Conditions:
    """What the replicas hold constant, each its own temperature and pressure."""
    masses = np.concatenate([replica.atoms.get_masses() for replica in replicas])
    joined = Atoms(numbers=batch.numbers.cpu().numpy(), masses=masses)
    bars = [replica.config.pressure for replica in replicas]
    pressure = [DEFAULT_PRESSURE if bar is None else bar for bar in bars]
    kelvin = [replica.config.temperature for replica in replicas]
    return replace(
        conditions_of(joined, batch, replicas[0].config),
        temperature=batch.cell.new_tensor(kelvin),
        pressure=batch.cell.new_tensor(pressure) * BAR,
    )
