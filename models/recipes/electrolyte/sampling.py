"""Frames from molecular dynamics of many liquids in one batch, each at its own temperature and
density."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms, units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.optimize import LBFGS
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.engine.limits import Limits
from hff_ase.dynamics.engine.torch import (
    INTEGRATORS,
    Conditions,
    Noise,
    StepLoop,
    begin,
    with_forces,
)
from hff_ase.errors import StructureError
from hff_ase.evaluator import Evaluator

SQUEEZE_STEPS = 500  # until every box has its density
SQUEEZES = 25
RELAX_STEPS, RELAX_FORCE = 200, 0.3  # of the first relaxation: at most, eV/Angstrom
FRICTION = 5.0  # 1/ps
LIMITS = Limits(displacement=0.6, temperature=6000.0)


@dataclass(frozen=True)
class Start:
    """A box and how it is run: temperature in K, density over that of the recipe."""

    name: str
    recipe: str
    temperature: float
    density: float


def draw_starts(liquids: dict[str, str], seed: int, copies: int = 1) -> list[Start]:
    """Every liquid at a random temperature (250 to 450 K) and density (0.85 to 1.2)."""
    rng = np.random.default_rng(seed)
    return [
        Start(name, recipe, float(rng.uniform(250.0, 450.0)), float(rng.uniform(0.85, 1.2)))
        for _ in range(copies)
        for name, recipe in liquids.items()
    ]


def boxes(starts: Sequence[Start], n_atoms: int, seed: int, calc: HybridFF) -> list[Atoms]:
    """A packed and relaxed box for each start, at the density of its recipe.

    Packed molecules touch: what is not relaxed well heats up, and breaks where the model is weak.
    """
    built = []
    for index, start in enumerate(starts):
        atoms = build_box(start.recipe, n_atoms, seed=seed + index)
        atoms.info = {"system": start.name, "temperature": start.temperature}
        atoms.calc = calc
        LBFGS(atoms, logfile=None, maxstep=0.1).run(fmax=RELAX_FORCE, steps=RELAX_STEPS)
        atoms.calc = None
        built.append(atoms)
    return built


def sample(
    calc: HybridFF,
    starts: Sequence[Start],
    structures: Sequence[Atoms],
    *,
    n_steps: int,
    interval: int,
    seed: int,
    timestep: float = 1.0,
) -> Iterator[list[Atoms]]:
    """Langevin dynamics of all boxes; every `interval` steps the frames of those still intact.

    The first part brings every box to its density, by small uniform changes of cell and molecules.
    A box that blows up is left out from there on: what led to it has been given.
    """
    moving = Boxes.of(calc, starts, structures, seed)
    for _ in range(SQUEEZES):
        moving.run(SQUEEZE_STEPS // SQUEEZES, timestep)
        moving.scale()
    for _ in range(n_steps // interval):
        moving.run(interval, timestep)
        yield moving.frames()


@dataclass
class Boxes:
    """Boxes in one batch, each with its temperature and density, fewer where some blow up."""

    calc: HybridFF
    starts: list[Start]
    structures: list[Atoms]
    positions: Tensor
    momenta: Tensor
    cell: Tensor
    seed: int
    step: int = 0

    @classmethod
    def of(
        cls, calc: HybridFF, starts: Sequence[Start], structures: Sequence[Atoms], seed: int
    ) -> Boxes:
        """Boxes as they are, with random momenta."""
        batch = AtomsBatch.from_atoms(structures)
        momenta = thermal_momenta(structures, starts, seed)
        first = batch.positions, momenta, batch.cell
        return cls(calc, list(starts), list(structures), *first, seed)

    def run(self, n_steps: int, timestep: float) -> None:
        """So many steps of Langevin dynamics."""
        last = self.step + n_steps
        while self.step < last and self.structures:
            batch = AtomsBatch.from_atoms(self.structures)
            kelvin = torch.tensor([s.temperature for s in self.starts], dtype=torch.float64)
            conditions = conditions_of(batch, self.structures, kelvin, timestep)
            forces = Evaluator(self.calc.potential, self.calc.skin)
            place = self.positions, self.momenta, self.cell
            noise = Noise(self.seed, batch)
            loop = loop_at(conditions, forces, place, self.step, noise)
            bad = run(loop, last - self.step)
            state, self.step = loop.state, loop.step
            self.positions, self.momenta, self.cell = state.positions, state.momenta, state.cell
            if bad.any():
                self.leave_out(batch, bad)

    def leave_out(self, batch: AtomsBatch, bad: Tensor) -> None:
        """Go on without some of the boxes, [n_systems]."""
        for index in torch.nonzero(bad)[:, 0].tolist():
            print(f"{self.starts[index].name} blew up at step {self.step}", flush=True)
        atoms = ~bad[batch.system]
        self.positions, self.momenta = self.positions[atoms], self.momenta[atoms]
        self.cell = self.cell[~bad]
        kept = torch.nonzero(~bad)[:, 0].tolist()
        self.starts = [self.starts[k] for k in kept]
        self.structures = [self.structures[k] for k in kept]

    def scale(self) -> None:
        """One of `SQUEEZES` steps to the densities; molecules keep their shape."""
        if not self.structures:
            return
        system = AtomsBatch.from_atoms(self.structures).system
        density = torch.tensor([s.density for s in self.starts], dtype=torch.float64)
        factor = density ** (-1 / 3 / SQUEEZES)
        molecule = global_molecules(self.structures)
        self.positions, self.cell = scaled(
            self.positions, self.cell, molecule, factor[system], factor
        )

    def frames(self) -> list[Atoms]:
        """The boxes as they are, wrapped."""
        if not self.structures:
            return []
        batch = AtomsBatch.from_atoms(self.structures)
        return frames_of(self.structures, batch, self.positions, self.cell, self.step)


def conditions_of(
    batch: AtomsBatch,
    structures: Sequence[Atoms],
    temperature: Tensor,
    timestep: float,
) -> Conditions:
    """Boxes at their temperatures [n_systems], K, with a time step in fs."""
    return Conditions(
        batch=batch,
        masses=torch.as_tensor(np.concatenate([a.get_masses() for a in structures]))[:, None],
        temperature=temperature,
        # nothing here works with pressure, tdamp and pdamp
        pressure=torch.zeros_like(temperature),
        timestep=timestep * units.fs,
        friction=FRICTION / (1000 * units.fs),
        tdamp=100 * units.fs,
        pdamp=1000 * units.fs,
    )


def loop_at(
    conditions: Conditions,
    forces: Evaluator,
    place: tuple[Tensor, Tensor, Tensor],
    step: int,
    noise: Noise,
) -> StepLoop:
    """Langevin dynamics that goes on from a place: positions, momenta, cells."""
    positions, momenta, cell = place
    result = forces.evaluate(conditions.batch.moved(positions, cell))
    if result.forces is None or result.stress is None:
        raise StructureError("expected forces and a stress, got an evaluation without")
    state = begin(conditions, positions, momenta, cell)
    state = with_forces(state, conditions, result.energy, result.forces, result.stress)
    integrator = INTEGRATORS["nvt"](conditions)
    return StepLoop(integrator, forces, integrator.start(state), step, LIMITS, noise)


def run(loop: StepLoop, n_steps: int) -> Tensor:
    """So many steps, or fewer where a system blows up; which ones did, [n_systems]."""
    last = loop.step + n_steps
    bad = torch.zeros(len(loop.state.cell), dtype=torch.bool)
    while loop.step < last and not bad.any():
        try:
            rows = loop.advance(last - loop.step)
        except StructureError:  # two atoms met: the state is that before the step
            force = loop.integrator.conditions.largest(loop.state.forces.square().sum(-1))[0]
            bad[force.argmax()] = True
        else:
            bad = rows[-1, :, loop.columns.index("harmless")] == 0
    return bad


def thermal_momenta(structures: Sequence[Atoms], starts: Sequence[Start], seed: int) -> Tensor:
    """Random momenta [n_atoms, 3] at each start's temperature, without drift."""
    momenta = []
    rng = np.random.default_rng(seed)
    for atoms, start in zip(structures, starts, strict=True):
        copy = atoms.copy()
        MaxwellBoltzmannDistribution(copy, temperature_K=start.temperature, rng=rng)
        Stationary(copy)
        momenta.append(copy.get_momenta())
    return torch.as_tensor(np.concatenate(momenta))


