"""Structures as LAMMPS reads them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.lammps import Prism
from ase.data import atomic_masses, atomic_numbers

from hff_ase.errors import StructureError
from hff_ase.files import write_whole

MASS_DIGITS = 4  # amu; atoms of an element whose masses differ by less are of one type
TO_PS = 1000.0 * units.fs  # Angstrom per ps in ASE's unit of velocity


def write_data(path: str | Path, atoms: Atoms, types: list[str] | None = None) -> list[str]:
    """Write a data file for ``read_data`` (units metal, atom_style full).

    It has masses, velocities where there are momenta, molecules where there are
    (``atoms.arrays["molecule"]``), and charges of zero: the force field gives them. LAMMPS keeps
    masses by type: an element whose atoms differ in mass (heavy hydrogens and what they are bonded
    to) gets a type for each mass, the lightest first.

    Args:
        path: of the file.
        atoms: a periodic box; skewed ones are turned as LAMMPS wants them.
        types: elements in the order of the types; None for those at hand by atomic number.

    Returns:
        The element of each type, for `attach`.

    Raises:
        StructureError: no periodic box, or an element that is not among the types.
    """
    if not atoms.pbc.all():
        raise StructureError("expected a box that is periodic along x, y and z, got another")
    found = [str(symbol) for symbol in dict.fromkeys(atoms[np.argsort(atoms.numbers)].symbols)]
    order = found if types is None else list(types)
    missing = [symbol for symbol in found if symbol not in order]
    if missing:
        raise StructureError(f"expected elements among {' '.join(order)}, got {missing[0]}")
    kinds, kind_of = _kinds(atoms, order)
    prism = Prism(atoms.cell.array)
    text = io.StringIO()
    _write_head(text, len(atoms), kinds, prism)
    molecule = np.zeros(len(atoms), int)
    if "molecule" in atoms.arrays:
        molecule = np.asarray(atoms.arrays["molecule"], int) + 1
    text.write("\nAtoms # full\n\n")
    places = prism.vector_to_lammps(atoms.positions)
    for k, (x, y, z) in enumerate(places.tolist()):
        text.write(f"{k + 1} {molecule[k]} {kind_of[k]} 0.0 {x:.17g} {y:.17g} {z:.17g}\n")
    if "momenta" in atoms.arrays:
        text.write("\nVelocities\n\n")
        velocities = prism.vector_to_lammps(atoms.get_velocities() * TO_PS)
        for k, (x, y, z) in enumerate(velocities.tolist()):
            text.write(f"{k + 1} {x:.17g} {y:.17g} {z:.17g}\n")
    write_whole(Path(path), text.getvalue().encode())
    return [symbol for symbol, _ in kinds]


def _kinds(atoms: Atoms, order: list[str]) -> tuple[list[tuple[str, float]], np.ndarray]:
    """Element and mass (amu) of each type, and the type of each atom, which count from 1; an
    element that no atom has gets its usual mass."""
    masses, symbols = atoms.get_masses().round(MASS_DIGITS), np.array(atoms.symbols)
    kinds: list[tuple[str, float]] = []
    kind_of = np.zeros(len(atoms), int)
    for symbol in order:
        for mass in np.unique(masses[symbols == symbol]):
            kinds.append((symbol, float(mass)))
            kind_of[(symbols == symbol) & (masses == mass)] = len(kinds)
        if symbol not in symbols:
            kinds.append((symbol, float(atomic_masses[atomic_numbers[symbol]])))
    return kinds, kind_of


def _write_head(
    text: io.StringIO, n_atoms: int, kinds: list[tuple[str, float]], prism: Prism
) -> None:
    """Counts, box and masses."""
    text.write(f"from hff-ase\n\n{n_atoms} atoms\n{len(kinds)} atom types\n\n")
    *lengths, xy, xz, yz = prism.get_lammps_prism()
    for axis, length in zip("xyz", lengths, strict=True):
        text.write(f"0.0 {length:.17g} {axis}lo {axis}hi\n")
    if prism.is_skewed():
        text.write(f"{xy:.17g} {xz:.17g} {yz:.17g} xy xz yz\n")
    text.write("\nMasses\n\n")
    for kind, (symbol, mass) in enumerate(kinds, 1):
        text.write(f"{kind} {mass:.10g} # {symbol}\n")
