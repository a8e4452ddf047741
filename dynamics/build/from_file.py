"""A molecule from a structure file: its geometry as it is, its volume from that of its spheres."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase import Atoms

from hff_ase.errors import RecipeError, StructureError, in_one_line
from hff_ase.topology import perceive

from .library import FILE_PREFIX, Molecule
from .volumes import estimated_volume, vdw_volume


@cache
def molecule_from_file(path: str) -> Molecule:
    """The one neutral molecule that a structure file holds, in any format that ASE reads.

    Raises RecipeError for a file that cannot be read, or that holds several frames, a periodic
    structure, several molecules, or a charged one (``info["charge"]`` or ``initial_charges``).
    """
    from ase.io import read

    name = FILE_PREFIX + path
    if not Path(path).is_file():
        raise RecipeError(f"expected a structure file for {name}, got no file at {path}")
    try:
        frames: list[Atoms] = list(cast(Any, read)(path, index=":"))
    except Exception as error:  # ASE's readers raise anything
        reason = in_one_line(error)
        raise RecipeError(
            f"expected a structure file that ASE reads, got {path}: {reason}"
        ) from None
    if len(frames) != 1:
        raise RecipeError(f"expected one structure in {path}, got {len(frames)}")
    atoms = frames[0]
    if atoms.pbc.any():
        raise RecipeError(
            f"expected a molecule without a periodic cell in {path}, got a periodic one"
        )
    charge = float(cast(Any, atoms.info.get("charge", atoms.get_initial_charges().sum())))
    if abs(charge) > 1e-6:
        raise RecipeError(f"expected a neutral molecule in {path}, got charge {charge:g}")
    try:
        n_molecules = perceive(atoms).n_molecules
    except StructureError as error:
        raise RecipeError(f"{path}: {error}") from None
    if n_molecules != 1:
        raise RecipeError(f"expected one molecule in {path}, got {n_molecules}")
    symbols = tuple(atoms.get_chemical_symbols())
    positions = np.asarray(atoms.positions - atoms.positions.mean(axis=0))
    volume, source = estimated_volume(vdw_volume(symbols, positions), 0)
    return Molecule(name, symbols, positions, 0, volume, source)
