"""The molecules a recipe may name: geometry, charge and the volume one mole takes in solution.

The facts live in ``molecules.json`` beside this file. A solvent carries its density, measured at
``temperature``; an ion carries an *apparent molar volume*, on a scale where Li+ has none, so that
a salt's volume in solution is the sum over its ions (PF6- 48, FSI- 88, TFSI- 147.5 cm3/mol, ...).
Each number has its source next to it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from ase import Atoms

from hff_ase.errors import RecipeError

SMILES_PREFIX = "smiles:"


@dataclass(frozen=True, eq=False)
class Molecule:
    """One molecule or ion.

    ``positions`` [n_atoms, 3] in Angstrom; ``charge`` in e; ``molar_volume`` in cm3/mol (liquid
    for a solvent, apparent in solution for an ion); ``source`` says where the volume is from.
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


@dataclass(frozen=True, eq=False)
class Salt:
    """A 1:1 salt: one cation and one anion of the library."""

    name: str
    cation: Molecule
    anion: Molecule

    def __len__(self) -> int:
        return len(self.cation) + len(self.anion)

    @property
    def extent(self) -> float:
        """Length of its longer ion, Angstrom."""
        return max(self.cation.extent, self.anion.extent)

    @property
    def mass(self) -> float:
        """Molar mass in g/mol."""
        return self.cation.mass + self.anion.mass

    @property
    def molar_volume(self) -> float:
        """Apparent molar volume in solution, cm3/mol."""
        return self.cation.molar_volume + self.anion.molar_volume


def find_solvent(name: str) -> Molecule:
    """The solvent called ``name``: library name or alias in any case, or ``smiles:...``.

    Raises RecipeError for an unknown name (with the nearest ones), a salt or an ion.
    """
    if name.lower().startswith(SMILES_PREFIX):
        from .from_smiles import solvent_from_smiles  # RDKit is an optional extra

        return solvent_from_smiles(name[len(SMILES_PREFIX) :])
    key = _match(name, _solvent_names())
    if key is not None:
        return solvents()[_solvent_names()[key]]
    if (salt := _match(name, salts())) is not None:
        raise RecipeError(
            f"{salt} is a salt, not a solvent: give it a concentration, as in '1.0 M {salt} in EC'"
        )
    if (ion := _match(name, ions())) is not None:
        raise RecipeError(f"{ion} is an ion: expected a neutral solvent or a salt such as LiPF6")
    raise RecipeError(_unknown("solvent", name, _solvent_names(), " or any 'smiles:...'"))


def find_salt(name: str) -> Salt:
    """The salt called ``name`` in any case (LiPF6, NaTFSI, KFSI ...); RecipeError if unknown."""
    key = _match(name, salts())
    if key is not None:
        return salts()[key]
    if _match(name, _solvent_names()) is not None:
        raise RecipeError(f"{name} is a solvent, not a salt: expected a salt such as LiPF6")
    raise RecipeError(_unknown("salt", name, salts(), ""))


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
        source = f"{entry['density']} g/cm3 at {entry['temperature']} K: {entry['source']}"
        bare = _molecule(name, entry, charge=0, molar_volume=1.0, source=source)
        found[name] = _molecule(name, entry, 0, bare.mass / entry["density"], source)
    return found


@cache
def ions() -> dict[str, Molecule]:
    """Every ion of the library by name."""
    return {
        name: _molecule(name, entry, entry["charge"], entry["molar_volume"], entry["source"])
        for name, entry in _facts()["ions"].items()
    }


@cache
def salts() -> dict[str, Salt]:
    """Every cation with every anion, by name: LiPF6, NaTFSI, KFSI ..."""
    cations = [ion for ion in ions().values() if ion.charge > 0]
    anions = [ion for ion in ions().values() if ion.charge < 0]
    return {c.name + a.name: Salt(c.name + a.name, c, a) for c in cations for a in anions}


@cache
def _facts() -> dict[str, dict[str, dict[str, Any]]]:
    text = files(__package__).joinpath("molecules.json").read_text(encoding="utf-8")
    facts: dict[str, dict[str, dict[str, Any]]] = json.loads(text)
    return facts


def _molecule(
    name: str, entry: dict[str, Any], charge: int, molar_volume: float, source: str
) -> Molecule:
    rows = [line.split() for line in entry["geometry"]]
    positions = np.array([[float(x) for x in row[1:]] for row in rows])
    symbols = tuple(row[0] for row in rows)
    return Molecule(name, symbols, positions, charge, molar_volume, source, entry["smiles"])


@cache
def _solvent_names() -> dict[str, str]:
    """Every accepted spelling -> library name."""
    names = {name: name for name in solvents()}
    for name, entry in _facts()["solvents"].items():
        names.update(dict.fromkeys(entry["aliases"], name))
    return names


def _match(name: str, known: Iterable[str]) -> str | None:
    """The known name that equals ``name`` but for case."""
    folded = {key.casefold(): key for key in known}
    return folded.get(name.casefold())


def _unknown(kind: str, name: str, known: Iterable[str], suffix: str) -> str:
    folded = {key.casefold(): key for key in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    if close:
        hint = "did you mean " + " or ".join(folded[key] for key in close) + "?"
    else:
        hint = f"expected one of {' '.join(sorted(folded.values(), key=str.casefold))}{suffix}"
    return f"unknown {kind} {name!r}: {hint}"
