"""How long a model runs without failure: many liquids in one batch, NPT at 300 K, NVT at 450 K.

    python models/recipes/electrolyte/stability.py electrolyte --work stability --npt 20 --nvt 10

Two runs as of `hff md --replicas`, in WORK/npt and WORK/nvt, and then WORK/stability.csv with a row
per liquid: how long it ran, and how many bonds are broken at the end (densities are those of
`hff equilibrate`: so short a run from a packed box has none). What was stopped goes on where it
was. A liquid that blows up has run for less, and the second run does without it.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.io import read
from liquids import LIQUIDS

from hff_ase.allocator import keep_memory
from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.replicas import ReplicaConfig, ReplicaRun
from hff_ase.dynamics.replicas.reporter import replica_folder
from hff_ase.dynamics.reporters.run_folder import FAILED, FINAL, STATISTICS, RunFolder
from hff_ase.dynamics.reporters.statistics import read_statistics
from hff_ase.files import write_whole

NPT, NVT = 300.0, 450.0  # K
SPLIT = 2.2  # A; a bond of these liquids that is longer is broken (Li is not looked at)
SEED = 7
TABLE = "stability.csv"
COLUMNS = ("liquid", "npt[ps]", "nvt[ps]", "broken")


def run(
    folder: RunFolder, boxes: Sequence[Atoms], stage: str, settings: Mapping[str, Any]
) -> list[RunFolder]:
    """Run all boxes in one batch, or go on with that; the folder of each."""
    if folder.has_run:
        replicas = ReplicaRun.resume(folder.path)
    else:
        own = {"output": str(folder.path), "stages": [stage], "seed": SEED, **settings}
        replicas = ReplicaRun.start(ReplicaConfig.load(own), boxes)
    replicas.run()
    return [replica_folder(folder, k) for k in range(len(boxes))]


def picoseconds(folder: RunFolder | None) -> float:
    """How long a box ran; one that never started did not."""
    return 0.0 if folder is None else float(read_statistics(folder[STATISTICS])["time[ps]"][-1])


def last_frame(folder: RunFolder) -> Atoms:
    """Of a box that came through or blew up."""
    return read(folder[FINAL] if folder[FINAL].exists() else folder[FAILED])


def row_of(name: str, packed: Atoms, cold: RunFolder, hot: RunFolder | None) -> list[str]:
    """What `COLUMNS` name, of one liquid."""
    broken = broken_bonds(last_frame(hot or cold), bonds_of(packed))
    return [name, *(f"{picoseconds(run):.4g}" for run in (cold, hot)), str(broken)]


def broken_bonds(atoms: Atoms, bonds: np.ndarray) -> int:
    """Bonds [2, n_bonds] of the start that are longer than `SPLIT` now."""
    i, j = bonds
    _, lengths = find_mic(atoms.positions[i] - atoms.positions[j], atoms.cell, atoms.pbc)
    return int((lengths > SPLIT).sum())


def bonds_of(atoms: Atoms) -> np.ndarray:
    """Pairs of one molecule closer than a bond's length, [2, n_bonds], in a box as packed."""
    molecule, heavy = atoms.arrays["molecule"], atoms.numbers > 1
    reach = np.where(heavy[:, None] & heavy[None, :], 1.9, 1.25)  # C-S is 1.83 long
    distance = np.linalg.norm(atoms.positions[:, None] - atoms.positions[None, :], axis=-1)
    bonded = (molecule[:, None] == molecule[None, :]) & (distance < reach)
    return np.argwhere(np.triu(bonded, k=1)).T


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--work", type=Path, default=Path("stability"))
    parser.add_argument("--only", nargs="*", choices=list(LIQUIDS), default=list(LIQUIDS))
    parser.add_argument("--atoms", type=int, default=200)
    parser.add_argument("--npt", type=float, default=20.0, help="ps")
    parser.add_argument("--nvt", type=float, default=10.0, help="ps")
    parser.add_argument("--timestep", type=float, default=1.0, help="fs")
    args = parser.parse_args()
    keep_memory()
    packed = {
        name: build_box(LIQUIDS[name], args.atoms, seed=SEED + k)
        for k, name in enumerate(args.only)
    }
    shared = {"model": args.model, "timestep": args.timestep}
    folder = RunFolder(args.work / "npt")
    cold = run(folder, list(packed.values()), f"npt:{args.npt:g}ps", {**shared, "temperature": NPT})
    intact = {name: own for name, own in zip(packed, cold, strict=True) if own[FINAL].exists()}
    hot = run(
        RunFolder(args.work / "nvt"),
        [read(own[FINAL]) for own in intact.values()],
        f"nvt:{args.nvt:g}ps",
        {**shared, "temperature": NVT, "minimize": False},
    )
    heated = dict(zip(intact, hot, strict=True))
    rows = [
        row_of(name, packed[name], own, heated.get(name))
        for name, own in zip(packed, cold, strict=True)
    ]
    text = StringIO()
    csv.writer(text).writerows([COLUMNS, *rows])
    write_whole(args.work / TABLE, text.getvalue().encode())
    print(text.getvalue())


if __name__ == "__main__":
    main()
