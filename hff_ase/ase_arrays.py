"""From ase.Atoms to the arrays of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from hff_ase.arrays import ARRAYS
from hff_ase.layout import Layout
from hff_ase.structures import check_structure, total_charge


def arrays_of(
    structures: Sequence[Atoms], device: str | torch.device
) -> tuple[dict[str, Tensor], Layout]:
    """Arrays of a batch by name (`hff_ase.arrays`), and what is known of its systems on the host.

    Args:
        structures: at least one, as `AtomsBatch.from_atoms` describes.
        device: where the arrays are made.

    Raises:
        StructureError: one of them is refused, named where there are several.
    """
    for index, structure in enumerate(structures):
        check_structure(structure, f" (structure {index})" if len(structures) > 1 else "")
    counts = [len(structure) for structure in structures]
    periodic = [bool(s.pbc.all()) for s in structures]
    cells = [np.asarray(s.cell) if p else np.eye(3) for s, p in zip(structures, periodic)]  # noqa: B905
    values: dict[str, np.ndarray] = {
        "positions": np.concatenate([s.positions for s in structures]),
        "numbers": np.concatenate([s.numbers for s in structures]),
        "system": np.repeat(np.arange(len(counts)), counts),
        "cell": np.stack(cells),
        "periodic": np.array(periodic),
        "charge": np.array([total_charge(s) for s in structures]),
    }
    if all("molecule" in s.arrays for s in structures):
        values["molecule"] = _count_through([s.arrays["molecule"] for s in structures])
    if all(s.has("masses") for s in structures):
        values["masses"] = np.concatenate([s.get_masses() for s in structures])
    arrays = {
        name: torch.as_tensor(value, dtype=ARRAYS[name].dtype, device=device)
        for name, value in values.items()
    }
    molecule = values.get("molecule")
    layout = Layout(
        arrays["system"],
        arrays["periodic"],
        arrays.get("molecule"),
        counts=torch.as_tensor(counts, dtype=torch.int64, device=device),
        max_count=max(counts),
        any_periodic=any(periodic),
        all_periodic=all(periodic),
        n_molecules=0 if molecule is None else int(molecule.max()) + 1,
    )
    return arrays, layout


def _count_through(labels: Sequence[np.ndarray]) -> np.ndarray:
    """Labels of molecules, each structure with its own, as numbers 0, 1, ... of the whole batch."""
    numbers, before = [], 0
    for own in labels:
        values, index = np.unique(np.asarray(own, dtype=np.int64), return_inverse=True)
        numbers.append(index.reshape(-1) + before)
        before += len(values)
    return np.concatenate(numbers)
