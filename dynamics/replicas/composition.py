"""The composition of a box in one line."""

from __future__ import annotations

from ase import Atoms


def label(atoms: Atoms) -> str:
    """Molecules and their numbers, or the formula where molecules are unknown."""
    names = atoms.info.get("molecules")
    if names is None:
        return str(atoms.get_chemical_formula())
    return " ".join(f"{list(names).count(name)} {name}" for name in dict.fromkeys(names))
