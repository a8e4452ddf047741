"""Structures as LAMMPS reads them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from hff_ase.errors import StructureError
from hff_ase.files import write_whole


def write_data(path: str | Path, atoms: Atoms, types: list[str] | None = None) -> list[str]:
    """Write a data file for ``read_data`` (units metal, atom_style full).

    It has masses, velocities where there are momenta, molecules where there are
    (``atoms.arrays["molecule"]``), and charges of zero: the force field gives them.

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
    numbers = np.unique(atoms.numbers)
    found = [atoms.symbols[np.flatnonzero(atoms.numbers == number)[0]] for number in numbers]
    types = found if types is None else types
    missing = [symbol for symbol in found if symbol not in types]
    if missing:
        raise StructureError(f"expected elements among {' '.join(types)}, got {missing[0]}")
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    plain.set_masses(atoms.get_masses())
    plain.set_velocities(atoms.get_velocities())
    if "molecule" in atoms.arrays:
        plain.set_array("mol-id", np.asarray(atoms.arrays["molecule"], int) + 1)
    text = io.StringIO()
    moving = "momenta" in atoms.arrays
    # not by all processes together, as ASE would where mpi4py is loaded
    write(
        text,
        plain,
        format="lammps-data",
        parallel=False,
        bonds=False,
        specorder=types,
        masses=True,
        velocities=moving,
        atom_style="full",
    )
    write_whole(Path(path), text.getvalue().encode())
    return types
