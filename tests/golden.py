"""Structures of the reference data beside the repository."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms


def golden_structure(data: Any, charges: str, name: str = "") -> Atoms:
    """A structure of an open .npz file by its name, with molecule ids and the total of ``charges``,
    e."""
    prefix = f"{name}/" if name else ""
    cell = data[f"{prefix}cell_A"]
    atoms = Atoms(data[f"{prefix}numbers"], data[f"{prefix}positions_A"])
    if cell.any():
        atoms.set_cell(cell)
        atoms.pbc = True
    atoms.set_array("molecule", data[f"{prefix}molecule_id"])
    atoms.info["charge"] = float(np.round(data[f"{prefix}{charges}"].sum()))
    return atoms
