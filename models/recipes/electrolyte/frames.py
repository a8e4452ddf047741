"""The labelled boxes that everything starts from, and what is kept apart from training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ase import Atoms
from liquids import LEFT_OUT
from teacher import label

from hff_ase.calculators import HybridFF
from hff_ase.data import read_frames, write_database

SEGMENT = 7  # frames of one continuous piece of trajectory
HELD_OUT = (3, 10)  # segments of each file that are never trained on
SETS = ("train", "validation", "held_out", "left_out")


def make_sets(boxes: Path, teacher: HybridFF, folder: Path) -> None:
    """Relabel the boxes with exact gradients and write each set, once.

    held_out: whole segments of the compositions that are trained on; left_out: compositions that
    nothing is ever trained on; validation: a few of the first, watched while training.
    """
    if all((folder / f"{name}.db").exists() for name in SETS):
        return
    sets: dict[str, list[Atoms]] = {name: [] for name in SETS}
    for path in sorted(boxes.glob("*.extxyz*")):
        name = path.name.split(".")[0]
        frames = label([named(atoms, name) for atoms in read_frames(path)], teacher)
        if name in LEFT_OUT:
            sets["left_out"] += frames
            continue
        for index, atoms in enumerate(frames):
            held_out = index // SEGMENT in HELD_OUT
            sets["held_out" if held_out else "train"].append(atoms)
    sets["validation"] = sets["held_out"][::41]
    for name, frames in sets.items():
        write_database(frames, folder / f"{name}.db")


def named(atoms: Atoms, system: str) -> Atoms:
    """The atoms, said to be of a system."""
    atoms.info["system"] = system
    return atoms


def most_uncertain(
    frames: Sequence[Atoms], spreads: Sequence[float], number: int, per_system: int
) -> list[Atoms]:
    """The frames on which a committee disagrees most, not too many of any system."""
    chosen: list[Atoms] = []
    taken: dict[str, int] = {}
    for index in sorted(range(len(frames)), key=lambda k: -spreads[k]):
        system = str(frames[index].info["system"])
        if len(chosen) < number and taken.get(system, 0) < per_system:
            taken[system] = taken.get(system, 0) + 1
            chosen.append(frames[index])
    return chosen
