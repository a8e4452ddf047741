"""Structures that an energy can be computed for, and those that are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from hff_ase.errors import StructureError
from hff_ase.units import GRAM_PER_CM3

__all__ = ["mass_density"]

FARTHEST_ATOM = 1e7  # Angstrom from the origin; beyond it float64 keeps less than 1e-9 Angstrom
DENSEST = 0.1  # Angstrom^3 per atom; diamond has 5.7
CHARGES = ("charge", "total_charge", "net_charge")  # of the whole structure, in any case


def stated_charges(atoms: Atoms) -> dict[str, Any]:
    """Total charges given in a structure, by name of the entry."""
    return {
        key: value for key, value in atoms.info.items() if key in CHARGES or _lower(key) in CHARGES
    }


def total_charge(atoms: Atoms) -> float:
    """Total charge of a structure in e: ``atoms.info["charge"]`` (or one of `CHARGES`), else 0.

    Raises:
        StructureError: the entry is not a finite number, or two of them differ.
    """
    stated = stated_charges(atoms)
    name, value = next(iter(stated.items()), ("charge", 0.0))
    if len(stated) > 1:
        name, value = "charge", one_charge(stated)
    try:
        charge = float(value)
    except (TypeError, ValueError):
        charge = np.nan
    if not np.isfinite(charge):
        got = " ".join(repr(value).split())
        raise StructureError(f"expected atoms.info[{name!r}] to be a finite number, got {got:.60}")
    if abs(charge) > max(len(atoms), 1) * 8:
        raise StructureError(
            f"expected a total charge of at most 8 e per atom, got {charge:g} e on {len(atoms)} "
            f"atoms (atoms.info[{name!r}])"
        )
    return charge


def one_charge(stated: Mapping[str, Any], place: str = "") -> Any:
    """The one value of several statements of a total charge.

    Raises:
        StructureError: they differ.
    """
    (name, value), *others = stated.items()
    for other, another in others:
        if not np.array_equal(value, another):
            raise StructureError(
                f"expected one total charge, got {name} {value!r:.30} and {other} {another!r:.30}"
                f"{place}"
            )
    return value


def check_structure(atoms: Atoms, place: str = "") -> None:
    """Refuse a structure that no energy can be computed for, with the reason."""
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


def _lower(key: Any) -> str:
    return key.lower() if isinstance(key, str) else ""


def mass_density(atoms: Atoms) -> float:
    """Mass density of a periodic structure, g/cm^3.

    Raises:
        StructureError: the structure is not periodic in all three directions.
    """
    if not atoms.pbc.all():
        raise StructureError(f"expected a periodic box for a density, got pbc={atoms.pbc.tolist()}")
    return float(atoms.get_masses().sum() / atoms.get_volume() / GRAM_PER_CM3)
