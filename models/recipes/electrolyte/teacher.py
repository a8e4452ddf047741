"""Labels from the teacher: the published BAMBOO weights, with exact gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from hff_ase.calculators import HybridFF

METHOD = "BAMBOO (published weights), exact gradient"
BATCH = 16


def load_teacher(weights: Path) -> HybridFF:
    """The teacher; its forces and stress are the derivatives of its energy."""
    return HybridFF.from_bamboo(weights)


def label(frames: Sequence[Atoms], teacher: HybridFF) -> list[Atoms]:
    """Copies of the frames with energy, forces, stress and charges of the teacher."""
    labelled = []
    for first in range(0, len(frames), BATCH):
        part = frames[first : first + BATCH]
        for atoms, results in zip(part, teacher.evaluate(part), strict=True):
            copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            copy.info = {k: v for k, v in atoms.info.items() if isinstance(v, (str, int, float))}
            copy.info |= {"method": METHOD, "method_dispersion": "bamboo"}
            kept = {name: results[name] for name in ("energy", "forces", "stress", "charges")}
            copy.calc = SinglePointCalculator(copy, **kept)
            labelled.append(copy)
    return labelled


def largest_force(atoms: Atoms) -> float:
    """Of a labelled frame, eV/Angstrom."""
    return float(np.abs(atoms.get_forces()).max())
