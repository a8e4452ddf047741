"""Measuring whole molecular dynamics of the batched engine, neighbour searches included."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms, units
from ase.optimize import FIRE

from hff_ase.batch import AtomsBatch
from hff_ase.bench.boxes import copies
from hff_ase.bench.results import BlockTimes, LoopTimes
from hff_ase.bench.timing import seconds
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.engine.limits import Limits
from hff_ase.dynamics.engine.momenta import random_momenta
from hff_ase.dynamics.engine.torch import (
    INTEGRATORS,
    Conditions,
    Noise,
    StepLoop,
    begin,
    with_forces,
)
from hff_ase.dynamics.engine.torch.state import State
from hff_ase.errors import ConfigError, StructureError
from hff_ase.evaluator import Evaluator
from hff_ase.units import BAR

TEMPERATURE = 300.0  # K
FRICTION = 0.02 / units.fs  # a liquid fresh from packing is at its temperature within 100 fs
RELAX, WARM_UP = 20, 60  # steps before anything is timed
BLOCK = 20  # steps between two looks at a GPU, as in `hff md`
LIMITS = Limits(displacement=0.5, temperature=5000.0)  # those of `hff md`


def relaxed(calculator: HybridFF, atoms: Atoms) -> Atoms:
    """A copy with the worst packing contacts removed."""
    atoms = atoms.copy()
    atoms.calc = calculator
    FIRE(atoms, logfile=None).run(fmax=0.1, steps=RELAX)
    atoms.calc = None
    return atoms


def time_dynamics(
    calculator: HybridFF,
    atoms: Atoms,
    n_systems: int,
    ensembles: Sequence[str],
    timestep: float,
    steps: int,
    repeats: int,
) -> dict[str, LoopTimes]:
    """Steps of the batched engine in each ensemble, in ``repeats`` blocks of ``steps / repeats``.

    Raises:
        ConfigError: no such ensemble, or npt of a molecule.
        StructureError: the dynamics leaves what the model can evaluate.
    """
    check_ensembles(ensembles)
    if not ensembles:
        return {}
    if "npt" in ensembles and not atoms.pbc.all():
        raise ConfigError("expected a periodic structure for npt, got one without a cell")
    systems = copies(relaxed(calculator, atoms), n_systems)
    forces = Evaluator(calculator.potential, calculator.skin)
    conditions = _conditions(systems, AtomsBatch.from_atoms(systems, calculator.device), timestep)
    state = _start(systems, conditions, forces)
    on_gpu = calculator.device.type == "cuda"
    times = {}
    for name in ensembles:
        integrator = INTEGRATORS[name](conditions)
        noise = Noise(0, conditions.batch) if integrator.draws_noise else None
        start = integrator.start(state)
        block = BLOCK if on_gpu else 1
        loop = StepLoop(integrator, forces, start, 0, LIMITS, noise, block, capture=on_gpu)
        _advance(loop, WARM_UP)
        times[name] = _time(loop, forces, calculator.device, max(steps // repeats, 1), repeats)
        state = loop.state
    return times


def check_ensembles(names: Sequence[str]) -> None:
    """Refuse unknown ensembles.

    Raises:
        ConfigError: names the first one.
    """
    for name in names:
        if name not in INTEGRATORS:
            raise ConfigError(f"expected ensembles among {', '.join(INTEGRATORS)}, got {name!r}")


def _time(
    loop: StepLoop, forces: Evaluator, device: torch.device, steps: int, repeats: int
) -> LoopTimes:
    searches = forces.neighbors.n_builds
    blocks = [seconds(lambda: _advance(loop, steps), device) / steps for _ in range(repeats)]
    return LoopTimes(BlockTimes.of(blocks), steps * repeats, forces.neighbors.n_builds - searches)


def _advance(loop: StepLoop, steps: int) -> None:
    while steps > 0:
        steps -= len(loop.advance(steps))


def _conditions(systems: list[Atoms], batch: AtomsBatch, timestep: float) -> Conditions:
    masses = np.concatenate([atoms.get_masses() for atoms in systems])
    per_system = batch.cell.new_ones(batch.n_systems)
    return Conditions(
        batch=batch,
        masses=torch.as_tensor(masses, device=batch.device)[:, None],
        temperature=TEMPERATURE * per_system,
        pressure=BAR * per_system,
        timestep=timestep * units.fs,
        friction=FRICTION,
        tdamp=100 * units.fs,
        pdamp=1000 * units.fs,
    )


def _start(systems: list[Atoms], conditions: Conditions, forces: Evaluator) -> State:
    rng = np.random.default_rng(0)
    momenta = np.concatenate([random_momenta(atoms, TEMPERATURE, rng) for atoms in systems])
    batch = conditions.batch
    given = torch.as_tensor(momenta, device=batch.device)
    state = begin(conditions, batch.positions, given, batch.cell)
    result = forces.evaluate(batch)
    if result.forces is None or result.stress is None:
        raise StructureError("expected forces and a stress, got an evaluation without")
    return with_forces(state, conditions, result.energy, result.forces, result.stress)
