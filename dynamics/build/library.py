"""The molecules that a recipe may name: geometry, charge and molar volume in solution.

The facts live in ``molecules.json`` beside this file. A solvent carries its density, measured at
``temperature``; an ion carries an *apparent molar volume*, on a scale where Li+ has none, so that
a salt's volume in solution is the sum over its ions (PF6- 48, FSI- 88, TFSI- 147.5 cm3/mol, ...).
Each number has its source next to it; where there is none, the volume is estimated from the van der
Waals volume.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from ase import Atoms

from .volumes import estimated_volume

SMILES_PREFIX = "smiles:"
FILE_PREFIX = "file:"


@dataclass(frozen=True, eq=False)
class Molecule:
    """One molecule or ion, by ``name`` and, where there is one, ``smiles``.

    ``symbols`` of its atoms; ``positions`` [n_atoms, 3] in Angstrom; ``charge`` in e;
    ``molar_volume`` in cm3/mol (liquid for a solvent, apparent in solution for an ion); ``source``
    says where the volume is from.
    """

    name: str
    symbols: tuple[str, ...]
    positions: np.ndarray
    charge: int
    molar_volume: float
    source: str
    smiles: str = ""

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def mass(self) -> float:
        """Molar mass in g/mol (= mass of one molecule in amu)."""
        return float(self.atoms().get_masses().sum())

    @property
    def extent(self) -> float:
        """Largest distance between two of its atoms, Angstrom (0 for a single atom)."""
        apart = self.positions[:, None, :] - self.positions[None, :, :]
        return float(np.sqrt((apart**2).sum(axis=-1)).max())

    def atoms(self) -> Atoms:
        """The molecule as ``ase.Atoms``, without cell."""
        return Atoms(list(self.symbols), positions=self.positions)


@dataclass(frozen=True)
class Measured:
    """The density of a liquid in g/cm3, at a temperature in K, and where it is from."""

    density: float
    temperature: float
    source: str


def measured(name: str) -> Measured | None:
    """The measured density of a solvent of the library, None for anything else."""
    entry = _facts()["solvents"].get(name)
    if entry is None:
        return None
    return Measured(entry["density"], entry["temperature"], entry["source"])


@cache
def solvents() -> dict[str, Molecule]:
    """Every solvent of the library by name."""
    found = {}
    for name, entry in _facts()["solvents"].items():
        if entry["density"] is None:
            molar_volume, source = estimated_volume(entry["vdw_volume"], 0)
        else:
            mass = float(_atoms(entry).get_masses().sum())
            molar_volume = mass / entry["density"]
            source = f"{entry['density']} g/cm3 at {entry['temperature']} K: {entry['source']}"
        found[name] = _molecule(name, entry, 0, molar_volume, source)
    return found


@cache
def ions() -> dict[str, Molecule]:
    """Every ion of the library by name."""
    found = {}
    for name, entry in _facts()["ions"].items():
        volume, source = entry["molar_volume"], entry["source"]
        if volume is None:
            volume, source = estimated_volume(entry["vdw_volume"], entry["charge"])
        found[name] = _molecule(name, entry, entry["charge"], volume, source)
    return found


def spellings(kind: str, name: str) -> list[str]:
    """What a molecule or ion may be called: its name, its aliases and, a solvent, its full name.

    ``kind`` is "solvents" or "ions".
    """
    entry = _facts()[kind][name]
    full = [entry["description"]] if kind == "solvents" else []
    return list(dict.fromkeys([name, *entry["aliases"], *full]))


def description(kind: str, name: str) -> str:
    """Full name of a molecule ("ethylene carbonate"); ``kind`` is "solvents" or "ions"."""
    return str(_facts()[kind][name]["description"])


@cache
def _facts() -> dict[str, dict[str, dict[str, Any]]]:
    text = files(__package__).joinpath("molecules.json").read_text(encoding="utf-8")
    facts: dict[str, dict[str, dict[str, Any]]] = json.loads(text)
    return facts


def _atoms(entry: dict[str, Any]) -> Atoms:
    rows = [line.split() for line in entry["geometry"]]
    positions = np.array([[float(x) for x in row[1:]] for row in rows])
    return Atoms([row[0] for row in rows], positions=positions)


def _molecule(
    name: str, entry: dict[str, Any], charge: int, molar_volume: float, source: str
) -> Molecule:
    atoms = _atoms(entry)
    symbols = tuple(atoms.get_chemical_symbols())
    return Molecule(name, symbols, atoms.positions, charge, molar_volume, source, entry["smiles"])
