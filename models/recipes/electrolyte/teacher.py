"""Labels from the teacher: the published BAMBOO weights, with exact gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from hff_ase.calculators import HybridFF

METHOD = "BAMBOO (published weights), exact gradient"
LABELS = ("energy", "forces", "stress", "charges")  # clusters have no stress
KEPT = (str, int, float, np.integer)  # of what a frame says of itself
BATCH = 16


def load_teacher(weights: Path) -> HybridFF:
    """The teacher; its forces and stress are the derivatives of its energy."""
    return HybridFF.from_bamboo(weights)


def label(frames: Sequence[Atoms], teacher: HybridFF) -> list[Atoms]:
    """Copies of the frames with energy, forces, stress and charges of the teacher."""
    labelled = []
    for first in range(0, len(frames), BATCH):
        part = frames[first : first + BATCH]
        for atoms, given in zip(part, teacher.evaluate(part), strict=True):
            copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            copy.info = {k: v for k, v in atoms.info.items() if isinstance(v, KEPT)}
            copy.info |= {"method": METHOD, "method_dispersion": "bamboo"}
            results = {name: given[name] for name in LABELS if name in given}
            copy.calc = SinglePointCalculator(copy, **results)
            labelled.append(copy)
    return labelled


def largest_force(atoms: Atoms) -> float:
    """Of a labelled frame, eV/Angstrom."""
    return float(np.abs(atoms.get_forces()).max())
