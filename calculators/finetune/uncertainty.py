"""From the spread of teachers to the weights of their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

FRAMES_PER_PARAMETER = 3  # below this a fit of offsets would take the spread with it


@dataclass(frozen=True)
class SpreadScales:
    """The spread at which a label counts half: its weight is w = 1 / (1 + (s / scale)^2).

    With noise of variance scale^2 that all labels have and s^2 that teachers show, this is the
    weight of least squares, up to a factor. The spread s of a frame is, for

    - energy: the standard deviation over the teachers per atom, eV/atom, less what an offset per
      element explains;
    - forces, charges: the root mean square over its atoms of the standard deviation, eV/A and e;
    - stress: the root mean square over the components of the standard deviation, eV/A^3.

    None leaves the labels of a property unweighted.
    """

    energy: float | None = 0.005
    forces: float | None = 0.1
    stress: float | None = 1e-3
    charges: float | None = 0.05


def weigh(frames: Sequence[Atoms], scales: SpreadScales) -> None:
    """Put ``weight_<property>`` (and ``energy_spread``, eV) into the info of labelled frames.

    Args:
        frames: from `hff_ase.calculators.finetune.teachers.label_frames`; changed in place.
    """
    if not frames or np.size(frames[0].info["teacher_energies"]) < 2:
        return
    for atoms, energy in zip(frames, energy_spreads(frames), strict=True):
        atoms.info["energy_spread"] = float(energy)
        spreads = {"energy": energy / len(atoms)}
        for name in ("forces", "charges"):
            if f"{name}_spread" in atoms.arrays:
                spreads[name] = np.sqrt(np.square(atoms.arrays[f"{name}_spread"]).mean())
        if "stress_spread" in atoms.info:
            spreads["stress"] = atoms.info["stress_spread"]
        for name, spread in spreads.items():
            scale = getattr(scales, name)
            if scale is not None:
                atoms.info[f"weight_{name}"] = float(1 / (1 + (spread / scale) ** 2))


def energy_spreads(frames: Sequence[Atoms]) -> np.ndarray:
    """Standard deviations of the teachers' energies [n_frames], eV.

    An energy per element is fitted to each teacher's deviations and subtracted first: teachers need
    not have the same zero."""
    # nine numbers come back from a file as a matrix, by columns
    energies = np.array([np.ravel(a.info["teacher_energies"], order="F") for a in frames])
    deviations = energies - energies.mean(axis=1, keepdims=True)
    elements = np.unique(np.concatenate([atoms.numbers for atoms in frames]))
    counts = np.array([[(a.numbers == z).sum() for z in elements] for a in frames], dtype=float)
    if len(frames) >= FRAMES_PER_PARAMETER * np.linalg.matrix_rank(counts):
        deviations = deviations - counts @ np.linalg.lstsq(counts, deviations, rcond=None)[0]
    return np.sqrt(np.square(deviations).mean(axis=1))
