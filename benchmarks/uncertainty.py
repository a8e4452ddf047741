"""How far the spread of two models tells the error of one of them: calibration and threshold.

    python benchmarks/uncertainty.py --weights weights.npz --boxes FOLDER --outside box.extxyz ...

Boxes of the compositions that the models were trained on (their held-out segments) and of those
that were left out are labelled by the teacher, the published BAMBOO weights. For every atom stands
the spread of the force of `--model` and `--companion`, as `Committee` has it, beside the error of
`--model`; the table has the root mean square of the error in bins of the spread. The factor that
makes the spread an error bar is the ratio of their root mean squares. `--outside`: boxes of
molecules outside the training, for which there is no label and only the spread. The threshold lies
above the mean spread of every frame inside. Figure and numbers go to `--output`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from figures import draw

from hff_ase.allocator import keep_memory
from hff_ase.calculators import HybridFF
from hff_ase.calculators.committee import Committee
from hff_ase.calculators.spread import spread_of
from hff_ase.data import read_frames

sys.path.insert(0, str(Path(__file__).parents[1] / "models" / "recipes" / "electrolyte"))
from frames import HELD_OUT, SEGMENT
from liquids import LEFT_OUT

BATCH, BINS = 12, 12
Frames = dict[str, list[Atoms]]


def frames_of(boxes: Path, every: int) -> Frames:
    """Frames that nothing was trained on, by what they are."""
    found: Frames = {"held out": [], "left out": []}
    for path in sorted(boxes.glob("*.extxyz*")):
        frames = read_frames(path)
        if path.name.split(".")[0] in LEFT_OUT:
            found["left out"] += frames[::every]
        else:
            kept = [a for k, a in enumerate(frames) if k // SEGMENT in HELD_OUT]
            found["held out"] += kept[::every]
    return found


def spreads_of(committee: Committee, frames: list[Atoms]) -> tuple[list[np.ndarray], np.ndarray]:
    """The spread of every atom, by frame, and the first member's forces, all atoms in a row."""
    spreads, forces = [], []
    for first in range(0, len(frames), BATCH):
        part = frames[first : first + BATCH]
        members = committee.evaluate_members(part)
        for found in members:
            spreads.append(spread_of(found).forces)
            forces.append(np.asarray(found[0]["forces"]))
    return spreads, np.concatenate(forces)


def truth_of(teacher: HybridFF, frames: list[Atoms]) -> np.ndarray:
    """The teacher's forces, all atoms in a row."""
    found = []
    for first in range(0, len(frames), BATCH):
        found += [one["forces"] for one in teacher.evaluate(frames[first : first + BATCH])]
    return np.concatenate(found)


def binned(spread: np.ndarray, error: np.ndarray) -> dict[str, list[float]]:
    """Root mean squares of spread and error in bins of equal numbers of atoms, sorted by spread."""
    parts = np.array_split(np.argsort(spread), BINS)
    rms = [(np.sqrt((spread[p] ** 2).mean()), np.sqrt((error[p] ** 2).mean())) for p in parts]
    return {"spread": [float(s) for s, _ in rms], "error": [float(e) for _, e in rms]}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="of the teacher")
    parser.add_argument("--boxes", type=Path, required=True, help="folder of labelled boxes")
    parser.add_argument("--model", default="electrolyte")
    parser.add_argument("--companion", default="electrolyte-e3")
    parser.add_argument("--outside", type=Path, nargs="*", default=[], help="boxes without labels")
    parser.add_argument("--every", type=int, default=1, help="use every n-th frame")
    parser.add_argument("--output", "-o", type=Path, default=Path("uncertainty"))
    args = parser.parse_args()
    keep_memory()
    committee = Committee.load([args.model, args.companion])
    teacher = HybridFF.from_bamboo(args.weights)
    report: dict[str, Any] = {"bins": {}, "frames": {}}
    squares = np.zeros(2)
    for name, frames in frames_of(args.boxes, args.every).items():
        spreads, forces = spreads_of(committee, frames)
        spread = np.concatenate(spreads)
        error = np.linalg.norm(forces - truth_of(teacher, frames), axis=1)
        report["bins"][name] = binned(spread, error)
        report["frames"][name] = [[float(s.mean()), float(s.max())] for s in spreads]
        squares += [(spread**2).sum(), (error**2).sum()]
        print(f"{name}: {len(frames)} frames, rms spread {np.sqrt((spread**2).mean()):.4f}, "
              f"rms error {np.sqrt((error**2).mean()):.4f} eV/A")  # fmt: skip
    for path in args.outside:
        boxes = read(path, index=":")
        spreads, _ = spreads_of(committee, boxes)
        report["frames"][path.stem] = [[float(s.mean()), float(s.max())] for s in spreads]
    report["factor"] = float(np.sqrt(squares[1] / squares[0]))
    inside = [frame for name in report["bins"] for frame in report["frames"][name]]
    report["threshold"] = float(max(mean for mean, _ in inside))
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "uncertainty.json").write_text(json.dumps(report, indent=1) + "\n")
    draw("uncertainty", args.output / "uncertainty.png", results=args.output)
    for name, frames in report["frames"].items():
        means = np.array(frames)
        print(f"{name:20s} mean {means[:, 0].mean():.3f} (to {means[:, 0].max():.3f}), largest "
              f"{means[:, 1].max():.2f} eV/A")  # fmt: skip
    print(f"error = {report['factor']:.2f} x spread; threshold {report['threshold']:.3f} eV/A")


if __name__ == "__main__":
    main()
