"""What is in a box, in a line."""

from __future__ import annotations

from ase import Atoms


def label(atoms: Atoms) -> str:
    """Molecules and their numbers, the formula where they are not known."""
    names = atoms.info.get("molecules")
    if names is None:
        return str(atoms.get_chemical_formula())
    return " ".join(f"{list(names).count(name)} {name}" for name in dict.fromkeys(names))
