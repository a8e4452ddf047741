"""Predictions for many frames: by a potential in batches, by any ASE calculator one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError
from ase.stress import voigt_6_to_full_3x3_stress

from hff_ase.batch import AtomsBatch
from hff_ase.data.labels import Labels, labels_of, source_of, to_device
from hff_ase.data.splits import chunks
from hff_ase.errors import StructureError
from hff_ase.potential import HybridPotential
from hff_ase.training.losses import dipole, potential_at

ATOMS_AT_ONCE = 1500  # keeps kernels busy and stays small beside a model's memory
SHAPES: dict[str, tuple[int, ...]] = {
    "energy": (), "forces": (3,), "stress": (3, 3), "charges": (), "dipole": (3,),
}  # fmt: skip
PER_ATOM = ("forces", "charges")


@dataclass(frozen=True)
class Prediction:
    """Predictions and labels of some frames, ASE's units.

    Attributes:
        frames: the frames.
        batch, labels: of these frames, in order.
        values: property -> array of the shape of its label, NaN where the model has none;
            properties that the model does not predict at all are left out.
        terms: energy per term, eV, [n_systems] each; empty for other calculators.
    """

    frames: Sequence[Atoms]
    batch: AtomsBatch
    labels: Labels
    values: dict[str, np.ndarray]
    terms: dict[str, np.ndarray] = field(default_factory=dict)


def predictions(
    model: HybridPotential | BaseCalculator,
    frames: Sequence[Atoms],
    atoms_at_once: int = ATOMS_AT_ONCE,
) -> Iterator[Prediction]:
    """Predictions for all frames, several per pass where the model is a potential.

    Args:
        model: a potential, a calculator that has one (``calculator.potential``), or any ASE
            calculator.
        frames: with labels in their calculators' results.
        atoms_at_once: of a pass; larger frames are evaluated alone.

    Raises:
        StructureError: a frame cannot be evaluated; names it.
    """
    potential = potential_of(model)
    for chunk in chunks(frames, atoms_at_once):
        batch, labels = AtomsBatch.from_atoms(chunk), labels_of(chunk)
        if potential is not None:
            yield _of_potential(potential, chunk, batch, labels)
        elif isinstance(model, BaseCalculator):
            yield Prediction(chunk, batch, labels, _of_calculator(model, chunk, labels, batch))


def potential_of(model: HybridPotential | BaseCalculator) -> HybridPotential | None:
    """The potential of a model; None for other calculators."""
    held = model if isinstance(model, HybridPotential) else getattr(model, "potential", None)
    return held if isinstance(held, HybridPotential) else None


def _of_potential(
    potential: HybridPotential, chunk: list[Atoms], batch: AtomsBatch, labels: Labels
) -> Prediction:
    moved, on_device = to_device((batch, labels), potential.known.device)
    try:
        potential.check_elements(moved)
    except StructureError as error:
        known = set(torch.nonzero(potential.known)[:, 0].tolist())
        wrong = [atoms for atoms in chunk if not set(atoms.numbers.tolist()) <= known]
        raise StructureError(f"{error} in frame {source_of(wrong[0])}") from None
    result = potential(moved)
    values = {"energy": result.energy, "forces": result.forces, "stress": result.stress}
    charges = result.fields.get("charges")
    if charges is not None:
        values["charges"] = charges
        values["dipole"] = dipole(moved, charges)
        if len(labels.esp):
            points, system = on_device.esp_points, on_device.esp_system
            values["esp"] = potential_at(moved, charges, points, system)
    return Prediction(
        chunk,
        batch,
        labels,
        {k: v.detach().double().cpu().numpy() for k, v in values.items() if v is not None},
        {name: v.detach().cpu().numpy() for name, v in result.energy_terms.items()},
    )


def _of_calculator(
    calculator: BaseCalculator, chunk: list[Atoms], labels: Labels, batch: AtomsBatch
) -> dict[str, np.ndarray]:
    rows = [_evaluate(calculator, atoms) for atoms in chunk]
    values = {}
    for name, shape in SHAPES.items():
        if not any(name in row for row in rows):
            continue
        parts = [
            row.get(name, np.full((len(a), *shape) if name in PER_ATOM else shape, np.nan))
            for row, a in zip(rows, chunk, strict=True)
        ]
        values[name] = np.concatenate(parts) if name in PER_ATOM else np.stack(parts)
    if "charges" in values and len(labels.esp):
        charges = torch.as_tensor(values["charges"])
        potential = potential_at(batch, charges, labels.esp_points, labels.esp_system)
        values["esp"] = potential.numpy()
    return values


def _evaluate(calculator: BaseCalculator, atoms: Atoms) -> dict[str, np.ndarray]:
    """The results of a calculator for a frame, as far as it has them."""
    structure = atoms.copy()
    found: dict[str, np.ndarray] = {}
    for name in SHAPES:
        if name == "stress" and not atoms.pbc.all():
            continue
        try:
            value = calculator.get_property(name, structure)
        except (PropertyNotImplementedError, NotImplementedError):
            continue
        if value is not None:
            array = np.asarray(value, dtype=np.float64)
            found[name] = voigt_6_to_full_3x3_stress(array) if array.shape == (6,) else array
    return found
