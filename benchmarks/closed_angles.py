"""What it costs to close or open each bond angle of solvents and anions, against BAMBOO's weights.

    python benchmarks/closed_angles.py electrolyte --teacher weights.npz

Every kind of angle of every molecule in vacuum is turned from its own value down to 40 degrees (up
to 175), all else as it is built, as long as no two atoms come nearer than 0.8 of their covalent
distance.
A hole is a turn that gains energy where the teacher rises: how deep it is below the barrier before
it, and how high that barrier is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from hff_ase import HybridFF
from hff_ase.dynamics.build import find_solvent
from hff_ase.topology import perceive

SOLVENTS = ("EC", "PC", "DMC", "EMC", "DEC", "VC", "FEC", "EA", "ethanol", "acetone", "Novec7000")
STEP, CLOSED, OPENED = 5.0, 40.0, 175.0  # degrees
NEAREST = 0.8  # of the covalent distance
DEEP = 0.05  # eV, what counts as a hole


class Turn(NamedTuple):
    """One angle of one molecule: what it is called, its values in degrees, the structures."""

    name: str
    angles: list[float]
    frames: list[Atoms]


def turns(name: str, atoms: Atoms) -> Iterator[Turn]:
    """The angles of a molecule, one of each kind (elements of the three and of what moves)."""
    topology = perceive(atoms)
    seen: set[tuple[object, ...]] = set()
    symbols = atoms.get_chemical_symbols()
    for j, around in enumerate(topology.neighbors):
        for i in around:
            moved = topology.beyond(j, i)
            for k in around:
                environment = tuple(sorted(symbols[n] for n in around))
                kind = symbols[i], symbols[j], symbols[k], len(moved), environment
                if k in moved or kind in seen:
                    continue
                seen.add(kind)
                start = float(atoms.get_angle(k, j, i))
                for sign, last in ((-1.0, CLOSED), (1.0, OPENED)):
                    angles, frames = [], []
                    for angle in np.arange(start, last, sign * STEP):
                        copy = atoms.copy()
                        copy.set_angle(k, j, i, float(angle), indices=moved)
                        if not apart(copy, moved):
                            break
                        angles.append(float(angle))
                        frames.append(copy)
                    if len(frames) > 2:
                        label = "-".join((symbols[i], symbols[j], symbols[k]))
                        yield Turn(f"{name} {label}", angles, frames)


def apart(atoms: Atoms, moved: list[int]) -> bool:
    """Whether what has moved keeps off the rest."""
    rest = np.setdiff1d(np.arange(len(atoms)), moved)
    radii = covalent_radii[atoms.numbers]
    distance = atoms.get_all_distances()[np.ix_(moved, rest)]
    least = NEAREST * (radii[moved, None] + radii[rest])
    return bool((distance > least).all())


def hole(energies: np.ndarray, teacher: np.ndarray) -> tuple[float, float]:
    """Depth of the deepest hole, and the barrier before it; eV. Only where the teacher rises."""
    rises = np.maximum.accumulate(teacher) - teacher < DEEP
    barrier = np.maximum.accumulate(energies)
    depth = np.where(rises, barrier - energies, 0.0)
    k = int(depth.argmax())
    return float(depth[k]), float(barrier[k] - energies[0])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--teacher", type=Path, required=True, help="BAMBOO weights")
    args = parser.parse_args()
    found = [turn for name in SOLVENTS for turn in turns(name, find_solvent(name).atoms())]
    frames = [atoms for turn in found for atoms in turn.frames]
    ends = np.cumsum([len(turn.frames) for turn in found])[:-1]

    def energies(calculator: HybridFF) -> list[np.ndarray]:
        values = np.array([float(given["energy"]) for given in calculator.evaluate(frames)])
        return [part - part[0] for part in np.split(values, ends)]

    teacher = energies(HybridFF.from_bamboo(args.teacher))
    print(f"{len(found)} turns of {len(SOLVENTS)} molecules, {len(frames)} structures")
    for model in args.models:
        rows = []
        own = energies(HybridFF.load(model))
        for turn, mine, its in zip(found, own, teacher, strict=True):
            depth, barrier = hole(mine, its)
            if depth > DEEP:
                rows.append((barrier, depth, turn, its.max()))
        errors = np.concatenate(own) - np.concatenate(teacher)
        low = np.concatenate(teacher) < 3.0
        print(
            f"\n{model}: {len(rows)} with a hole; RMS error below 3 eV {errors[low].std():.3f} eV"
        )
        for barrier, depth, turn, highest in sorted(rows, key=lambda row: row[:2]):
            ends_ = f"{turn.angles[0]:.0f} -> {turn.angles[-1]:.0f}"
            print(
                f"  {turn.name:<24} {ends_:<12} barrier {barrier:6.2f} eV, hole {depth:6.2f} eV "
                f"below it; teacher up to {highest:.1f} eV"
            )


if __name__ == "__main__":
    main()
