"""Atoms moved by our own engine, on the device of the potential."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from ase import Atoms, units

from hff_ase.batch import AtomsBatch
from hff_ase.calculators.results import split_results
from hff_ase.dynamics.config import DEFAULT_PRESSURE, MDConfig
from hff_ase.dynamics.engine import (
    INTEGRATORS,
    Conditions,
    Loop,
    Noise,
    PotentialForces,
    begin,
    with_forces,
)
from hff_ase.dynamics.engine.record import COLUMNS
from hff_ase.dynamics.engine.state import State
from hff_ase.dynamics.guards import Limits
from hff_ase.dynamics.integrators import temperature
from hff_ase.dynamics.movers import Arrays, Sample
from hff_ase.errors import StructureError
from hff_ase.units import BAR

BLOCK = 20  # steps between two looks at a GPU; on a CPU a look costs nothing
VARIABLES = ("kinetic", "heat", "p_volume", "chain", "p_chain")  # of thermostats and barostat


class TorchMover:
    """See `Mover`; ``atoms`` are brought up to date when they are asked for.

    Args:
        atoms: with momenta that add up to zero.
        config: of the run.
        calc: a HybridFF, for its potential, device and skin.
        surroundings: as `get_surroundings` gave them; empty to search neighbours at the atoms.
        block: steps between two looks from the host; None to choose by the device.
    """

    def __init__(
        self,
        atoms: Atoms,
        config: MDConfig,
        calc: Any,
        surroundings: Arrays,
        block: int | None = None,
    ) -> None:
        self._atoms, self._config = atoms, config
        on_gpu = calc.device.type == "cuda"
        self._block = block or (BLOCK if on_gpu else 1)
        self._capture = on_gpu
        batch = AtomsBatch.from_atoms(atoms, calc.device)
        calc.potential.check_elements(batch)
        self._forces = PotentialForces(calc.potential, calc.skin)
        self._conditions = conditions_of(atoms, batch, config)
        if surroundings:
            kept = {k: torch.tensor(v, device=calc.device) for k, v in surroundings.items()}
            self._forces.set_state(batch, kept)
        momenta = torch.as_tensor(atoms.get_momenta(), device=calc.device)
        state = begin(self._conditions, batch.positions, momenta, batch.cell)
        result = self._forces.evaluate_checked(batch)
        if result.forces is None or result.stress is None:
            raise StructureError("expected forces and a stress, got an evaluation without")
        parts = result.energy, result.forces, result.stress
        self._start: State = with_forces(state, self._conditions, *parts)
        self._loop: Loop | None = None
        self._stale = False
        self.begin(config.plan[0].ensemble, 0, {})

    @property
    def loop(self) -> Loop:
        """The loop of this stage."""
        if self._loop is None:
            raise RuntimeError("expected a stage that has begun, got none")
        return self._loop

    @property
    def atoms(self) -> Atoms:
        """The structure as it is."""
        if self._stale:
            state = self.loop.state
            self._atoms.positions = state.positions.cpu().numpy()
            self._atoms.set_momenta(state.momenta.cpu().numpy())
            if self.loop.integrator.moves_cell:
                self._atoms.set_cell(state.cell[0].cpu().numpy(), scale_atoms=False)
            self._stale = False
        return self._atoms

    @property
    def results(self) -> Mapping[str, Any]:
        """ASE's results, as HybridFF gives them."""
        loop = self.loop
        return split_results(loop.evaluation(), self._conditions.moved(loop.state))[0]

    def begin(self, ensemble: str, step: int, state: Arrays) -> None:
        """A new integrator, or one with the variables of `get_state`."""
        _ = self.atoms if self._stale else None  # with the cell of the stage before
        before = self._start if self._loop is None else self._loop.state
        integrator = INTEGRATORS[ensemble](self._conditions)
        start = integrator.start(before)
        if state:
            device = before.positions.device
            kept = {name: torch.tensor(state[name], device=device) for name in VARIABLES}
            start = replace(start, **kept)
        noise = None
        if integrator.draws_noise:
            noise = Noise(self._config.seed, self._conditions.batch)
        self._loop = Loop(
            integrator,
            self._forces,
            start,
            step,
            Limits.of(self._config),
            noise,
            self._block,
            self._capture,
        )

    def advance(self, n_steps: int) -> list[Sample]:
        """A block of steps."""
        self._stale = True
        rows = self.loop.advance(n_steps)
        return [self._sample(row[0].tolist()) for row in rows]

    def sample(self) -> Sample:
        """What is known of the atoms as they are."""
        return self._sample(self.loop.here()[0].tolist())

    def _sample(self, values: list[float]) -> Sample:
        names, n_known = self.loop.columns, len(COLUMNS)
        known = dict(zip(names[:n_known], values, strict=False))
        periodic = self._conditions.batch.all_periodic
        return Sample(
            potential=known["potential"],
            kinetic=known["kinetic"],
            conserved=known["conserved"],
            temperature=temperature(known["kinetic"], self._atoms),
            pressure=known["pressure"],
            volume=known["volume"] if periodic else float("nan"),
            displacement=known["displacement"],
            farthest=int(known["farthest"]),
            harmless=bool(known["harmless"]),
            terms=dict(zip(names[n_known:], values[n_known:], strict=True)),
        )

    def get_state(self) -> Arrays:
        """Thermostat and barostat."""
        tensors = self.loop.state.tensors()
        return {name: tensors[name].cpu().numpy().copy() for name in VARIABLES}

    def get_surroundings(self) -> Arrays:
        """Where neighbours were last searched."""
        state = self._forces.get_state()
        return {name: tensor.cpu().numpy().copy() for name, tensor in state.items()}


def conditions_of(atoms: Atoms, batch: AtomsBatch, config: MDConfig) -> Conditions:
    """What a run holds constant, the same for every system of a batch."""
    pressure = DEFAULT_PRESSURE if config.pressure is None else config.pressure
    per_system = batch.cell.new_ones(batch.n_systems)
    return Conditions(
        batch=batch,
        masses=torch.as_tensor(atoms.get_masses(), device=batch.device)[:, None],
        temperature=config.temperature * per_system,
        pressure=pressure * BAR * per_system,
        timestep=config.timestep * units.fs,
        friction=config.friction / (1000 * units.fs),
        tdamp=config.tdamp * units.fs,
        pdamp=config.pdamp * units.fs,
    )
