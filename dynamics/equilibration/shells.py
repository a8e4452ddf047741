"""The first shells of cations: what is in them, and what is left of those of the packed box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

# Angstrom, about the first minimum of the distribution of O, N, F and Cl around each
REACH = {"Li": 2.8, "Na": 3.2, "K": 3.7, "Mg": 2.8, "Ca": 3.2, "Zn": 2.9}
DONORS = ("N", "O", "F", "S", "Cl")

Shells = list[frozenset[int]]  # molecules in the shell of each cation


def cations(atoms: Atoms) -> np.ndarray:
    """Atoms that are monatomic cations, int64 [n_cations]."""
    return np.flatnonzero(np.isin(atoms.symbols, list(REACH)))


def contacts(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cations and the donor atoms in their first shells, at each pair's least distance.

    Returns:
        Cations [n_cations]; for each contact the place in that array and the donor, [n_contacts].
    """
    centres = cations(atoms)
    donors = np.flatnonzero(np.isin(atoms.symbols, DONORS))
    apart = atoms.positions[donors][None] - atoms.positions[centres][:, None]
    _, distance = find_mic(apart.reshape(-1, 3), atoms.cell, atoms.pbc)
    reach = np.array([REACH[atoms.symbols[centre]] for centre in centres])
    place, donor = np.nonzero(distance.reshape(len(centres), -1) < reach[:, None])
    return centres, place, donors[donor]


def names(atoms: Atoms) -> np.ndarray:
    """What each atom counts as in a shell: its molecule's name, its element without molecules."""
    known = atoms.info.get("molecules")
    if known is None or "molecule" not in atoms.arrays:
        return np.array(atoms.get_chemical_symbols())
    return np.asarray(known, dtype=str)[atoms.arrays["molecule"]]


def composition(atoms: Atoms) -> dict[str, float]:
    """Donor atoms of each kind (see `names`) per cation; every kind that could be there."""
    centres, _, donors = contacts(atoms)
    kinds = names(atoms)
    possible = sorted(set(kinds[np.isin(atoms.symbols, DONORS)]))
    found = kinds[donors]
    return {kind: float(np.count_nonzero(found == kind)) / len(centres) for kind in possible}


def members(atoms: Atoms) -> Shells:
    """The molecules (atoms, where there are none) in each cation's shell."""
    centres, place, donors = contacts(atoms)
    label = atoms.arrays.get("molecule", np.arange(len(atoms)))
    return [frozenset(label[donors[place == k]].tolist()) for k in range(len(centres))]


def kept(first: Sequence[Sequence[int]], now: Shells) -> float:
    """Share of the neighbours of the beginning that are still there, mean over cations.

    A cation without neighbours at the beginning had nothing to keep.
    """
    shares = [len(set(a) & b) / len(a) for a, b in zip(first, now, strict=True) if len(a)]
    return float(np.mean(shares)) if shares else 0.0


Record = dict[str, Any]  # of one box, as in the notes of a checkpoint


def begin_record(atoms: Atoms) -> Record | None:
    """What will be known of a box's shells, from the packed one; None without cations."""
    if not len(cations(atoms)):
        return None
    first = [sorted(shell) for shell in members(atoms)]
    return {"first": first, "kept": [], "counts": {}, "step": []}


def look(record: Record, atoms: Atoms, step: int, counted: bool) -> None:
    """Add what the shells are now; ``counted``: their composition as well."""
    record["step"].append(step)
    record["kept"].append(round(kept(record["first"], members(atoms)), 6))
    if counted:
        for kind, number in composition(atoms).items():
            record["counts"].setdefault(kind, []).append(number)
