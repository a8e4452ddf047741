"""How long a model runs without failure: many liquids in one batch, NPT at 300 K, NVT at 450 K.

    python models/recipes/electrolyte/stability.py electrolyte --work stability --npt 20 --nvt 10

A row of density, temperature and broken bonds per picosecond and liquid goes to stability.csv; a
run that was stopped goes on from its last picosecond. A liquid that blows up has no further rows.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from liquids import LIQUIDS
from sampling import Boxes, Start, boxes
from torch import Tensor

from hff_ase.allocator import keep_memory
from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.files import write_whole

STAGES = (("npt", 300.0), ("nvt", 450.0))
DENSITY = 1.66053907  # amu/A^3 in g/cm3
SPLIT = 2.2  # A; a bond of these liquids that is longer is broken (Li is not looked at)
SEED = 7


class Stability:
    """All liquids through both stages."""

    def __init__(self, calc: HybridFF, names: Sequence[str], n_atoms: int, work: Path) -> None:
        starts = [Start(name, LIQUIDS[name], STAGES[0][1], 1.0) for name in names]
        structures: list[Atoms] = boxes(starts, n_atoms, SEED, calc)
        self.work, self.state = work, work / "state.pt"
        self.bonds = {s.name: bonds_of(a) for s, a in zip(starts, structures, strict=True)}
        self.boxes, self.done = Boxes.of(calc, starts, structures, SEED), 0
        if self.state.exists():
            self.load()

    def load(self) -> None:
        """Take up the last saved picosecond."""
        saved = torch.load(self.state, weights_only=True)
        kept, own = saved["names"], self.boxes
        alive = [k for k, start in enumerate(own.starts) if start.name in kept]
        own.starts = [own.starts[k] for k in alive]
        own.structures = [own.structures[k] for k in alive]
        own.positions, own.momenta, own.cell = saved["positions"], saved["momenta"], saved["cell"]
        own.step, self.done = saved["step"], saved["done"]

    def save(self) -> None:
        """Whole or not at all."""
        own, buffer = self.boxes, BytesIO()
        state = {name: getattr(own, name) for name in ("positions", "momenta", "cell", "step")}
        names = [start.name for start in own.starts]
        torch.save({**state, "names": names, "done": self.done}, buffer)
        write_whole(self.state, buffer.getvalue())

    def run(self, lengths: Sequence[int], timestep: float) -> None:
        """So many picoseconds of each stage."""
        while self.done < sum(lengths) and self.boxes.structures:
            ensemble, kelvin = STAGES[0 if self.done < lengths[0] else 1]
            own = self.boxes
            own.starts = [replace(start, temperature=kelvin) for start in own.starts]
            own.run(round(1000 / timestep), timestep, ensemble, friction=1.0, pressure=1.0)
            self.done += 1
            self.write(ensemble)
            self.save()

    def write(self, ensemble: str) -> None:
        """A row per liquid."""
        own = self.boxes
        path = self.work / "stability.csv"
        new = not path.exists()
        batch = AtomsBatch.from_atoms(own.structures)
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["ps", "ensemble", "liquid", "density", "temperature", "broken"])
            for k, (start, atoms) in enumerate(zip(own.starts, own.structures, strict=True)):
                mine, masses = batch.system == k, torch.as_tensor(atoms.get_masses())
                density = float(masses.sum() / torch.linalg.det(own.cell[k]).abs()) * DENSITY
                kinetic = float((own.momenta[mine] ** 2 / (2 * masses[:, None])).sum())
                kelvin = 2 * kinetic / (3 * len(atoms) * units.kB)
                row = [f"{density:.4f}", f"{kelvin:.0f}"]
                row.append(str(broken_bonds(own.positions[mine], self.bonds[start.name])))
                writer.writerow([self.done, ensemble, start.name, *row])


def broken_bonds(positions: Tensor, bonds: Tensor) -> int:
    """Bonds [2, n_bonds] of the start that are longer than `SPLIT` now."""
    i, j = bonds
    return int((torch.linalg.vector_norm(positions[i] - positions[j], dim=1) > SPLIT).sum())


def bonds_of(atoms: Atoms) -> Tensor:
    """Pairs of one molecule closer than a bond's length, [2, n_bonds], in a box as packed."""
    positions = torch.as_tensor(atoms.positions)
    molecule, heavy = (torch.as_tensor(x) for x in (atoms.arrays["molecule"], atoms.numbers > 1))
    reach = torch.where(heavy[:, None] & heavy[None, :], 1.9, 1.25)  # C-S is 1.83 long
    bonded = (molecule[:, None] == molecule) & (torch.cdist(positions, positions) < reach)
    return torch.nonzero(torch.triu(bonded, diagonal=1)).T


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
        broken = max((int(row["broken"]) for row in mine), default=0)
        print(f"{name}: {len(mine)} ps, density {np.mean(settled):.3f}, broken bonds {broken}")


if __name__ == "__main__":
    main()
