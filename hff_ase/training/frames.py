"""Labelled frames: reading them, splitting them, and turning them into tensors."""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import iread
from ase.stress import voigt_6_to_full_3x3_stress
from torch import Tensor

from hff_ase.errors import StructureError


@dataclass(frozen=True)
class Labels:
    """Labels of a batch in ASE's units; NaN where a frame has no such label.

    energy [n_systems], forces [n_atoms, 3], stress [n_systems, 3, 3], charges [n_atoms].
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor
    charges: Tensor


def read_frames(path: Path) -> list[Atoms]:
    """All frames of an extended xyz file (.xz is unpacked), each with its source in ``info``.

    Raises:
        StructureError: the file is missing or cannot be read.
    """
    try:
        raw = path.read_bytes()
        text = (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode()
        frames = list(iread(StringIO(text), index=":", format="extxyz"))
    except (OSError, lzma.LZMAError, ValueError, KeyError, IndexError) as error:
        raise StructureError(f"expected labelled frames in {path}, got {error}") from None
    for index, atoms in enumerate(frames):
        atoms.info["source"] = f"{path.name.split('.')[0]}:{index}"
    return frames


def read_folder(folder: Path) -> list[list[Atoms]]:
    """The frames of every .extxyz and .extxyz.xz file of a folder, a list per file.

    Raises:
        StructureError: there is no such file.
    """
    paths = sorted([*folder.glob("*.extxyz"), *folder.glob("*.extxyz.xz")])
    if not paths:
        raise StructureError(f"expected .extxyz or .extxyz.xz files in {folder}, got none")
    return [read_frames(path) for path in paths]


def split_by_segment(
    frames: Sequence[Atoms], length: int, held_out: Sequence[int]
) -> tuple[list[Atoms], list[Atoms]]:
    """Split correlated frames by whole segments of `length` frames: (training, held out)."""
    train: list[Atoms] = []
    test: list[Atoms] = []
    for index, atoms in enumerate(frames):
        (test if index // length in held_out else train).append(atoms)
    return train, test


def stack_labels(frames: Sequence[Atoms]) -> Labels:
    """The labels of some frames as float64 tensors."""
    energy, forces, stress, charges = [], [], [], []
    for atoms in frames:
        energy.append(_label(atoms, "energy", ()))
        forces.append(_label(atoms, "forces", (len(atoms), 3)))
        voigt = _label(atoms, "stress", (6,))
        stress.append(voigt_6_to_full_3x3_stress(voigt))
        charges.append(_label(atoms, "charges", (len(atoms),)))
    return Labels(
        energy=torch.as_tensor(np.array(energy)),
        forces=torch.as_tensor(np.concatenate(forces)),
        stress=torch.as_tensor(np.stack(stress)),
        charges=torch.as_tensor(np.concatenate(charges)),
    )


def _label(atoms: Atoms, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A label from the frame's calculator, or NaN of that shape."""
    try:
        value = atoms.calc.get_property(name, atoms) if atoms.calc else None
    except PropertyNotImplementedError:
        value = None
    if value is None:
        return np.full(shape, np.nan)
    value = np.asarray(value, dtype=np.float64)
    if value.shape != shape:
        raise StructureError(
            f"expected {name} of shape {shape}, got {value.shape} in frame "
            f"{atoms.info.get('source', '?')}"
        )
    return value
