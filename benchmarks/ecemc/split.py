"""Split the EC/EMC boxes once: 120 to train on, 15 to validate on, 15 that are only tested on.

    python benchmarks/ecemc/split.py train.xyz

Boxes are sorted by temperature and cut into tens; of each ten, one drawn at random is for
validation, another for the test, so that all three sets cover all temperatures and densities. The
isolated atoms belong to every program that wants them. Writes split.json beside this file: frame
numbers, the seed, and the SHA-256 of the frames' file, which readers check.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
from ase.io import read

SPLIT = Path(__file__).parent / "split.json"
TEN = 10


def main() -> None:
    """Make the split, write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("--seed", type=int, default=2023)
    parser.add_argument("--output", type=Path, default=SPLIT)
    args = parser.parse_args()
    frames = read(args.frames, ":")
    isolated = [k for k, atoms in enumerate(frames) if len(atoms) == 1]
    boxes = [k for k, atoms in enumerate(frames) if len(atoms) > 1]
    boxes.sort(key=lambda k: (float(frames[k].info["temperature"]), k))
    generator = np.random.default_rng(args.seed)
    sets: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for first in range(0, len(boxes), TEN):
        validation, test, *train = generator.permutation(boxes[first : first + TEN]).tolist()
        sets["validation"].append(validation)
        sets["test"].append(test)
        sets["train"] += train
    written = {
        "file": args.frames.name,
        "sha256": hashlib.sha256(args.frames.read_bytes()).hexdigest(),
        "seed": args.seed,
        "isolated": isolated,
        **{name: sorted(indices) for name, indices in sets.items()},
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in written.items()]
    args.output.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
