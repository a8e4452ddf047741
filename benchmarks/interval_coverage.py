"""How often error bars hold the truth: runs of known answer, by estimator and length.

    python benchmarks/interval_coverage.py --runs 200 --output docs/coverage.md

Length is in integrated correlation times of the fluctuating quantity (for diffusion and
conductivity of the velocity, for viscosity of the stress). ``kept`` is the share of runs that get
an error bar at all; 68 % and 95 % are how often the interval holds the exact value among these.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from synthetic import KERNELS, integrated_time, series_of

from hff_ase.dynamics.observables.conductivity import MS_PER_CM, conductivity
from hff_ase.dynamics.observables.diffusion import diffusion_of_curves
from hff_ase.dynamics.observables.msd import squared_displacements
from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.observables.onsager import onsager_matrix
from hff_ase.dynamics.observables.statistics import mean_with_error
from hff_ase.dynamics.observables.thermodynamic import permittivity
from hff_ase.dynamics.observables.topology import make_topology
from hff_ase.dynamics.observables.trajectory import Trajectory
from hff_ase.dynamics.observables.viscosity import spectral_viscosity
from hff_ase.units import BAR, COULOMB_CONSTANT

KT = 8.617333262e-5 * 300.0
Runs = Iterable[tuple[Observable, float]]
MOTIONS = {
    "Langevin": lambda t: np.exp(-t / 3.0),
    "cage": lambda t: np.exp(-t) - 0.06 * np.exp(-t / 8.0),
}
MEANS = dict(KERNELS) | {
    "weak slow mode": lambda t: 0.95 * np.exp(-t / 2.0) + 0.05 * np.exp(-t / 80.0)
}


def means(kernel: str, length: float, runs: int, rng: np.random.Generator) -> Runs:
    """Means of one run: density, coordination number."""
    n = max(int(length * integrated_time(MEANS[kernel])), 16)
    for series in series_of(MEANS[kernel], n, runs, rng):
        yield mean_with_error(series), 0.0


def replicas(kernel: str, length: float, runs: int, rng: np.random.Generator) -> Runs:
    """Means of four replicas of a quarter of the length each."""
    n = max(int(0.25 * length * integrated_time(MEANS[kernel])), 8)
    for series in series_of(MEANS[kernel], n, 4 * runs, rng).reshape(runs, 4, n):
        yield mean_with_error(series), 0.0


def dielectric(kernel: str, length: float, runs: int, rng: np.random.Generator) -> Runs:
    """Permittivity; the squared dipole forgets faster than the dipole."""
    n = max(int(length * integrated_time(MEANS[kernel])), 16)
    exact = 1.0 + 4 * np.pi * COULOMB_CONSTANT * 3 * 25.0 / (3 * 1e4 * KT)
    for series in series_of(MEANS[kernel], n, 3 * runs, rng).reshape(runs, 3, n):
        yield permittivity(5.0 * series.T, 1e4, 300.0), exact


def paths(kernel: str, n: int, sites: int, rng: np.random.Generator) -> np.ndarray:
    """Positions [n, sites, 3] whose steps have the kernel's correlation."""
    steps = series_of(MOTIONS[kernel], n, 3 * sites, rng)
    return np.cumsum(steps, axis=1).reshape(sites, 3, n).transpose(2, 0, 1)


def diffusion(kernel: str, length: float, runs: int, rng: np.random.Generator) -> Runs:
    """Self-diffusion of twenty molecules."""
    time = integrated_time(MOTIONS[kernel])
    exact = 10.0 * time * float(MOTIONS[kernel](np.zeros(1))[0])
    n = int(length * time)
    for _ in range(runs):
        curves = squared_displacements(paths(kernel, n, 20, rng), int(0.3 * n))
        yield diffusion_of_curves(curves, 1.0, float(n)), exact


def collective(kernel: str, length: float, runs: int, rng: np.random.Generator) -> Runs:
    """Conductivity of ten free ions."""
    time, sites = integrated_time(MOTIONS[kernel]), 10
    spread = float(MOTIONS[kernel](np.zeros(1))[0])
    exact = MS_PER_CM * sites * time * spread / (1e9 * KT)
    species = ["Li"] * 5 + ["X"] * 5
    charges = [1.0] * 5 + [-1.0] * 5
    topology = make_topology(species, np.arange(sites), species, np.ones(sites), charges)
    n = int(length * time)
    cells = np.repeat(1000.0 * np.eye(3)[None], n, axis=0)
    for _ in range(runs):
        run = Trajectory(paths(kernel, n, sites, rng), cells, np.arange(n) * 1.0, topology)
        yield conductivity(onsager_matrix(run, 300.0, "laboratory")), exact


def shear(kernel: str, length: float, runs: int, rng: np.random.Generator) -> Runs:
    """Viscosity of one run."""
    time = integrated_time(KERNELS[kernel])
    n = int(length * time)
    exact = 8000.0 * BAR / KT * 1e-4 * 500.0**2 * time
    scale = 500.0 * np.array([2**0.5] * 3 + [1.0] * 3)
    for series in series_of(KERNELS[kernel], n, 6 * runs, rng).reshape(runs, 6, n):
        yield spectral_viscosity(series.T * scale, 1.0, 8000.0, 300.0), exact


ESTIMATORS: dict[str, tuple[Callable[..., Runs], tuple[str, ...], tuple[int, ...]]] = {
    "mean of one run": (means, tuple(MEANS), (20, 60, 200, 600)),
    "mean of four replicas": (replicas, tuple(MEANS), (20, 60, 200, 600)),
    "permittivity": (dielectric, ("exponential", "two exponentials"), (60, 200, 600)),
    "self-diffusion": (diffusion, tuple(MOTIONS), (60, 200, 1000)),
    "viscosity, spectrum": (
        shear,
        ("exponential", "two exponentials", "stretched"),
        (60, 200, 1000),
    ),
    "conductivity, Onsager": (collective, tuple(MOTIONS), (60, 200, 1000)),
}


def row(name: str, kernel: str, length: int, found: list[tuple[Observable, float]]) -> str:
    """A line of the table."""
    kept = [(one, truth) for one, truth in found if not one.refused]
    shares = []
    for level in (0.6827, 0.95):
        inside = [one.interval(level)[0] < truth < one.interval(level)[1] for one, truth in kept]
        shares.append(f"{100 * np.mean(inside):.0f}" if kept else "-")
    part = f"{100 * len(kept) / len(found):.0f}"
    return f"| {name} | {kernel} | {length} | {part} | {shares[0]} | {shares[1]} |"


def main() -> None:
    """Print the table, or write it where the page has its marker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", help="part of an estimator's name")
    options = parser.parse_args()
    lines = [
        "| estimator | correlation | length / correlation time | kept % | 68 % | 95 % |",
        "|---|---|---|---|---|---|",
    ]
    for name, (runs_of, kernels, lengths) in ESTIMATORS.items():
        if options.only and options.only not in name:
            continue
        for kernel in kernels:
            for length in lengths:
                rng = np.random.default_rng(options.seed)
                lines.append(
                    row(name, kernel, length, list(runs_of(kernel, length, options.runs, rng)))
                )
                print(lines[-1], flush=True)
    if options.output is not None:
        text = options.output.read_text(encoding="utf-8")
        head = text.split("<!-- table -->")[0]
        options.output.write_text(head + "<!-- table -->\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
