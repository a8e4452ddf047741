"""The structures that everyone is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from hff_ase.bench.boxes import copies, large_box
from hff_ase.dynamics.build.library import ions, solvents

RECIPE = "1.0 M LiPF6 in EC:DMC 1:1 v/v"
SMALL_BOX = 500  # atoms; what is too slow for the large one is measured here
COPIES = 64


def write_structures(folder: Path, n_atoms: int) -> dict[str, Path]:
    """The structures that everyone reads."""
    molecule = cluster()
    cases = {
        "box": [large_box(RECIPE, n_atoms)],
        "small box": [large_box(RECIPE, SMALL_BOX)],
        "molecule": [molecule],
        "batch": copies(molecule, COPIES),
    }
    paths = {}
    for case, frames in cases.items():
        paths[case] = folder / f"{case.replace(' ', '_')}.extxyz"
        write(paths[case], frames)
    return paths


def cluster() -> Atoms:
    """27 atoms without a cell: PF6- between two EC."""
    parts = [solvents()["EC"].atoms(), ions()["PF6"].atoms(), solvents()["EC"].atoms()]
    for place, part in enumerate(parts):
        part.positions += np.array([4.5 * place, 0.0, 0.0]) - part.positions.mean(axis=0)
    atoms = parts[0] + parts[1] + parts[2]
    atoms.info["charge"] = -1.0
    return atoms
