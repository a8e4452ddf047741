"""Viscosity and diffusion of the Lennard-Jones liquid near its triple point, by every estimator.

    python benchmarks/lennard_jones_liquid.py --work lj rest --time 1000
    python benchmarks/lennard_jones_liquid.py --work lj driven --edges 1 1.5 2 --shears 0.02 0.04
    python benchmarks/lennard_jones_liquid.py --work lj table

rho* = 0.8442, T* = 0.722, plain cut at 2.5, steps of 0.004 tau. ``rest`` runs replicas of 500 atoms
(viscosity from the spectrum of the stress and by Green and Kubo, diffusion), ``driven`` boxes of a
square base of 500 atoms stretched along z (number of base edges) under cosine accelerations (in
epsilon/(m sigma)). Published: viscosity 3.239 +- 0.025 (1372 atoms, plain cut, STACIE's pages),
3.277 +- 0.098 (Meier 2004), 3.268 +- 0.055 (Viscardi 2007).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.observables.driven import at_rest
from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.properties.analysis import analyse
from hff_ase.dynamics.properties.folders import read_folder
from hff_ase.dynamics.replicas.config import ReplicaConfig
from hff_ase.dynamics.replicas.replica_run import ReplicaRun
from hff_ase.kept import Kept
from hff_ase.kernels.pair import ElementTables
from hff_ase.kernels.pair.tables import Table
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest
from hff_ase.potential import HybridPotential
from hff_ase.terms.pairwise import (
    ElementPairTerm,
    KernelInput,
    PresentElements,
    present_elements,
    share_pairs,
)

EPSILON, SIGMA, MASS = 119.8 * units.kB, 3.405, 39.948  # argon
DENSITY, KELVIN, CUT = 0.8442, 0.722 * 119.8, 2.5 * SIGMA
TAU = SIGMA * math.sqrt(MASS / EPSILON) / (1000 * units.fs)  # ps
STEP = 0.004 * TAU * 1000  # fs
# mPa s; eV ps/A^3 = 1.602e11 Pa * 1e-12 s
VISCOSITY = EPSILON * TAU / SIGMA**3 * 160.21766
DIFFUSION = SIGMA**2 / TAU * 10.0  # 1e-9 m^2/s
SETTLE = 20.0  # tau
_TABLES: Kept[Table] = Kept()


class LennardJones(ElementPairTerm):
    """4 eps [(s/r)^12 - (s/r)^6] below a plain cut."""

    kind = "lennard_jones_benchmark"
    pair_request = PairRequest(CUT, "half")

    def requests(self) -> tuple[PairRequest, ...]:
        return (self.pair_request,)

    def prepare(self, batch: AtomsBatch) -> PresentElements:
        return present_elements(batch.numbers)

    def kernel_input(self, batch: AtomsBatch, neighbors: Neighborhood) -> KernelInput | None:
        present: PresentElements = neighbors.plan(self)
        table = _TABLES.of(self, lambda: present.tabulate(energy, CUT), present.key)
        return KernelInput(ElementTables(present.kind, table, len(present.key)))

    def pair_energies(self, batch: AtomsBatch, neighbors: Neighborhood) -> Tensor:
        pairs = neighbors.pairs(self.pair_request)
        within = torch.where(pairs.distance < CUT, energy(pairs.distance), 0.0)
        return share_pairs(within, pairs, batch.n_atoms)


def energy(r: Tensor) -> Tensor:
    """eV, of distances in Angstrom."""
    s6 = (SIGMA / r) ** 6
    return 4.0 * EPSILON * (s6 * s6 - s6)


def liquid(edge: float = 1.0) -> Atoms:
    """A crystal of the density, which melts at once: 500 atoms for each base edge along z."""
    atoms = bulk("Ar", "fcc", a=1.0, cubic=True) * (5, 5, round(5 * edge))
    scale = (len(atoms) / DENSITY / atoms.get_volume()) ** (1 / 3) * SIGMA
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    atoms.positions += np.random.default_rng(0).normal(0, 0.2, atoms.positions.shape)
    return atoms


def run(folder: Path, atoms: Atoms, tau: float, replicas: int, shear: float = 0.0) -> None:
    """A run of so many tau, continued where it was stopped."""
    calc = HybridFF(HybridPotential({"lj": LennardJones()}), dtype="float64", skin=1.0)
    if (folder / "checkpoint.npz").is_file():
        ReplicaRun.resume(folder, calc).run()
        return
    times = [SETTLE * TAU] if not shear else []
    stages = [f"nvt:{time}ps" for time in times] + [f"nvt-nhc:{tau * TAU}ps"]
    shared = MDConfig(
        output=str(folder),
        stages=stages,
        temperature=KELVIN,
        timestep=STEP,
        tdamp=250.0,
        shear=shear,
        pressure_interval=None if shear else 2,
        statistics_interval=10,
        trajectory_interval=100,
        checkpoint_interval=20000,
        max_displacement=3.0,
        bond_watch="off",
        plot=False,
        progress=False,
    )
    config = ReplicaConfig(shared, (None,), (KELVIN,), (None,), asked=replicas)
    ReplicaRun.start(config, [atoms], calc).run()


def driven(work: Path, edges: list[float], shears: list[float], tau: float) -> None:
    """Sheared boxes of every length under every acceleration."""
    unit = SIGMA / TAU**2
    for edge in edges:
        for shear in shears:
            run(work / f"driven-{edge:g}-{shear:g}", liquid(edge), tau, 2, shear * unit)


def table(work: Path) -> None:
    """What the runs say, in reduced units."""
    rest = work / "rest"
    if rest.is_dir():
        (state,) = read_folder(rest)
        found = analyse([state], ["viscosity", "diffusion"], convergence=False).results[0]
        for name, one in found.quantities.items():
            unit = VISCOSITY if one.found.unit == "mPa s" else DIFFUSION
            say(name, one.found, unit)
    flows = []
    for folder in sorted(work.glob("driven-*")):
        (state,) = read_folder(folder)
        found = analyse([state], ["driven-viscosity"], convergence=False).results[0]
        one = found.quantities["driven_viscosity"].found
        say(folder.name, one, VISCOSITY)
        flows += [] if one.refused else [one]
    if len(flows) > 2:
        say("driven, extrapolated", at_rest(flows), VISCOSITY)


def say(name: str, found: Observable, unit: float) -> None:
    """One line, reduced."""
    length = found.length / TAU
    print(
        f"{name:<32} {found.value / unit:8.4f} +- {found.error / unit:.4f}   {length:8.0f} tau  "
        f"{found.method} {found.reason}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("what", choices=["rest", "driven", "table"])
    parser.add_argument("--time", type=float, default=1000.0, help="of each replica, tau")
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--edges", type=float, nargs="+", default=[1.0, 1.6, 2.4])
    parser.add_argument("--shears", type=float, nargs="+", default=[0.05, 0.1])
    args = parser.parse_args()
    if args.what == "rest":
        run(args.work / "rest", liquid(), args.time, args.replicas)
    elif args.what == "driven":
        driven(args.work, args.edges, args.shears, args.time)
    else:
        table(args.work)


if __name__ == "__main__":
    main()
