"""A starting structure from a file, with masses and charge under whatever name they come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from hff_ase.errors import StructureError, in_one_line
from hff_ase.structures import one_charge, stated_charges

MASSES = ("mass", "masses")  # of columns, in any case; ASE itself reads "masses" alone
SUFFIXES = (".extxyz", ".xyz", ".traj", ".cif", ".pdb", ".db", ".vasp")


def read_structure(path: str | Path) -> Atoms:
    """The last frame of a file that ASE reads, with `with_own_names`.

    Raises:
        StructureError: no such file (a folder is said to be one), ASE cannot read it, or what it
            holds under several names differs.
    """
    path = Path(path)
    if path.is_dir():
        raise StructureError(f"expected a structure file, got the folder {path}{_inside(path)}")
    if not path.is_file():
        raise StructureError(f"expected a structure file, got {path}, which does not exist")
    try:
        atoms = read(path, index=-1)
    except Exception as error:  # ASE's readers raise whatever they meet
        reason = in_one_line(error)
        raise StructureError(f"cannot read a structure from {path}: {reason}") from error
    if not isinstance(atoms, Atoms):
        raise StructureError(f"expected one structure in {path}, got {type(atoms).__name__}")
    return with_own_names(atoms, f" in {path}")


def read_all(path: str | Path, every: int = 1) -> list[Atoms]:
    """Every n-th frame of a file that ASE reads, as they are.

    Raises:
        StructureError: ASE cannot read it.
    """
    try:
        return list(read(path, index=f"::{every}"))
    except Exception as error:  # ASE's readers raise whatever their format trips over
        reason = in_one_line(error)
        raise StructureError(f"expected structures in {path}, got: {reason}") from error


def with_own_names(atoms: Atoms, place: str = "") -> Atoms:
    """The structure with its masses and its total charge where ASE and this package look for them.

    A column ``mass`` becomes ASE's masses, ``info["total_charge"]`` becomes ``info["charge"]``; a
    copy is made only where something is renamed.

    Raises:
        StructureError: two names with different values, or masses that are none.
    """
    masses = [key for key in atoms.arrays if key.lower() in MASSES and key != "masses"]
    charges = stated_charges(atoms)
    if not masses and set(charges) <= {"charge"}:
        return atoms
    renamed = atoms.copy()
    renamed.calc = atoms.calc
    for key in masses:
        _set_masses(renamed, key, place)
    if charges:
        value = one_charge(charges, place)
        for key in charges:
            del renamed.info[key]
        renamed.info["charge"] = value
    return renamed


def refuse_constraints(atoms: Atoms, place: str = "") -> None:
    """Refuse constraints, which the dynamics of this package does not keep.

    Raises:
        StructureError: names them.
    """
    if atoms.constraints:
        kinds = ", ".join(sorted({type(entry).__name__ for entry in atoms.constraints}))
        raise StructureError(f"expected atoms without constraints, got {kinds}{place}")


def _set_masses(atoms: Atoms, key: str, place: str) -> None:
    values = np.asarray(atoms.arrays[key])
    if values.shape != (len(atoms),) or values.dtype.kind not in "fiu" or not (values > 0).all():
        raise StructureError(f"expected positive masses in amu as {key}, got others{place}")
    if atoms.has("masses") and not np.allclose(atoms.arrays["masses"], values):
        raise StructureError(f"expected one set of masses, got others as {key}{place}")
    del atoms.arrays[key]
    atoms.set_masses(values.astype(np.float64))


def _inside(folder: Path) -> str:
    """A hint at what could be meant by a folder."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return ""
    if "checkpoint.npz" in names or "config.yaml" in names:
        return " (a run: continue it with --resume)"
    found = [name for name in names if Path(name).suffix in SUFFIXES]
    return f" (in it: {', '.join(found[:3])})" if found else ""
