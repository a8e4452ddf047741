"""Cost of the polarizable model against size, and energy conservation with induced dipoles.

    python benchmarks/dipole_scaling.py cost --atoms 240 1000 4100 --json dipole_scaling.json
    python benchmarks/dipole_scaling.py drift --tolerance 1e-4 1e-6 --time 2 --json drift.json

`cost` takes 1 M LiPF6 in EC:DMC, moves it along a straight line for the warm start, and prints the
milliseconds of a step with each model and the iterations of the dipoles. `drift` does NVE of one
small box and fits a straight line to the energy, as `qeq_scaling.py` does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from qeq_scaling import CLOCKS, RECIPE, liquid, nve, thermalised

from hff_ase.allocator import keep_memory
from hff_ase.batch import AtomsBatch
from hff_ase.checkpoint import load_model
from hff_ase.dynamics.build import build_box
from hff_ase.evaluator import Evaluator
from hff_ase.models import model_path
from hff_ase.potential import HybridPotential
from hff_ase.terms.induced_dipoles import InducedDipoles

POLARIZABLE = "ec-dmc-lipf6-pol"
FRAMES = 12


def dipoles_of(potential: HybridPotential) -> InducedDipoles | None:
    """The term, where the model has it."""
    found = [term for _, term in potential.named_terms() if isinstance(term, InducedDipoles)]
    return found[0] if found else None


def iterations_of(evaluator: Evaluator) -> int:
    """Of the last solution."""
    term = dipoles_of(evaluator.potential)
    return 0 if term is None else evaluator.neighbors.plan(term).parts[0][0].iterations


def loaded(model: str, tolerance: float | None = None) -> HybridPotential:
    """A model, with another tolerance of its dipoles and iterations at any size."""
    potential, _ = load_model(model_path(model))
    term = dipoles_of(potential)
    if term is not None and tolerance is not None:
        term.solver, term.dipole_tolerance = "iterative", tolerance
    return potential.eval().requires_grad_(False)


def frames_of(atoms: Atoms, timestep: float) -> list[AtomsBatch]:
    """Atoms on straight lines at 300 K."""
    batch = AtomsBatch.from_atoms(atoms)
    torch.manual_seed(0)
    sigma = torch.tensor(np.sqrt(300.0 * units.kB / atoms.get_masses()))[:, None]
    step = timestep * units.fs * sigma * torch.randn(len(atoms), 3, dtype=torch.float64)
    return [batch.moved(batch.positions + k * step) for k in range(FRAMES)]


def cost(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per size and model: the quickest of the warm steps."""
    rows, clock = [], CLOCKS[arguments.clock]
    print("   atoms  model                 first ms   warm ms  iterations")
    for n_atoms in arguments.atoms:
        atoms = liquid(n_atoms)
        frames = frames_of(atoms, arguments.timestep)
        for model in arguments.models:
            evaluator = Evaluator(loaded(model), 1.0)
            times, iterations = [], []
            for frame in frames:
                start = clock()
                evaluator.evaluate(frame)
                times.append(1e3 * (clock() - start))
                iterations.append(iterations_of(evaluator))
            row = {
                "atoms": len(atoms),
                "model": model,
                "first_ms": times[0],
                "warm_ms": min(times[5:]),
                "cold_iterations": iterations[0],
                "warm_iterations": float(np.mean(iterations[5:])),
            }
            print(
                f"{row['atoms']:8d}  {model:20s} {row['first_ms']:9.1f} {row['warm_ms']:9.1f}"
                f"  {row['cold_iterations']} -> {row['warm_iterations']:.1f}",
                flush=True,
            )
            rows.append(row)
    return rows


def drift(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per tolerance, all from the same thermalised structure."""
    atoms = build_box(RECIPE, arguments.atoms[0], seed=1)
    start = thermalised(loaded(POLARIZABLE, 1e-5), atoms, arguments.equilibrate)
    rows = []
    print(f"{len(atoms)} atoms, {arguments.timestep} fs, {arguments.time} ps")
    print("tolerance/e A   drift   wander  shadow drift  wander  iterations  ms/step")
    for tolerance in arguments.tolerance:
        evaluator = Evaluator(loaded(POLARIZABLE, tolerance), 1.0)
        row: dict[str, Any] = {"tolerance": tolerance, "atoms": len(atoms)}
        row |= nve(evaluator, atoms, *start, arguments.time, arguments.timestep, iterations_of)
        print(
            f"{tolerance:11.0e}  {row['drift']:+.1e}  {row['wander']:.1e}      "
            f"{row['shadow_drift']:+.1e} {row['shadow_wander']:.1e}  "
            f"{row['iterations']:10.2f}  {row['ms_per_step']:7.1f}",
            flush=True,
        )
        rows.append(row)
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for function, sizes in ((cost, [240, 1000, 4100]), (drift, [220])):
        command = commands.add_parser(function.__name__)
        command.add_argument("--atoms", type=int, nargs="+", default=sizes)
        command.add_argument("--timestep", type=float, default=0.5, help="fs")
        command.add_argument("--threads", type=int, default=1)
        command.add_argument("--json", type=Path, help="also write the numbers here")
        command.set_defaults(function=function)
        if function is cost:
            command.add_argument("--models", nargs="+", default=[POLARIZABLE, "electrolyte"])
            command.add_argument("--clock", choices=CLOCKS, default="cpu")
        else:
            command.add_argument("--tolerance", type=float, nargs="+", default=[1e-6])
            command.add_argument("--time", type=float, default=2.0, help="ps")
            command.add_argument("--equilibrate", type=float, default=1.0, help="ps")
    arguments = parser.parse_args()
    keep_memory()
    torch.set_num_threads(arguments.threads)
    rows = arguments.function(arguments)
    if arguments.json:
        settings = {k: v for k, v in vars(arguments).items() if k not in ("json", "function")}
        arguments.json.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
