"""Errors on the held-out frames of `electrolyte-preview`, beside what no conservative model can do.

    python benchmarks/preview_errors.py --frames FOLDER --checkpoint benchmark.pt

The labels were made with forces and stress at fixed charges. The imported checkpoint in exact mode
differs from them by the part that is no gradient (the floor); in published mode by the accuracy of
the labels themselves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hff_ase import HybridFF
from hff_ase.allocator import keep_memory
from hff_ase.data import read_folder, split_by_segment
from hff_ase.training.report import collect
from hff_ase.training.tables import markdown_tables

SEGMENT, HELD_OUT = 7, (3, 10)  # frames per segment, and the segments that were never trained on


def main() -> None:
    """Print a table per calculator."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--model", default="electrolyte-preview")
    parser.add_argument("--checkpoint", type=Path, help="the labels' BAMBOO checkpoint")
    parser.add_argument("--every", type=int, default=1, help="use every so many frames")
    args = parser.parse_args()
    keep_memory()
    files = read_folder(args.frames)
    frames = [a for of_file in files for a in split_by_segment(of_file, SEGMENT, HELD_OUT)[1]]
    calculators = {args.model: HybridFF.load(args.model)}
    if args.checkpoint:
        for name, response in (("exact gradient", True), ("as published", False)):
            calculators[f"checkpoint, {name}"] = HybridFF.from_bamboo(
                args.checkpoint, charge_response=response
            )
    for name, calculator in calculators.items():
        print(f"\n## {name}\n")
        print(markdown_tables(collect(calculator.potential, frames[:: args.every])))


if __name__ == "__main__":
    main()
