"""Labels of a batch as tensors, and the stacking of frames into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import voigt_6_to_full_3x3_stress
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import StructureError

PROPERTIES = ("energy", "forces", "stress", "charges", "dipole", "esp", "charge_response")


@dataclass(frozen=True)
class Labels:
    """Labels of a batch in ASE's units, float64; NaN where a frame has no such label.

    Attributes:
        energy: [n_systems], eV.
        forces: [n_atoms, 3], eV/Angstrom.
        stress: [n_systems, 3, 3], dE/dstrain/V, eV/Angstrom^3; NaN for molecules.
        charges: [n_atoms], e.
        dipole: [n_systems, 3], e Angstrom, about the origin of the coordinates as in ASE (the
            choice matters for ions only); NaN for periodic systems.
        weight: [n_systems], how much a system counts in every loss.
        property_weights: [n_systems] per property, a factor for this property alone.
        esp_points: [n_points, 3], Angstrom.
        esp: [n_points], electrostatic potential there, V.
        esp_system: int64 [n_points], the system that a point belongs to.
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor
    charges: Tensor
    dipole: Tensor
    weight: Tensor
    property_weights: dict[str, Tensor] = field(default_factory=dict)
    esp_points: Tensor = field(default_factory=lambda: torch.zeros((0, 3), dtype=torch.float64))
    esp: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    esp_system: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    @property
    def n_systems(self) -> int:
        """Number of systems."""
        return self.energy.shape[0]

    def weight_of(self, name: str) -> Tensor:
        """Weights of the systems for a property, [n_systems]."""
        own = self.property_weights.get(name)
        return self.weight if own is None else self.weight * own

    def to(self, device: str | torch.device) -> Labels:
        """The same labels on a device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        weights = {name: w.to(device) for name, w in moved.pop("property_weights").items()}
        return Labels(
            **{name: value.to(device) for name, value in moved.items()}, property_weights=weights
        )


Frame = tuple[AtomsBatch, Labels]


def labels_of(frames: Sequence[Atoms]) -> Labels:
    """The labels of some frames as one batch.

    They come from the results of each frame's calculator, from ``atoms.info["esp_points"]`` and
    ``["esp"]``, ``["weight"]`` and ``["weight_<property>"]``.

    Raises:
        StructureError: a label of another shape, a weight that is negative or no number, or a
            potential at points of a periodic system.
    """
    points, potential, system = [], [], []
    for index, atoms in enumerate(frames):
        where, values = _esp(atoms)
        points.append(where)
        potential.append(values)
        system.append(np.full(len(values), index))
    names = [n for n in PROPERTIES if any(f"weight_{n}" in atoms.info for atoms in frames)]
    return Labels(
        energy=_stack([_label(atoms, "energy", ()) for atoms in frames]),
        forces=_join([_label(atoms, "forces", (len(atoms), 3)) for atoms in frames]),
        stress=_stack([_stress(atoms) for atoms in frames]),
        charges=_join([_label(atoms, "charges", (len(atoms),)) for atoms in frames]),
        dipole=_stack([_dipole(atoms) for atoms in frames]),
        weight=_stack([_weight(atoms, "weight") for atoms in frames]),
        property_weights={
            name: _stack([_weight(atoms, f"weight_{name}") for atoms in frames]) for name in names
        },
        esp_points=_join(points),
        esp=_join(potential),
        esp_system=torch.as_tensor(np.concatenate(system), dtype=torch.int64),
    )


def collate(frames: Sequence[Frame]) -> Frame:
    """One batch of all systems, in order."""
    if len(frames) == 1:
        return frames[0]
    batches, labels = [batch for batch, _ in frames], [label for _, label in frames]
    before = np.cumsum([0, *(batch.n_systems for batch in batches[:-1])]).tolist()
    return AtomsBatch.join(batches), _join_labels(labels, before)


def to_device(frame: Frame, device: str | torch.device) -> Frame:
    """The same frame on a device."""
    batch, labels = frame
    return batch.to(device), labels.to(device)


def source_of(atoms: Atoms) -> str:
    """How messages name a frame: its file and its index there."""
    return str(atoms.info.get("source", "?"))


def result_of(atoms: Atoms, name: str) -> Any:
    """A result that the frame's calculator holds, or None; nothing is computed."""
    if atoms.calc is None:
        return None
    try:
        return atoms.calc.get_property(name, atoms, allow_calculation=False)
    except (PropertyNotImplementedError, NotImplementedError):
        return None


def _join_labels(labels: Sequence[Labels], before: list[int]) -> Labels:
    names = [name for name in PROPERTIES if any(name in label.property_weights for label in labels)]
    weights = {
        name: torch.cat(
            [label.property_weights.get(name, torch.ones_like(label.weight)) for label in labels]
        )
        for name in names
    }
    plain = ("energy", "forces", "stress", "charges", "dipole", "weight", "esp_points", "esp")
    return Labels(
        **{name: torch.cat([getattr(label, name) for label in labels]) for name in plain},
        property_weights=weights,
        esp_system=torch.cat(
            [label.esp_system + n for label, n in zip(labels, before, strict=True)]
        ),
    )


def _label(atoms: Atoms, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A label from the frame's calculator, or NaN of that shape."""
    value = result_of(atoms, name)
    if value is None:
        return np.full(shape, np.nan)
    return _array(atoms, name, value, shape)


def _array(atoms: Atoms, name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        got = type(value).__name__
        raise StructureError(
            f"expected {name} to be numbers, got {got} in frame {source_of(atoms)}"
        ) from None
    if array.shape != shape:
        raise StructureError(
            f"expected {name} of shape {shape}, got {array.shape} in frame {source_of(atoms)}"
        )
    return array


def _stress(atoms: Atoms) -> np.ndarray:
    """[3, 3]; only boxes have one."""
    if not atoms.pbc.all():
        return np.full((3, 3), np.nan)
    value = result_of(atoms, "stress")
    if value is not None and np.shape(value) == (3, 3):
        return _array(atoms, "stress", value, (3, 3))
    return voigt_6_to_full_3x3_stress(_label(atoms, "stress", (6,)))


def _dipole(atoms: Atoms) -> np.ndarray:
    """[3]; the dipole of a box depends on where it is cut."""
    return np.full(3, np.nan) if atoms.pbc.any() else _label(atoms, "dipole", (3,))


def _weight(atoms: Atoms, name: str) -> np.ndarray:
    weight = _array(atoms, name, atoms.info.get(name, 1.0), ())
    if not (np.isfinite(weight) and weight >= 0.0):
        raise StructureError(
            f"expected {name} of at least 0, got {weight} in frame {source_of(atoms)}"
        )
    return weight


def _esp(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Points [n, 3] and the potential there [n]; none where the frame has none."""
    if "esp" not in atoms.info or "esp_points" not in atoms.info:
        return np.zeros((0, 3)), np.zeros(0)
    if atoms.pbc.any():
        raise StructureError(
            "expected an electrostatic potential at points around a molecule, got it for the "
            f"periodic frame {source_of(atoms)}"
        )
    n_points = np.size(atoms.info["esp"])
    points = _array(atoms, "esp_points", atoms.info["esp_points"], (n_points, 3))
    return points, _array(atoms, "esp", atoms.info["esp"], (n_points,))


def _stack(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.as_tensor(np.stack(arrays), dtype=torch.float64)


def _join(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.as_tensor(np.concatenate(arrays), dtype=torch.float64)
