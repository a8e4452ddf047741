"""How far models of one kind part, on forces and on densities, before and after distillation.

    python benchmarks/ensemble_spread.py --teachers a.hff b.hff c.hff \\
        --students x.hff y.hff z.hff --frames held_out.db --folder spread

Forces: root mean square over all atoms of the spread of their force over the models, as
`Committee` has it, the error of one model and that of their mean. Densities: every model runs all
liquids at constant pressure in one batch (`hff md --replicas`), from the same packed boxes; beside
the standard deviation over the models stands the error of a single run. A study that was stopped
goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from performance_page import markdown

from hff_ase.allocator import keep_memory
from hff_ase.calculators.committee import Committee
from hff_ase.data import read_frames
from hff_ase.data.splits import chunks
from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.replicas import ReplicaConfig, ReplicaRun
from hff_ase.dynamics.rundir import SUMMARY, RunFolder

ATOMS_AT_ONCE = 4000
LIQUIDS = ("EC", "DMC", "EMC", "ethanol", "1.0 M LiPF6 in EC:DMC 1:1 v/v")


def force_rows(groups: dict[str, list[Path]], frames: list[Atoms]) -> list[list[str]]:
    """Spread, and errors of the models and of their mean, meV/Angstrom."""
    labels = np.concatenate([atoms.get_forces() for atoms in frames])
    rows = []
    for name, paths in groups.items():
        committee = Committee.load(paths)
        members = forces_of(committee, frames)
        spread = np.sqrt(np.mean(np.var(members, axis=0).sum(-1)))
        errors = [np.sqrt(np.mean((own - labels) ** 2)) for own in members]
        mean = np.sqrt(np.mean((np.mean(members, axis=0) - labels) ** 2))
        cells = (spread, float(np.mean(errors)), mean)
        rows.append([name, str(len(paths)), *(f"{1e3 * value:.1f}" for value in cells)])
    return rows


def forces_of(committee: Committee, frames: list[Atoms]) -> np.ndarray:
    """Forces of every model on all atoms, [n_models, n_atoms, 3]."""
    found = []
    for part in chunks(frames, ATOMS_AT_ONCE):
        for members in committee.evaluate_members(part):
            found.append(np.array([results["forces"] for results in members]))
    return np.concatenate(found, axis=1)


def densities(
    model: Path, boxes: list[Atoms], folder: Path, times: Sequence[str]
) -> list[tuple[float, float]]:
    """Mean and error of the density of every liquid, g/cm3, over the last of the times."""
    if RunFolder(folder).has_run:
        run = ReplicaRun.resume(folder)
    else:
        settings: dict[str, Any] = {
            "model": str(model),
            "stages": [f"npt:{time}" for time in times],
            "output": str(folder),
            "timestep": 1.0,
            "progress": False,
        }
        run = ReplicaRun.start(ReplicaConfig.from_settings(settings), boxes)
    run.run()
    summary = yaml.safe_load((folder / SUMMARY).read_text())
    found = [entry["averages"]["density[g/cm^3]"] for entry in summary["conditions"]]
    return [(one["mean"], one["error"] or 0.0) for one in found]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teachers", type=Path, nargs="+", required=True)
    parser.add_argument("--students", type=Path, nargs="+", required=True)
    parser.add_argument("--frames", type=Path, required=True, help="labelled frames")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("spread"))
    parser.add_argument("--liquids", nargs="+", default=list(LIQUIDS), help="recipes of hff build")
    parser.add_argument("--atoms", type=int, default=120, help="of each box")
    parser.add_argument("--settle", default="5ps", help="before densities are averaged")
    parser.add_argument("--time", default="20ps")
    args = parser.parse_args()
    keep_memory()
    groups = {"teachers": args.teachers, "students": args.students}
    frames = read_frames(args.frames)[:: args.every]
    header = ["", "models", "spread, meV/A", "error of one", "error of their mean"]
    print(markdown(header, force_rows(groups, frames)), "\n", flush=True)
    boxes = [build_box(recipe, args.atoms, seed=5) for recipe in args.liquids]
    rows = []
    found = {
        name: [
            densities(path, boxes, args.folder / f"{name}-{k}", (args.settle, args.time))
            for k, path in enumerate(own)
        ]
        for name, own in groups.items()
    }
    for k, recipe in enumerate(args.liquids):
        row = [recipe]
        for own in found.values():
            values = np.array([one[k] for one in own])
            noise = np.sqrt(np.mean(values[:, 1] ** 2))
            width = np.std(values[:, 0], ddof=1)
            row += [f"{values[:, 0].mean():.3f}", f"{width:.3f}", f"{noise:.3f}"]
        rows.append(row)
    names = [f"{name}: {what}" for name in groups for what in ("density", "spread", "error of one")]
    print(markdown(["liquid", *names], rows))


if __name__ == "__main__":
    main()
