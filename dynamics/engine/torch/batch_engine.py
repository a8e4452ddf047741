"""Many systems moved together by our own engine, on the device of the potential."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase import Atoms, units

from hff_ase.batch import AtomsBatch
from hff_ase.dynamics.config import DEFAULT_PRESSURE, MDConfig
from hff_ase.dynamics.engine.inner_potential import has_inner_steps, inner_potential
from hff_ase.dynamics.engine.interface import Arrays
from hff_ase.dynamics.engine.limits import Limits
from hff_ase.dynamics.engine.torch import (
    INTEGRATORS,
    SHEARED,
    Conditions,
    Integrator,
    Noise,
    Respa,
    SplitForces,
    State,
    StepLoop,
    begin,
    split_state,
)
from hff_ase.dynamics.engine.torch.state import with_evaluation
from hff_ase.evaluator import Evaluator
from hff_ase.terms.uniform_field import clocks_of
from hff_ase.units import BAR

BLOCK = 20  # steps between two looks at a GPU; on a CPU a look costs nothing
VARIABLES = ("kinetic", "heat", "p_volume", "chain", "p_chain")  # of thermostats and barostat


class BatchEngine:
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
        self._loop: StepLoop | None = None
        self.begin(self._config.plan[0].ensemble, 0, {})

    @property
    def loop(self) -> StepLoop:
        """The loop of steps of the present stage.

        Raises:
            RuntimeError: no stage has begun.
        """
        if self._loop is None:
            raise RuntimeError("expected a stage that has begun, got none")
        return self._loop

    def begin(self, ensemble: str, step: int, state: Arrays) -> None:
        """Start a stage: a new integrator, or one with the variables of `get_state`.

        Args:
            ensemble: name of the stage's ensemble, such as "npt".
            step: steps of the run so far.
            state: variables to continue with; empty for a new stage.
        """
        self._ensemble = ensemble
        before = self._start if self._loop is None else self._loop.state
        if step and (clocks := clocks_of(self._forces.potential)):
            for clock in clocks:
                clock.fill_(step * self._config.timestep * 1e-3)
            before = with_results(before, self._conditions, self._forces)
        integrator = integrator_of(ensemble, self._conditions, self._config)
        start = integrator.start(before)
        if state:
            device = before.positions.device
            kept = {name: torch.tensor(state[name], device=device) for name in VARIABLES}
            start = replace(start, **kept)
        noise = None
        if integrator.draws_noise:
            noise = Noise(self._config.seed, self._conditions.batch, self._identity)
        self._loop = StepLoop(
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
        """Variables of thermostats and barostats by name, each [n_systems, ...]."""
        tensors = self.loop.state.tensors()
        return {name: tensors[name].cpu().numpy().copy() for name in VARIABLES}

    def get_surroundings(self) -> Arrays:
        """Positions and cells of the last neighbour search: what a restart needs besides the
        state to give the same bits."""
        return self._forces.get_state()


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
    if config.shear:
        return SHEARED[ensemble](conditions)
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
    return split_state(state, conditions, forces.inner.evaluate(batch))


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
        shear=config.shear / (1000 * units.fs) ** 2,
    )
