"""Quick potentials for tests of the batched engine, and runs of it as a program.

The program (``python toy_engine.py FOLDER STAGES``) starts or resumes a run, so that tests can kill
it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from torch import Tensor
from toy_md import CUTOFF, EPSILON, SIGMA, argon, resume_or_start, settings

from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.engine.limits import Limits
from hff_ase.dynamics.engine.momenta import random_momenta
from hff_ase.dynamics.engine.torch import (
    INTEGRATORS,
    SHEARED,
    Conditions,
    Noise,
    StepLoop,
    begin,
    with_forces,
)
from hff_ase.dynamics.md import MDRun
from hff_ase.evaluator import Evaluator
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest
from hff_ase.potential import HybridPotential
from hff_ase.terms.pairwise import share_pairs, switch_off
from hff_ase.terms.term import Fields, Term

LIMITS = Limits(displacement=10.0, temperature=1e5)


class LennardJones(Term):
    """Lennard-Jones, switched off between 4 and 5 Angstrom; counts its evaluations."""

    kind = "toy_lennard_jones"
    pair_request = PairRequest(CUTOFF, "half")
    n_calls = 0

    def requests(self) -> tuple[PairRequest, ...]:
        return (self.pair_request,)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        self.n_calls += 1
        pairs = neighbors.pairs(self.pair_request)
        s6 = (SIGMA / pairs.distance) ** 6
        energy = 4 * EPSILON * (s6**2 - s6) * switch_off(pairs.distance, 4.0, CUTOFF)
        return share_pairs(energy, pairs, batch.n_atoms)


class Traps(Term):
    """Every atom in its own trap (eV/A^2) about the origin; the traps follow the mean position."""

    kind = "toy_traps"

    def __init__(self, stiffness: float = 2.0) -> None:
        super().__init__()
        self.stiffness = stiffness

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        mean = batch.system_sum(batch.positions) / batch.counts[:, None]
        offset = batch.positions - mean[batch.system]
        return 0.5 * self.stiffness * offset.square().sum(-1)


def toy_calculator(term: Term | None = None, skin: float = 1.0) -> HybridFF:
    """A HybridFF of one quick term."""
    return HybridFF(HybridPotential({"toy": term or LennardJones()}), dtype="float64", skin=skin)


def make_loop(
    ensemble: str,
    structures: list[Atoms],
    term: Term | None = None,
    *,
    temperature: float | list[float] = 60.0,
    pressure: float | list[float] = 0.0,
    timestep: float = 4.0,
    friction: float = 5.0,
    tdamp: float = 100.0,
    pdamp: float = 500.0,
    seed: int = 3,
    identity: list[int] | None = None,
    skin: float = 1.0,
    block: int = 1,
    device: str = "cpu",
    limits: Limits = LIMITS,
    shear: float = 0.0,
    **options: Any,
) -> StepLoop:
    """A loop over the structures (with their momenta): K, eV/A^3, fs, 1/ps, A/ps^2."""
    batch = AtomsBatch.from_atoms(structures, device)
    per_system = batch.cell.new_ones(batch.n_systems)
    masses = np.concatenate([atoms.get_masses() for atoms in structures])
    conditions = Conditions(
        batch=batch,
        masses=torch.as_tensor(masses, device=device)[:, None],
        temperature=torch.as_tensor(temperature, dtype=torch.float64, device=device) * per_system,
        pressure=torch.as_tensor(pressure, dtype=torch.float64, device=device) * per_system,
        timestep=timestep * units.fs,
        friction=friction / (1000 * units.fs),
        tdamp=tdamp * units.fs,
        pdamp=pdamp * units.fs,
        shear=shear / (1000 * units.fs) ** 2,
    )
    momenta = np.concatenate([atoms.get_momenta() for atoms in structures])
    potential = HybridPotential({"toy": term or LennardJones()}).to(device)
    forces = Evaluator(potential, skin)
    result = forces.evaluate(batch)
    integrator = (SHEARED if shear else INTEGRATORS)[ensemble](conditions)
    state = begin(conditions, batch.positions, torch.as_tensor(momenta).to(device), batch.cell)
    state = with_forces(state, conditions, result.energy, result.forces, result.stress)
    noise = None
    if integrator.draws_noise:
        noise = Noise(seed, batch, None if identity is None else torch.tensor(identity))
    state = integrator.start(state)
    return StepLoop(integrator, forces, state, 0, limits, noise, block, **options)


def run_steps(loop: StepLoop, n_steps: int) -> dict[str, np.ndarray]:
    """Take steps; every column as [n_steps, n_systems]."""
    rows: list[Tensor] = []
    while len(rows) < n_steps:
        rows += loop.advance(n_steps - len(rows))
    table = torch.stack(rows).numpy()
    return {name: table[:, :, index] for index, name in enumerate(loop.columns)}


def moving(atoms: Atoms, temperature: float, seed: int = 0) -> Atoms:
    """The structure with random momenta."""
    atoms.set_momenta(random_momenta(atoms, temperature, np.random.default_rng(seed)))
    return atoms


def main() -> None:
    """Start the run, or take it up if it is there."""
    folder, stages = sys.argv[1], sys.argv[2].split(",")
    calc = toy_calculator()
    config = settings(folder, stages, engine="torch")
    resume_or_start(lambda: MDRun.resume(folder, calc), lambda: MDRun.start(config, argon(), calc))


if __name__ == "__main__":
    main()
