"""Structures that an energy can be computed for, and those that are refused."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from hff_ase.errors import StructureError

FARTHEST_ATOM = 1e7  # Angstrom from the origin; beyond it float64 keeps less than 1e-9 Angstrom
DENSEST = 0.1  # Angstrom^3 per atom; diamond has 5.7


def total_charge(atoms: Atoms) -> float:
    """Total charge of a structure in e: ``atoms.info["charge"]``, 0 where absent.

    Raises:
        StructureError: the entry is not a finite number.
    """
    value = atoms.info.get("charge", 0.0)
    try:
        charge = float(value)
    except (TypeError, ValueError):
        charge = np.nan
    if not np.isfinite(charge):
        got = " ".join(repr(value).split())
        raise StructureError(f"expected atoms.info['charge'] to be a finite number, got {got:.60}")
    if abs(charge) > max(len(atoms), 1) * 8:
        raise StructureError(
            f"expected a total charge of at most 8 e per atom, got {charge:g} e on {len(atoms)} "
            "atoms (atoms.info['charge'])"
        )
    return charge


def check_structure(atoms: Atoms, place: str = "") -> None:
    """Refuse a structure that no energy can be computed for, naming what is wrong with it."""
    if not isinstance(atoms, Atoms):
        raise StructureError(f"expected ase.Atoms, got {type(atoms).__name__}{place}")
    if len(atoms) == 0:
        raise StructureError(f"expected at least one atom, got an empty structure{place}")
    known = (atoms.numbers >= 0) & (atoms.numbers < len(chemical_symbols))
    if not known.all():
        bad = int(np.argmin(known))
        raise StructureError(
            f"expected atomic numbers of elements, got {atoms.numbers[bad]} for atom {bad}{place}"
        )
    near = (np.abs(atoms.positions) < FARTHEST_ATOM).all(axis=1)  # False for nan and inf
    if not near.all():
        bad = int(np.argmin(near))
        raise StructureError(
            f"expected finite positions within {FARTHEST_ATOM:g} A of the origin, got "
            f"{atoms.positions[bad].tolist()} for atom {bad} "
            f"({chemical_symbols[atoms.numbers[bad]]}){place}"
        )
    if atoms.pbc.any() and not atoms.pbc.all():
        raise StructureError(
            "expected periodic boundaries in all three directions or in none, got "
            f"pbc={atoms.pbc.tolist()}{place}"
        )
    if atoms.pbc.all():
        check_cell(np.asarray(atoms.cell), place)
        if atoms.get_volume() < DENSEST * len(atoms):
            raise StructureError(
                f"expected at least {DENSEST:g} A^3 per atom, got {len(atoms)} atoms in "
                f"{atoms.get_volume():.3g} A^3{place}"
            )


def check_cell(cell: np.ndarray, place: str = "") -> None:
    """Refuse a cell that is not finite, flat or left-handed."""
    if not np.isfinite(cell).all():
        raise StructureError(f"expected a finite cell, got {cell.tolist()}{place}")
    lengths = np.linalg.norm(cell, axis=1)
    volume = float(np.linalg.det(cell))
    if abs(volume) <= 1e-6 * max(float(np.prod(lengths)), 1.0):
        raise StructureError(
            f"expected a cell with a volume, got {volume:g} A^3 from rows {cell.tolist()}{place}"
        )
    if volume < 0:
        raise StructureError(
            f"expected a right-handed cell, got one with volume {volume:g} A^3; swap two lattice "
            f"vectors{place}"
        )
