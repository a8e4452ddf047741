"""The card of a model: what it is (a text), its errors on held-out and left-out frames, stability.

    python models/recipes/electrolyte/card.py model.hff --text about.md --work WORK \\
        --stability WORK/stability -o electrolyte.md
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from stability import TABLE

from hff_ase.allocator import keep_memory
from hff_ase.calculators import HybridFF
from hff_ase.data import read_frames
from hff_ase.evaluation.report import collect
from hff_ase.evaluation.tables import tables
from hff_ase.files import write_whole

SETS = {  # those of them that the folder holds
    "held_out": "Held out: segments of trajectories of the compositions it was trained on",
    "left_out": "Left out: compositions that nothing was ever trained on",
    "test": "Test: frames that were neither trained on nor looked at in training",
}


def errors_of(model: Path, work: Path, every: int) -> list[str]:
    """A section for each set of frames."""
    calculator, lines = HybridFF.load(model), []
    for name, title in SETS.items():
        paths = sorted(work.glob(f"{name}.*"))
        if not paths:
            continue
        frames = read_frames(paths[0])[::every]
        found = collect(calculator, frames)
        lines += ["", f"## {title}", "", f"{len(frames)} frames."]
        for table in tables(found)[:3]:
            lines += ["", f"{table.title}:", "", table.markdown()]
    return lines


def stability_of(folder: Path) -> list[str]:
    """How long every liquid ran, and broken bonds."""
    lines = [
        "",
        "## Molecular dynamics",
        "",
        "Small boxes from random packing, 1 fs: ps without a failure, bonds broken at the end.",
        "",
        "| liquid | NPT 300 K (ps) | NVT 450 K (ps) | broken bonds |",
        "|---|---|---|---|",
    ]
    for row in csv.DictReader((folder / TABLE).open()):
        cells = (row["liquid"], row["npt[ps]"], row["nvt[ps]"], row["broken"])
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path, required=True, help="markdown that comes first")
    parser.add_argument("--work", type=Path, required=True, help="folder of held_out.db ...")
    parser.add_argument("--stability", type=Path, help="folder of stability.csv")
    parser.add_argument("--every", type=int, default=1, help="use every n-th frame")
    parser.add_argument("--output", "-o", type=Path, required=True)
    args = parser.parse_args()
    keep_memory()
    lines = [args.text.read_text().rstrip(), *errors_of(args.model, args.work, args.every)]
    if args.stability is not None:
        lines += stability_of(args.stability)
    write_whole(args.output, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
