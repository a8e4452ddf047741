"""How long a model runs without failure: many liquids in one batch, NPT at 300 K, NVT at 450 K.

    python models/recipes/electrolyte/stability.py electrolyte --work stability --npt 20 --nvt 10

A row of density, temperature and broken bonds per picosecond and liquid goes to stability.csv; a
run that was stopped goes on from its last picosecond. Atoms that meet end it and are named.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from liquids import LIQUIDS
from sampling import Start, boxes, conditions_of, loop_at, run, thermal_momenta
from torch import Tensor

from hff_ase.allocator import keep_memory
from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.engine import Noise, PotentialForces
from hff_ase.files import write_whole

STAGES = (("npt", 300.0), ("nvt", 450.0))
DENSITY = 1.66053907  # amu/A^3 in g/cm3
SPLIT = 2.2  # A; a bond of these liquids that is longer is broken (Li is not looked at)


@dataclass
class Place:
    """Where a run is: positions [n_atoms, 3], momenta, cells, picoseconds done."""

    positions: Tensor
    momenta: Tensor
    cell: Tensor
    done: int = 0

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        buffer = BytesIO()
        torch.save(vars(self), buffer)
        write_whole(path, buffer.getvalue())


class Stability:
    """All liquids through both stages."""

    def __init__(self, calc: HybridFF, names: Sequence[str], n_atoms: int, work: Path) -> None:
        self.starts = [Start(name, LIQUIDS[name], STAGES[0][1], 1.0) for name in names]
        self.structures: list[Atoms] = boxes(self.starts, n_atoms, 7, calc)
        self.batch = AtomsBatch.from_atoms(self.structures)
        self.forces = PotentialForces(calc.potential, calc.skin)
        self.work, self.state = work, work / "state.pt"
        self.bonds = bonds_of(self.batch, torch.cat([molecules(a) for a in self.structures]))
        self.masses = torch.as_tensor(np.concatenate([a.get_masses() for a in self.structures]))

    def start(self) -> Place:
        """The last saved place, or relaxed boxes with random momenta."""
        if self.state.exists():
            return Place(**torch.load(self.state, weights_only=True))
        momenta = thermal_momenta(self.structures, self.starts, seed=7)
        return Place(self.batch.positions, momenta, self.batch.cell)

    def run(self, lengths: Sequence[int], timestep: float) -> None:
        """So many picoseconds of each stage."""
        place = self.start()
        while place.done < sum(lengths):
            stage = 0 if place.done < lengths[0] else 1
            place = self.picosecond(place, *STAGES[stage], timestep)
            place.save(self.state)

    def picosecond(self, at: Place, ensemble: str, temperature: float, timestep: float) -> Place:
        """One picosecond from a place; a row per liquid."""
        target = torch.full((self.batch.n_systems,), temperature, dtype=torch.float64)
        conditions = conditions_of(
            self.batch, self.structures, target, 1.0, friction=1.0, timestep=timestep
        )
        noise = Noise(1000 + at.done, self.batch)
        place = at.positions, at.momenta, at.cell
        loop = loop_at(ensemble, conditions, self.forces, place, 0, noise)
        run(loop, round(1000 / timestep))
        after = replace(
            at,
            positions=loop.state.positions,
            momenta=loop.state.momenta,
            cell=loop.state.cell,
            done=at.done + 1,
        )
        kinetic = self.batch.system_sum((after.momenta**2).sum(1) / (2 * self.masses))
        kelvin = 2 * kinetic / (3 * self.batch.counts * units.kB)
        self.write(after, ensemble, kelvin)
        return after

    def write(self, at: Place, ensemble: str, kelvin: Tensor) -> None:
        """A row per liquid."""
        volume = torch.linalg.det(at.cell).abs()
        density = self.batch.system_sum(self.masses) / volume * DENSITY
        broken = self.broken_bonds(at.positions)
        path = self.work / "stability.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["ps", "ensemble", "liquid", "density", "temperature", "broken"])
            for k, start in enumerate(self.starts):
                row = [f"{float(density[k]):.4f}", f"{float(kelvin[k]):.0f}", int(broken[k])]
                writer.writerow([at.done, ensemble, start.name, *row])

    def broken_bonds(self, positions: Tensor) -> Tensor:
        """Bonds of the start that are longer than `SPLIT` now, [n_systems]."""
        i, j = self.bonds
        long = torch.linalg.vector_norm(positions[i] - positions[j], dim=1) > SPLIT
        return torch.bincount(self.batch.system[i][long], minlength=self.batch.n_systems)


def molecules(atoms: Atoms) -> Tensor:
    """Molecule of every atom [n_atoms]."""
    return torch.as_tensor(atoms.arrays["molecule"])


def bonds_of(batch: AtomsBatch, molecule: Tensor) -> Tensor:
    """Pairs of one molecule closer than a bond's length, [2, n_bonds], in boxes as packed."""
    found = []
    for k in range(batch.n_systems):
        mine = torch.nonzero(batch.system == k)[:, 0]
        same = molecule[mine][:, None] == molecule[mine][None, :]
        heavy = batch.numbers[mine] > 1
        reach = torch.where(heavy[:, None] & heavy[None, :], 1.9, 1.25)  # C-S is 1.83 long
        bonded = same & (torch.cdist(batch.positions[mine], batch.positions[mine]) < reach)
        found.append(mine[torch.nonzero(torch.triu(bonded, diagonal=1)).T])
    return torch.cat(found, dim=1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--work", type=Path, default=Path("stability"))
    parser.add_argument("--only", nargs="*", choices=list(LIQUIDS), default=list(LIQUIDS))
    parser.add_argument("--atoms", type=int, default=200)
    parser.add_argument("--npt", type=int, default=20, help="ps")
    parser.add_argument("--nvt", type=int, default=10, help="ps")
    parser.add_argument("--timestep", type=float, default=1.0, help="fs")
    args = parser.parse_args()
    keep_memory()
    args.work.mkdir(parents=True, exist_ok=True)
    checks = Stability(HybridFF.load(args.model), args.only, args.atoms, args.work)
    checks.run((args.npt, args.nvt), args.timestep)
    rows = list(csv.DictReader((args.work / "stability.csv").open()))
    for name in args.only:
        mine = [row for row in rows if row["liquid"] == name]
        settled = [float(r["density"]) for r in mine if r["ensemble"] == "npt"][args.npt // 2 :]
        broken = max(int(row["broken"]) for row in mine)
        print(f"{name}: {len(mine)} ps, density {np.mean(settled):.3f}, broken bonds {broken}")


if __name__ == "__main__":
    main()
