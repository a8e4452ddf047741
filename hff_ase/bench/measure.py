"""Measuring one batch: its step, what each term adds, neighbour searches and memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

from hff_ase.batch import AtomsBatch
from hff_ase.bench.dynamics import FRICTION, TEMPERATURE, relaxed
from hff_ase.bench.hardware import PeakMemory
from hff_ase.bench.results import AseMD, BlockTimes, RebuildCount
from hff_ase.bench.timing import BLOCK, interleaved, seconds
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.engine.momenta import random_momenta
from hff_ase.neighbors import NeighborList
from hff_ase.potential import HybridPotential

MOVES = 8  # different displacements that follow each other
MOVE = 1e-3  # Angstrom: nothing is at the same place twice, and no list becomes outdated
REBUILDS = 3  # at least this many are timed
WARM_UP = 40  # steps before rebuilds are counted
OVERHEAD_STEPS = 20


def step_of(
    potential: HybridPotential, batch: AtomsBatch, neighbors: NeighborList, stress: bool
) -> Callable[[], object]:
    """A step as in molecular dynamics, as a function: atoms are moved slightly each time."""
    generator = torch.Generator().manual_seed(0)
    shape = (MOVES, *batch.positions.shape)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64).to(batch.device)
    places = batch.positions + MOVE * noise
    done = 0

    def step() -> None:
        nonlocal done
        potential(batch.moved(places[done % MOVES]), neighbors, stress=stress)
        done += 1

    return step


def time_steps(
    potential: HybridPotential,
    batch: AtomsBatch,
    skin: float,
    stress: bool,
    repeats: int,
    block: float = BLOCK,
) -> tuple[BlockTimes, dict[str, float]]:
    """The step, and how much each term adds to its fastest block (ms).

    The terms are added one after the other, since a term may need what an earlier one gives; the
    growing sums are measured in turn. Differences are taken between the fastest blocks: they are
    small, and what disturbs a block only makes it slower.
    """
    names = [name for name, _ in potential.named_terms()]
    steps = {}
    for last, name in enumerate(names):
        part = potential.subset(names[: last + 1])
        steps[name] = step_of(part, batch, part.neighbor_list(skin, sort=True), stress)
    times = interleaved(steps, batch.device, repeats, block)
    spreads = {name: BlockTimes.of(times[name]) for name in names}
    sums = least_costs([spreads[name].min for name in names])
    shares = np.diff(sums, prepend=0.0).tolist()
    return spreads[names[-1]], dict(zip(names, shares, strict=True))


def least_costs(sums: Sequence[float]) -> list[float]:
    """Times of the first 1, 2, ... terms, made non-decreasing.

    Terms share their work: dispersion alone walks through all pairs, with Coulomb it is done on the
    way, and the first two terms can take longer than three. What is done on the way costs nothing.
    """
    return [float(x) for x in np.minimum.accumulate(np.asarray(sums)[::-1])[::-1]]


def time_rebuild(
    potential: HybridPotential,
    batch: AtomsBatch,
    skin: float,
    stress: bool,
    block: float = BLOCK,
) -> float:
    """ms that a step costs more when it searches its neighbours again.

    Lists in other orders are made from a search when they are first asked for, so the step is
    part of it.
    """
    neighbors = potential.neighbor_list(skin, sort=True)
    step = step_of(potential, batch, neighbors, stress)

    def searched() -> None:
        neighbors.build(batch)
        step()

    times = interleaved({"searched": searched, "step": step}, batch.device, REBUILDS, block)
    more = np.median(times["searched"]) - np.median(times["step"])
    return max(1e3 * float(more), 0.0)


def peak_memory(
    potential: HybridPotential, batch: AtomsBatch, skin: float, stress: bool
) -> int | None:
    """Bytes by which memory grows over two neighbour searches and some steps.

    Everything must have run before: what kernels need to be compiled is no memory of a step.
    """
    memory = PeakMemory(batch.device)
    memory.start()
    neighbors = potential.neighbor_list(skin, sort=True)
    step = step_of(potential, batch, neighbors, stress)
    for _ in range(2):
        neighbors.build(batch)
        step()
        step()
    return memory.growth()


def count_rebuilds(
    calculator: HybridFF, atoms: Atoms, timestep: float, steps: int
) -> RebuildCount | None:
    """Neighbour searches in this many steps of Langevin dynamics at 300 K; None for no steps.

    The atoms (a copy) are relaxed a little and brought to their temperature first.

    Raises:
        StructureError: the dynamics leaves what the model can evaluate.
    """
    if steps < 1:
        return None
    atoms = relaxed(calculator, atoms)
    atoms.calc = calculator
    rng = np.random.default_rng(0)
    atoms.set_momenta(random_momenta(atoms, TEMPERATURE, rng))
    dynamics = Langevin(
        atoms,
        timestep * units.fs,
        temperature_K=TEMPERATURE,
        friction=FRICTION,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(WARM_UP)
    searched_at = calculator.get_state()["positions"]
    rebuilds = 0
    for _ in range(steps):
        dynamics.run(1)
        place = calculator.get_state()["positions"]
        rebuilds += not np.array_equal(place, searched_at)
        searched_at = place
    return RebuildCount(len(atoms), steps, rebuilds, TEMPERATURE)


def ase_overhead(calculator: HybridFF, atoms: Atoms, timestep: float, repeats: int) -> AseMD:
    """ASE's velocity Verlet, and bare force calls at the same positions."""
    atoms = atoms.copy()
    atoms.calc = calculator
    atoms.set_momenta(random_momenta(atoms, TEMPERATURE, np.random.default_rng(0)))
    start, momenta = atoms.get_positions(), atoms.get_momenta()
    visited: list[np.ndarray] = []

    def again() -> VelocityVerlet:
        atoms.set_positions(start)
        atoms.set_momenta(momenta)
        calculator.set_state({})  # both search their neighbours at the start and then as needed
        atoms.get_forces()
        return VelocityVerlet(atoms, timestep * units.fs)

    def md() -> float:
        dynamics = again()
        return seconds(lambda: dynamics.run(OVERHEAD_STEPS), device)

    def bare() -> float:
        neighbors = calculator.potential.neighbor_list(calculator.skin, sort=True)
        calculator.potential(batch, neighbors)

        def calls() -> None:
            for positions in places:
                calculator.potential(batch.moved(positions), neighbors)

        return seconds(calls, device)

    device = calculator.device
    batch = AtomsBatch.from_atoms(atoms, device)
    dynamics = again()
    dynamics.attach(lambda: visited.append(atoms.get_positions()))
    dynamics.run(OVERHEAD_STEPS)
    places = [torch.as_tensor(positions, device=device) for positions in visited[1:]]
    times = [(md() / OVERHEAD_STEPS, bare() / OVERHEAD_STEPS) for _ in range(repeats)]
    return AseMD(BlockTimes.of([m for m, _ in times]), BlockTimes.of([b for _, b in times]))
