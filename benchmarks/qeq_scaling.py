"""Cost of charge equilibration against size, and what its tolerance does to energy conservation.

    python benchmarks/qeq_scaling.py cost --atoms 1000 3000 10000 30000 --json qeq_scaling.json
    python benchmarks/qeq_scaling.py drift --tolerance 1e-3 1e-5 1e-6 --time 2 --json qeq_drift.json

`cost` takes 1 M LiPF6 in EC:DMC, built once and repeated to the size asked for, moves it along a
straight line for the warm start, and prints milliseconds, iterations and the peak of memory.
`drift` does NVE of one small box with QEq, springs along its bonds and a repulsion between
molecules, and fits a straight line to the total energy.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.neighborlist import natural_cutoffs, neighbor_list

from hff_ase.allocator import keep_memory
from hff_ase.batch import AtomsBatch
from hff_ase.dynamics.build import build_box
from hff_ase.evaluator import Evaluator
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest
from hff_ase.potential import HybridPotential
from hff_ase.terms.qeq import QEq
from hff_ase.terms.qeq_parameters import rappe_goddard
from hff_ase.terms.term import Fields, Term

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
RECIPE = "1.0 M LiPF6 in EC:DMC 1:1 v/v"


class Springs(Term):
    """Harmonic springs between given pairs, at their lengths in a reference structure."""

    kind = "springs"

    def __init__(self, atoms: Atoms) -> None:
        super().__init__()
        i, j, shift, stiffness = bonds(atoms)
        vector = atoms.positions[j] - atoms.positions[i] + shift @ atoms.cell.array
        self.i, self.j = torch.tensor(i), torch.tensor(j)
        self.shift = torch.tensor(shift, dtype=torch.float64)
        self.length = torch.tensor(np.linalg.norm(vector, axis=1))
        self.stiffness = torch.tensor(stiffness)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> torch.Tensor:
        """k/2 (r - r0)^2, half to either atom."""
        x = batch.positions
        vector = x[self.j] - x[self.i] + self.shift @ batch.cell[0]
        energy = 0.25 * self.stiffness * (vector.norm(dim=1) - self.length).square()
        zero = torch.zeros_like(x[:, 0])
        return zero.index_add(0, self.i, energy).index_add(0, self.j, energy)


class Repulsion(Term):
    """A exp(-r/0.25 A) between atoms of different molecules, smoothly to zero at 5 A."""

    kind = "exponential_repulsion"

    def __init__(self, molecule: np.ndarray, strength: float = 800.0) -> None:
        super().__init__()
        self.molecule, self.strength = torch.tensor(molecule), strength

    def requests(self) -> tuple[PairRequest, ...]:
        """Pairs within 5 A."""
        return (PairRequest(5.0, "half"),)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> torch.Tensor:
        """Half to either atom."""
        pairs = neighbors.pairs(self.requests()[0])
        other = self.molecule[pairs.i] != self.molecule[pairs.j]
        switch = (1.0 - (pairs.distance / 5.0).square()).clamp(min=0.0) ** 3
        energy = 0.5 * self.strength * torch.exp(-pairs.distance / 0.25) * switch * other
        zero = torch.zeros_like(batch.positions[:, 0])
        return zero.index_add(0, pairs.i, energy).index_add(0, pairs.j, energy)


def bonds(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Each bond and each pair of second neighbours within a molecule once: indices, image shifts,
    and spring constants in eV/Angstrom^2."""
    i, j, shift = neighbor_list("ijS", atoms, natural_cutoffs(atoms, mult=1.15))
    same = atoms.arrays["molecule"][i] == atoms.arrays["molecule"][j]
    neighbors: dict[int, list[tuple[int, tuple[int, ...]]]] = {k: [] for k in range(len(atoms))}
    for a, b, s in zip(i[same], j[same], shift[same], strict=True):
        neighbors[a].append((b, tuple(s)))
    found = {(a, b, s): 20.0 for a in neighbors for b, s in neighbors[a]}
    for a in neighbors:
        for b, s in neighbors[a]:
            for c, t in neighbors[b]:
                if c != a:
                    found.setdefault((a, c, tuple(np.add(s, t))), 5.0)
    once = sorted(pair for pair in found if pair[0] < pair[1])
    first, second, shifts = zip(*once, strict=True)
    stiffness = np.array([found[pair] for pair in once])
    return np.array(first), np.array(second), np.array(shifts), stiffness


def parameters(atoms: Atoms) -> dict[str, dict[str, float]]:
    """Tables for the elements of the batch."""
    return rappe_goddard(sorted(set(atoms.get_chemical_symbols())))


def evaluator_of(potential: HybridPotential, start: str, skin: float = 1.0) -> Evaluator:
    """With or without the memory of a trajectory, for warm starts."""
    return Evaluator(potential, skin, trajectory=start == "warm")