def global_molecules(structures: Sequence[Atoms]) -> Tensor:
    """Molecule of every atom [n_atoms], numbered over all boxes."""
    ids, before = [], 0
    for atoms in structures:
        molecule = atoms.arrays["molecule"]
        ids.append(molecule + before)
        before += int(molecule.max()) + 1
    return torch.as_tensor(np.concatenate(ids))


def scaled(
    positions: Tensor, cell: Tensor, molecule: Tensor, per_atom: Tensor, per_system: Tensor
) -> tuple[Tensor, Tensor]:
    """Cells and centres of molecules times a factor per system; molecules keep their shape."""
    n = int(molecule.max()) + 1
    count = torch.bincount(molecule, minlength=n)[:, None]
    centre = positions.new_zeros(n, 3).index_add(0, molecule, positions) / count
    shift = (per_atom - 1.0)[:, None] * centre[molecule]
    return positions + shift, cell * per_system[:, None, None]


def frames_of(
    structures: Sequence[Atoms], batch: AtomsBatch, positions: Tensor, cell: Tensor, step: int
) -> list[Atoms]:
    """The boxes as they are, wrapped."""
    frames = []
    for index, atoms in enumerate(structures):
        mine = batch.system == index
        frame = Atoms(
            atoms.numbers,
            positions[mine].numpy(),
            cell=cell[index].numpy(),
            pbc=True,
            info={**atoms.info, "step": step},
        )
        frame.wrap()
        frames.append(frame)
    return frames
