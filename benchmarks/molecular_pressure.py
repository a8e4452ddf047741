"""Atomic and molecular pressure along one NVT run: the same mean, another noise.

The molecular pressure has the kinetic energy of molecules' centres of mass and the virial that
moves molecules as rigid bodies (`hff_ase.derivatives.molecular_stress_of`); its mean over an
ensemble is that of the atomic pressure, without the bonds' vibrations. Beside it, what per-frame
gradients of parameters cost in force calls.

    python benchmarks/molecular_pressure.py --picoseconds 20
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from ase import Atoms, units
from ase.md.langevin import Langevin

from hff_ase import HybridFF
from hff_ase.batch import AtomsBatch
from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.observables.statistics import mean_with_error
from hff_ase.evaluator import Evaluator
from hff_ase.reduce import segment_sum
from hff_ase.units import BAR

EVERY = 5  # steps between samples


def pressures(evaluator: Evaluator, atoms: Atoms) -> tuple[float, float]:
    """Atomic and molecular pressure of atoms with momenta, bar."""
    batch = AtomsBatch.from_atoms(atoms)
    wanted = ["positions", "cell", "molecules"]
    found = evaluator.evaluate(batch, derivatives=wanted)
    assert found.stress is not None
    assert found.molecular_stress is not None
    assert batch.molecule is not None
    p, m = torch.from_numpy(atoms.get_momenta()), torch.from_numpy(atoms.get_masses())
    of_molecules = segment_sum(p, batch.molecule, batch.n_molecules)
    masses = segment_sum(m, batch.molecule, batch.n_molecules)
    twice = {
        "atoms": float((p.square().sum(1) / m).sum()),
        "molecules": float((of_molecules.square().sum(1) / masses).sum()),
    }
    volume = float(batch.volume[0])
    stresses = {"atoms": found.stress, "molecules": found.molecular_stress}
    values = [
        (twice[name] / volume - float(stress[0].trace())) / 3.0 / BAR
        for name, stress in stresses.items()
    ]
    return values[0], values[1]


def milliseconds(work: Callable[[], object], repeats: int = 20) -> float:
    """Median time of a call."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def costs(evaluator: Evaluator, atoms: Atoms) -> None:
    """Requests beside a force call, in milliseconds."""
    batch = AtomsBatch.from_atoms(atoms)
    names = [f"{name}.scale" for name, _ in evaluator.potential.named_terms()]
    requests = {
        "energy, forces, stress": {},
        "and molecular stress": {"derivatives": ["positions", "cell", "molecules"]},
        "forces and gradients of the terms' scales": {
            "derivatives": ["positions", "cell", "parameters"],
            "parameters": names,
        },
        "forces and gradients of the energy head": {
            "derivatives": ["positions", "cell", "parameters"],
            "parameters": ["short_range.energy.*"],
        },
        "forces and gradients of all weights": {
            "derivatives": ["positions", "cell", "parameters"],
            "parameters": ["*"],
        },
    }
    base = None
    for name, request in requests.items():
        time_of = milliseconds(lambda request=request: evaluator.evaluate(batch, **request))  # type: ignore[misc]
        base = base or time_of
        print(f"{name:45s} {time_of:8.2f} ms  {time_of / base:5.2f}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--recipe", default="EC:DMC 1:1 v/v")
    parser.add_argument("--atoms", type=int, default=240)
    parser.add_argument("--model", default="electrolyte")
    parser.add_argument("--temperature", type=float, default=300.0)
    parser.add_argument("--equilibrate", type=float, default=3.0, help="ps")
    parser.add_argument("--picoseconds", type=float, default=10.0)
    args = parser.parse_args()
    atoms = build_box(args.recipe, args.atoms, seed=1)
    atoms.calc = HybridFF.load(args.model)
    rng = np.random.default_rng(0)
    from ase.optimize import FIRE

    FIRE(atoms, logfile=None).run(fmax=0.5, steps=200)
    masses = atoms.get_masses()[:, None]
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * np.sqrt(masses * units.kB * 300.0))
    dynamics = Langevin(
        atoms,
        1.0 * units.fs,
        temperature_K=args.temperature,
        friction=0.01 / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(round(1000 * args.equilibrate))
    evaluator = Evaluator(atoms.calc.potential, 1.0)
    rows: list[tuple[float, float]] = []
    dynamics.attach(lambda: rows.append(pressures(evaluator, atoms)), interval=EVERY)
    dynamics.run(round(1000 * args.picoseconds))
    series = np.array(rows)
    print(f"{args.recipe}, {len(atoms)} atoms, {args.model}, NVT at {args.temperature:g} K")
    print(f"{args.equilibrate:g} + {args.picoseconds:g} ps, a sample every {EVERY} fs")
    for name, column in (("atomic", series[:, 0]), ("molecular", series[:, 1])):
        mean = mean_with_error(column)
        print(f"{name:10s} {mean.value:8.0f} +- {mean.error:5.0f} bar, standard deviation "
              f"{column.std():6.0f} bar")  # fmt: skip
    apart = mean_with_error(series[:, 0] - series[:, 1])
    print(f"difference {apart.value:8.0f} +- {apart.error:5.0f} bar")
    costs(evaluator, atoms)


if __name__ == "__main__":
    main()