def peak_memory() -> float:
    """Largest resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def liquid(n_atoms: int) -> Atoms:
    """About this many atoms: whole repeats of the largest box of at most 2,000 that fits."""
    repeats = [1, 1, 1]
    while n_atoms / np.prod(repeats) > 2000:
        repeats[int(np.argmin(repeats))] += 1
    box = build_box(RECIPE, max(int(n_atoms / np.prod(repeats)), 150), seed=1)
    box = box.repeat(repeats)
    box.rattle(0.02, seed=0)  # repeats must not be periodic images
    return box


def cost(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per size: a cold solve, and steps along a line with a warm start."""
    rows = []
    print("   atoms solver     first ms  cold ms  iterations  warm ms  iterations  peak MB")
    for n_atoms in arguments.atoms:
        atoms = liquid(n_atoms)
        batch = AtomsBatch.from_atoms(atoms)
        torch.manual_seed(0)
        sigma = torch.tensor(np.sqrt(300.0 * units.kB / atoms.get_masses()))[:, None]
        velocity = sigma * torch.randn(len(atoms), 3, dtype=torch.float64)
        for solver in ("dense", "iterative"):
            if solver == "dense" and len(atoms) > arguments.dense:
                continue
            qeq = QEq(
                **parameters(atoms), solver=solver, charge_tolerance=arguments.tolerance[0]
            ).requires_grad_(False)
            potential = HybridPotential({"qeq": qeq}).eval()
            cold, warm = (evaluator_of(potential, start) for start in ("cold", "warm"))
            step = arguments.timestep * units.fs
            frames = [batch.moved(batch.positions + k * step * velocity) for k in range(10)]
            clock = CLOCKS[arguments.clock]
            first, _ = timed(batch, cold, clock)
            again = [timed(batch, cold, clock) for _ in range(arguments.repeats)]
            along = [timed(frame, warm, clock) for frame in frames]
            row = {
                "atoms": len(atoms),
                "solver": solver,
                "first_ms": first,
                "cold_ms": min(t for t, _ in again),
                "cold_iterations": again[-1][1],
                "warm_ms": min(t for t, _ in along[6:]),
                "warm_iterations": along[-1][1],
                "peak_MB": peak_memory(),
            }
            print(
                f"{row['atoms']:8d} {solver:9s} {row['first_ms']:9.1f} {row['cold_ms']:8.1f} "
                f"{row['cold_iterations']:11d} {row['warm_ms']:8.1f} {row['warm_iterations']:11d} "
                f"{row['peak_MB']:8.0f}",
                flush=True,
            )
            rows.append(row)
    return rows


def timed(batch: AtomsBatch, evaluator: Evaluator, clock: Callable[[], float]) -> tuple[float, int]:
    """Milliseconds of energy, forces and stress, and iterations."""
    start = clock()
    evaluator.evaluate(batch)
    elapsed = 1e3 * (clock() - start)
    return elapsed, iterations_of(evaluator)


def iterations_of(evaluator: Evaluator) -> int:
    """Of the last solution."""
    qeq: Any = evaluator.potential.terms["qeq"]
    return evaluator.neighbors.plan(qeq)[1][0].iterations


