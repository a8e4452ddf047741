"""Systems moved by our own engine, on the device of the potential: a batch of them, or one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase import Atoms, units

from hff_ase.batch import AtomsBatch
from hff_ase.calculators.results import split_results
from hff_ase.dynamics.config import DEFAULT_PRESSURE, MDConfig
from hff_ase.dynamics.engine import (
    INTEGRATORS,
    Conditions,
    Integrator,
    Loop,
    Noise,
    Respa,
    SplitForces,
    State,
    begin,
    split,
)
from hff_ase.dynamics.engine.record import COLUMNS, TENSOR
from hff_ase.dynamics.engine.state import with_evaluation
from hff_ase.dynamics.guards import Limits
from hff_ase.dynamics.inner import has_inner_steps, inner_potential
from hff_ase.dynamics.integrators import temperature
from hff_ase.dynamics.movers import Arrays, Sample
from hff_ase.evaluator import Evaluator
from hff_ase.units import BAR

BLOCK = 20  # steps between two looks at a GPU; on a CPU a look costs nothing
VARIABLES = ("kinetic", "heat", "p_volume", "chain", "p_chain")  # of thermostats and barostat


class BatchMover:
    """Systems in one batch, one stage after another.

    Args:
        structures: with momenta that add up to zero in each.
        configs: the settings of each; they differ in temperature and pressure at most.
        calc: a HybridFF, for its potential, device and skin.
        surroundings: as `get_surroundings` gave them; empty to search neighbours at the atoms.
        block: steps between two looks from the host; None to choose by the device.
        identity: by which the noise of each is named; None counts them from 0.
    """

    def __init__(
        self,
        structures: Sequence[Atoms],
        configs: Sequence[MDConfig],
        calc: Any,
        surroundings: Arrays,
        block: int | None = None,
        identity: Sequence[int] | None = None,
    ) -> None:
        self._config = configs[0]
        self._identity = None if identity is None else torch.tensor(identity)
        device = calc.device
        # a step that is taken back must leave no solution behind to start the next one from
        remembers = any(term.remembers for _, term in calc.potential.named_terms())
        self._capture = device.type == "cuda" and not remembers
        self._block = 1 if remembers else block or (BLOCK if self._capture else 1)
        batch = AtomsBatch.from_atoms(structures, device)
        masses = np.concatenate([atoms.get_masses() for atoms in structures])
        self._forces = forces_of(self._config, calc)
        self._conditions = conditions_of(batch, masses, configs)
        if surroundings:
            self._forces.set_state(surroundings)
        momenta = np.concatenate([atoms.get_momenta() for atoms in structures])
        at_rest = torch.as_tensor(momenta, device=device)
        state = begin(self._conditions, batch.positions, at_rest, batch.cell)
        self._start: State = with_results(state, self._conditions, self._forces)
        self._loop: Loop | None = None
        self.begin(self._config.plan[0].ensemble, 0, {})

    @property
    def loop(self) -> Loop:
        """The loop of this stage."""
        if self._loop is None:
            raise RuntimeError("expected a stage that has begun, got none")
        return self._loop

    def begin(self, ensemble: str, step: int, state: Arrays) -> None:
        """A new integrator, or one with the variables of `get_state`."""
        self._ensemble = ensemble
        before = self._start if self._loop is None else self._loop.state
        integrator = integrator_of(ensemble, self._conditions, self._config)
        start = integrator.start(before)
        if state:
            device = before.positions.device
            kept = {name: torch.tensor(state[name], device=device) for name in VARIABLES}
            start = replace(start, **kept)
        noise = None
        if integrator.draws_noise:
            noise = Noise(self._config.seed, self._conditions.batch, self._identity)
        self._loop = Loop(
            integrator,
            self._forces,
            start,
            step,
            Limits.of(self._config),
            noise,
            self._block,
            self._capture,
            tensor=self._config.pressure_interval is not None,
        )

    def get_state(self) -> Arrays:
        """Thermostats and barostats."""
        tensors = self.loop.state.tensors()
        return {name: tensors[name].cpu().numpy().copy() for name in VARIABLES}

    def get_surroundings(self) -> Arrays:
        """Where neighbours were last searched."""
        return self._forces.get_state()


class TorchMover(BatchMover):
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
        self._atoms, self._stale = atoms, False
        super().__init__([atoms], [config], calc, surroundings, block)

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
        super().begin(ensemble, step, state)

    def advance(self, n_steps: int) -> list[Sample]:
        """A block of steps."""
        self._stale = True
        rows = self.loop.advance(n_steps)
        return [self._sample(row[0].tolist()) for row in rows]

    def sample(self) -> Sample:
        """What is known of the atoms as they are."""
        return self._sample(self.loop.here()[0].tolist())

    def _sample(self, values: list[float]) -> Sample:
        periodic = self._conditions.batch.all_periodic
        return sample_of(self.loop.columns, values, self._atoms, periodic)


def sample_of(
    columns: Sequence[str], values: Sequence[float], atoms: Atoms, periodic: bool
) -> Sample:
    """What is known of one system's step.

    Args:
        columns: names of what the loop gives.
        values: of one system.
        atoms: for the number of atoms.
        periodic: whether the volume means anything.
    """
    n_known = len(COLUMNS) + (len(TENSOR) if TENSOR[0] in columns else 0)
    known = dict(zip(columns[:n_known], values, strict=False))
    return Sample(
        potential=known["potential"],
        kinetic=known["kinetic"],
        conserved=known["conserved"],
        temperature=temperature(known["kinetic"], atoms),
        pressure=known["pressure"],
        tensor=tuple(known[name] for name in TENSOR if name in known),
        volume=known["volume"] if periodic else float("nan"),
        displacement=known["displacement"],
        farthest=int(known["farthest"]),
        harmless=bool(known["harmless"]),
        terms=dict(zip(columns[n_known:], values[n_known:], strict=True)),
    )


def forces_of(config: MDConfig, calc: Any) -> Evaluator:
    """The potential of a HybridFF, split where the settings ask for inner steps.

    Raises:
        ConfigError: the inner potential cannot be made from the settings.
    """
    if not has_inner_steps(config):
        return Evaluator(calc.potential, calc.skin)
    return SplitForces(calc.potential, inner_potential(config, calc), calc.skin)


def integrator_of(ensemble: str, conditions: Conditions, config: MDConfig) -> Integrator:
    """The ensemble at the time step of ``conditions``, with inner steps where there are some."""
    if not has_inner_steps(config):
        return INTEGRATORS[ensemble](conditions)
    return Respa(INTEGRATORS[ensemble], conditions, config.inner_steps)


def with_results(state: State, conditions: Conditions, forces: Evaluator) -> State:
    """A state with what its potential gives there, checked; split where the potential is.

    Raises:
        StructureError: an element that one of the potentials does not know, or no result.
    """
    batch = conditions.moved(state)
    state = with_evaluation(state, conditions, forces.evaluate(batch))
    if not isinstance(forces, SplitForces):
        return state
    return split(state, conditions, forces.inner.evaluate(batch))


def conditions_of(batch: AtomsBatch, masses: np.ndarray, configs: Sequence[MDConfig]) -> Conditions:
    """What runs hold constant, each system its own temperature and pressure.

    Args:
        batch: the systems.
        masses: of all atoms, amu.
        configs: of each system; what is not of one system is that of the first.
    """
    config = configs[0]
    bars = [DEFAULT_PRESSURE if own.pressure is None else own.pressure for own in configs]
    return Conditions(
        batch=batch,
        masses=torch.as_tensor(masses, device=batch.device)[:, None],
        temperature=batch.cell.new_tensor([own.temperature for own in configs]),
        pressure=batch.cell.new_tensor(bars) * BAR,
        timestep=config.timestep * units.fs,
        friction=config.friction / (1000 * units.fs),
        tdamp=config.tdamp * units.fs,
        pdamp=config.pdamp * units.fs,
    )
