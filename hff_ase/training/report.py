"""Error tables of a potential on labelled frames: per property, element and composition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from hff_ase.batch import AtomsBatch
from hff_ase.potential import HybridPotential
from hff_ase.training.frames import stack_labels
from hff_ase.training.losses import differences
from hff_ase.units import BAR


@dataclass
class Errors:
    """Errors collected over frames: arrays per property, and forces per element and source."""

    arrays: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, key: str, values: torch.Tensor) -> None:
        """Collect some errors."""
        self.arrays.setdefault(key, []).append(values.detach().numpy().ravel())

    def rmse(self, key: str) -> float:
        """Root mean square."""
        return float(np.sqrt(np.mean(np.concatenate(self.arrays[key]) ** 2)))

    def mae(self, key: str) -> float:
        """Mean absolute error."""
        return float(np.mean(np.abs(np.concatenate(self.arrays[key]))))

    def bias(self, key: str) -> float:
        """Mean signed error."""
        return float(np.mean(np.concatenate(self.arrays[key])))


def collect(potential: HybridPotential, frames: Sequence[Atoms]) -> Errors:
    """Errors of a potential on frames with energy, forces, stress and charges.

    Keys: energy (eV/atom), forces (eV/A), stress (eV/A^3), pressure (bar), charges (e), and
    "forces <element>", "charges <element>", "forces of <source>", "pressure of <source>".
    """
    errors = Errors()
    for atoms in frames:
        batch, labels = AtomsBatch.from_atoms(atoms), stack_labels([atoms])
        found = differences(batch, potential(batch), labels)
        for name, values in found.items():
            errors.add(name, values)
        pressure = -found["stress"].reshape(3, 3).trace() / 3.0 / BAR
        source = str(atoms.info.get("source", "frames")).split(":")[0]
        errors.add("pressure", pressure)
        errors.add(f"pressure of {source}", pressure)
        errors.add(f"forces of {source}", found["forces"])
        for element in potential.elements or ():
            mine = batch.numbers == atomic_numbers[element]
            if bool(mine.any()):
                errors.add(f"forces {element}", found["forces"].reshape(-1, 3)[mine])
                if "charges" in found:
                    errors.add(f"charges {element}", found["charges"][mine])
    return errors


def markdown_tables(errors: Errors) -> str:
    """The tables of a model card."""
    lines = ["| property | RMSE | MAE |", "|---|---|---|"]
    units = {"forces": (1e3, "meV/A"), "energy": (1e3, "meV/atom"), "charges": (1e3, "me")}
    units["pressure"] = (1.0, "bar")
    for key, (factor, unit) in units.items():
        if key in errors.arrays:
            rmse, mae = factor * errors.rmse(key), factor * errors.mae(key)
            lines.append(f"| {key} ({unit}) | {rmse:.2f} | {mae:.2f} |")
    lines += ["", "| element | forces RMSE (meV/A) | charges RMSE (me) |", "|---|---|---|"]
    for key in errors.arrays:
        if key.startswith("forces ") and not key.startswith("forces of"):
            element = key.split()[1]
            charges = f"charges {element}"
            charge = f"{1e3 * errors.rmse(charges):.1f}" if charges in errors.arrays else ""
            lines.append(f"| {element} | {1e3 * errors.rmse(key):.1f} | {charge} |")
    lines += [
        "",
        "| composition | forces RMSE (meV/A) | mean pressure error (bar) |",
        "|---|---|---|",
    ]
    for key in sorted(errors.arrays):
        if key.startswith("forces of"):
            source = key.removeprefix("forces of ")
            bias = errors.bias(f"pressure of {source}")
            lines.append(f"| {source} | {1e3 * errors.rmse(key):.1f} | {bias:+.0f} |")
    return "\n".join(lines)