def drift(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per tolerance, all from the same relaxed and thermalised structure."""
    atoms = build_box(RECIPE, arguments.atoms[0], seed=1)
    relaxed: tuple[torch.Tensor, torch.Tensor] | None = None
    rows = []
    print(f"{len(atoms)} atoms, {arguments.timestep} fs, {arguments.time} ps")
    print("tolerance/e  start    drift   wander  shadow drift  wander  iterations  ms/step")
    for tolerance in arguments.tolerance:
        for start in ("warm", "cold") if arguments.cold else ("warm",):
            potential = toy(atoms, tolerance)
            if relaxed is None:
                relaxed = thermalised(toy(atoms, 1e-5), atoms, arguments.equilibrate)
            evaluator = evaluator_of(potential, start)
            row = {"tolerance": tolerance, "start": start, "atoms": len(atoms)}
            row |= nve(evaluator, atoms, *relaxed, arguments.time, arguments.timestep)
            print(
                f"{tolerance:11.0e}  {start:5s} {row['drift']:+.1e}  {row['wander']:.1e}      "
                f"{row['shadow_drift']:+.1e} {row['shadow_wander']:.1e}  "
                f"{row['iterations']:10.2f}  {row['ms_per_step']:7.1f}",
                flush=True,
            )
            rows.append(row)
    return rows


def toy(atoms: Atoms, charge_tolerance: float) -> HybridPotential:
    """QEq, springs within molecules and a repulsion between them."""
    terms = {
        "qeq": QEq(**parameters(atoms), solver="iterative", charge_tolerance=charge_tolerance),
        "springs": Springs(atoms),
        "repulsion": Repulsion(atoms.arrays["molecule"]),
    }
    return HybridPotential(terms).eval().requires_grad_(False)


def thermalised(
    potential: HybridPotential, atoms: Atoms, picoseconds: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and velocities: steps down the force, then dynamics with velocities rescaled."""
    batch = AtomsBatch.from_atoms(atoms)
    evaluator = evaluator_of(potential, "warm")
    x = batch.positions
    for _ in range(150):
        forces = evaluate(evaluator, batch.moved(x))[1]
        x = x + (0.01 * forces).clamp(-0.04, 0.04)
    mass = torch.tensor(atoms.get_masses())[:, None]
    torch.manual_seed(0)
    kT = 300.0 * units.kB
    v = torch.sqrt(kT / mass) * torch.randn(len(atoms), 3, dtype=torch.float64)
    forces = evaluate(evaluator, batch.moved(x))[1]
    dt = 0.5 * units.fs
    for _ in range(round(2000 * picoseconds)):
        v = v + 0.5 * dt * forces / mass
        x = x + dt * v
        forces = evaluate(evaluator, batch.moved(x))[1]
        v = v + 0.5 * dt * forces / mass
        kinetic = 0.5 * (mass * v.square()).sum()
        v = v * torch.sqrt(1.0 + 0.01 * (1.5 * len(atoms) * kT / kinetic - 1.0))
    return x, v - (mass * v).sum(0) / mass.sum()


def nve(
    evaluator: Evaluator,
    atoms: Atoms,
    x: torch.Tensor,
    v: torch.Tensor,
    picoseconds: float,
    timestep: float,
    count: Callable[[Evaluator], int] | None = None,
) -> dict[str, float]:
    """Velocity Verlet: slopes of energies against time, eV/atom/ps, and the RMS of what is left.

    Beside the total energy E the one that the integrator itself conserves to fourth order,
    E - dt^2/12 v.dF/dt - dt^2/24 F.F/m: what drifts there is the forces' doing.
    """
    batch = AtomsBatch.from_atoms(atoms)
    mass, dt = torch.tensor(atoms.get_masses())[:, None], timestep * units.fs
    steps = round(1000 * picoseconds / timestep)
    totals, corrections, iterations = [], [], []
    _, forces = evaluate(evaluator, batch.moved(x))
    before, middle = forces, v
    began = time.perf_counter()
    for _ in range(steps):
        v = v + 0.5 * dt * forces / mass
        x = x + dt * v
        energy, new = evaluate(evaluator, batch.moved(x))
        change = float((middle * (new - before)).sum()) * dt / 24
        corrections.append(change + float((forces.square() / mass).sum()) * dt**2 / 24)
        before, forces = forces, new
        v = v + 0.5 * dt * forces / mass
        middle = v
        totals.append(energy + float(0.5 * (mass * v.square()).sum()))
        iterations.append((count or iterations_of)(evaluator))
    times = 1e-3 * timestep * np.arange(steps)
    energies = np.array(totals) / len(atoms)
    # The correction of a step is known one step later.
    shadow = energies[1:-1] - np.array(corrections)[2:] / len(atoms)
    slope, wander = line(times, energies)
    shadow_slope, shadow_wander = line(times[1:-1], shadow)
    return {
        "drift": slope,
        "wander": wander,
        "shadow_drift": shadow_slope,
        "shadow_wander": shadow_wander,
        "iterations": float(np.mean(iterations)),
        "ms_per_step": 1e3 * (time.perf_counter() - began) / steps,
    }


def line(times: np.ndarray, energies: np.ndarray) -> tuple[float, float]:
    """Slope of a straight line through energies, and the RMS distance from it."""
    slope, offset = np.polyfit(times, energies, 1)
    return float(slope), float(np.std(energies - slope * times - offset))


def evaluate(evaluator: Evaluator, batch: AtomsBatch) -> tuple[float, torch.Tensor]:
    """Energy in eV and forces."""
    found = evaluator.evaluate(batch, derivatives=["positions"])
    assert found.forces is not None
    return float(found.energy), found.forces


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for function, sizes in ((cost, [1000, 3000, 10000, 30000]), (drift, [220])):
        command = commands.add_parser(function.__name__)
        command.add_argument("--atoms", type=int, nargs="+", default=sizes)
        command.add_argument("--tolerance", type=float, nargs="+", default=[1e-6])
        command.add_argument("--timestep", type=float, default=0.5, help="fs")
        command.add_argument("--threads", type=int, default=1)
        command.add_argument("--json", type=Path, help="also write the numbers here")
        command.set_defaults(function=function)
        if function is cost:
            command.add_argument("--dense", type=int, default=1500, help="largest dense system")
            command.add_argument("--repeats", type=int, default=3)
            command.add_argument("--clock", choices=CLOCKS, default="wall")
        else:
            command.add_argument("--time", type=float, default=2.0, help="ps")
            command.add_argument("--equilibrate", type=float, default=1.0, help="ps")
            command.add_argument("--cold", action="store_true", help="without warm start as well")
    arguments = parser.parse_args()
    keep_memory()
    torch.set_num_threads(arguments.threads)
    rows = arguments.function(arguments)
    if arguments.json:
        settings = {k: v for k, v in vars(arguments).items() if k not in ("json", "function")}
        arguments.json.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
