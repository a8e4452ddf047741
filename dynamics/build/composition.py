"""From a recipe to whole numbers of molecules, and back to what those numbers amount to.

Solvents mix with additive volumes and each salt adds its apparent molar volume, unless a density
is given; molarity is per litre of the solution so obtained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ase.units import _Nav

from hff_ase.errors import RecipeError

from .library import Molecule, Salt, find_salt, find_solvent
from .recipe import Recipe

A3_PER_CM3_PER_MOL = 1e24 / _Nav  # 1.6605 A^3 per molecule for each cm3/mol

# A component must come to at least this many molecules: one molecule is then at most half too much.
MIN_MOLECULES = 2.0 / 3.0
# Atom counts within this fraction of the asked one are tried for whole numbers that fit better.
ATOMS_WINDOW = 0.05
# Fewer solvent molecules than this per formula unit of salt is no solution: 1:1 melts exist.
MIN_SOLVENT_PER_SALT = 0.5
# A density this many times the expected one packs, but is no liquid.
MAX_COMPRESSION = 1.5
# Room between a molecule and its own periodic image, Angstrom.
IMAGE_GAP = 2.0


@dataclass(frozen=True)
class Composition:
    """Whole numbers of formula units at a density: ``counts`` by name of salt or solvent.

    ``density`` in g/cm3; everything else follows from these three.
    """

    recipe: Recipe
    counts: dict[str, int]
    density: float

    @property
    def salts(self) -> list[tuple[Salt, int]]:
        """Each salt with its number of formula units."""
        return [(find_salt(s.name), self.counts[s.name]) for s in self.recipe.salts]

    @property
    def solvents(self) -> list[tuple[Molecule, int]]:
        """Each solvent with its number of molecules."""
        return [(find_solvent(name), self.counts[name]) for name in self.recipe.solvents]

    @property
    def molecules(self) -> list[tuple[Molecule, int]]:
        """Each kind of molecule or ion with its number: cations, anions, solvents."""
        kinds: dict[str, Molecule] = {}
        numbers: dict[str, int] = {}
        parts = [(salt.cation, n) for salt, n in self.salts]
        parts += [(salt.anion, n) for salt, n in self.salts] + self.solvents
        for molecule, n in parts:
            kinds[molecule.name] = molecule
            numbers[molecule.name] = numbers.get(molecule.name, 0) + n
        return [(kinds[name], n) for name, n in numbers.items()]

    @property
    def n_atoms(self) -> int:
        return sum(len(molecule) * n for molecule, n in self.molecules)

    @property
    def mass(self) -> float:
        """Mass in amu."""
        return sum(molecule.mass * n for molecule, n in self.molecules)

    @property
    def volume(self) -> float:
        """Volume in A^3."""
        return self.mass / self.density * A3_PER_CM3_PER_MOL

    @property
    def length(self) -> float:
        """Side of the cubic box, Angstrom."""
        return float(np.cbrt(self.volume))

    @property
    def molarity(self) -> dict[str, float]:
        """mol of each salt per litre of solution."""
        litres = self.volume / A3_PER_CM3_PER_MOL / 1000.0
        return {salt.name: n / litres for salt, n in self.salts}

    @property
    def molality(self) -> dict[str, float]:
        """mol of each salt per kg of solvent."""
        kilograms = sum(solvent.mass * n for solvent, n in self.solvents) / 1000.0
        return {salt.name: n / kilograms for salt, n in self.salts}

    @property
    def ratio(self) -> tuple[float, ...]:
        """The solvents' ratio in the recipe's basis, with the same sum as the ratio asked for."""
        parts = [n * _per_mole(solvent, self.recipe.basis) for solvent, n in self.solvents]
        scale = sum(self.recipe.ratio) / sum(parts)
        return tuple(part * scale for part in parts)

    @property
    def deviation(self) -> float:
        """Largest relative difference to the asked concentrations and ratio."""
        got = self.molarity if self.recipe.unit == "M" else self.molality
        pairs = [(got[s.name], s.concentration) for s in self.recipe.salts]
        pairs += list(zip(self.ratio, self.recipe.ratio, strict=True))
        return max(abs(built / asked - 1.0) for built, asked in pairs)


def compose(recipe: Recipe, n_atoms: int, density: float | None = None) -> Composition:
    """The whole numbers nearest to a recipe in about ``n_atoms`` atoms (within about 5 %).

    ``density`` in g/cm3 replaces the expected one. Raises RecipeError where there is no room for
    the solvent, or fewer than one molecule of something; it then names the smallest ``n_atoms``.
    """
    if n_atoms < 1:
        raise RecipeError(f"expected a positive number of atoms, got {n_atoms}")
    if density is not None and not 0 < density < math.inf:
        raise RecipeError(f"expected a positive density in g/cm3, got {density:g}")
    amounts = _amounts(recipe, density)
    units = {s.name: find_salt(s.name) for s in recipe.salts} | {
        name: find_solvent(name) for name in recipe.solvents
    }
    moles = np.array([amounts[name] for name in units])
    atoms = np.array([len(unit) for unit in units.values()])
    per_atom = moles / (moles @ atoms)
    volumes = np.array([unit.molar_volume for unit in units.values()])
    masses = np.array([unit.mass for unit in units.values()])
    volume_per_atom = per_atom @ volumes if density is None else per_atom @ masses / density
    _check_size(list(units.values()), per_atom, volume_per_atom * A3_PER_CM3_PER_MOL, n_atoms)
    counts = _nearest_integers(per_atom, atoms, n_atoms)
    expected = float(counts @ masses / (counts @ volumes))
    if density is not None and density > MAX_COMPRESSION * expected:
        raise RecipeError(
            f"expected a density up to {MAX_COMPRESSION * expected:.2f} g/cm3 "
            f"({MAX_COMPRESSION:g} times the expected one), got {density:g}"
        )
    numbers = dict(zip(units, map(int, counts), strict=True))
    return Composition(recipe, numbers, expected if density is None else density)


def _amounts(recipe: Recipe, density: float | None) -> dict[str, float]:
    """Moles of each salt and solvent, of one litre (M), of one kg of solvent, or of anything."""
    solvents = [find_solvent(name) for name in recipe.solvents]
    parts = [
        part / _per_mole(solvent, recipe.basis)
        for part, solvent in zip(recipe.ratio, solvents, strict=True)
    ]
    mass = sum(n * solvent.mass for n, solvent in zip(parts, solvents, strict=True))
    volume = sum(n * solvent.molar_volume for n, solvent in zip(parts, solvents, strict=True))
    salts = [(find_salt(s.name), s.concentration) for s in recipe.salts]
    if recipe.unit == "mol/kg":
        scale = 1000.0 / mass
    elif recipe.unit == "M" and density is None:
        scale = (1000.0 - sum(c * salt.molar_volume for salt, c in salts)) / volume
    elif recipe.unit == "M" and density is not None:
        scale = (1000.0 * density - sum(c * salt.mass for salt, c in salts)) / mass
    else:
        scale = 1.0
    concentration = sum(c for _, c in salts)
    if scale * sum(parts) < MIN_SOLVENT_PER_SALT * concentration or scale <= 0:
        raise RecipeError(
            f"no room for the solvent: {concentration:g} {recipe.unit} leaves "
            f"{max(0.0, scale * sum(parts) / concentration):.2f} solvent molecules per formula "
            f"unit of salt, expected at least {MIN_SOLVENT_PER_SALT:g}"
        )
    moles = {salt.name: c for salt, c in salts}
    return moles | {s.name: scale * n for s, n in zip(solvents, parts, strict=True)}


def _check_size(
    units: list[Salt | Molecule], per_atom: np.ndarray, volume_per_atom: float, n_atoms: int
) -> None:
    """Refuse a box without one molecule of each kind, or smaller than a molecule."""
    rarest = int(np.argmin(per_atom))
    whole = math.ceil(MIN_MOLECULES / per_atom[rarest])
    extent = max(unit.extent for unit in units)
    wide = math.ceil((extent + IMAGE_GAP) ** 3 / volume_per_atom)
    smallest = max(whole, wide)
    if n_atoms >= smallest:
        return
    if n_atoms < whole:
        rare = units[rarest]
        one = f"one ion pair of {rare.name}" if isinstance(rare, Salt) else f"one {rare.name}"
        reason = f"{n_atoms * per_atom[rarest]:.2f} of {one}"
    else:
        side = np.cbrt(n_atoms * volume_per_atom)
        reason = f"a box of {side:.1f} A for a molecule {extent:.1f} A long"
    raise RecipeError(f"{n_atoms} atoms make {reason}: the smallest --atoms is {smallest}")


def _nearest_integers(per_atom: np.ndarray, atoms: np.ndarray, n_atoms: int) -> np.ndarray:
    """Whole numbers [n_kinds] closest to the asked proportions near the asked number of atoms.

    Rounding at the asked size alone can be far off for the rarest kind (6.4 ion pairs -> 6, -6 %),
    so sizes within 5 % are scanned for the least sum of the largest relative deviation from the
    proportions and half the relative deviation from the size.
    """
    sizes = n_atoms * np.linspace(1.0 - ATOMS_WINDOW, 1.0 + ATOMS_WINDOW, 101)
    candidates = np.maximum(1, np.rint(sizes[:, None] * per_atom))  # [n_sizes, n_kinds]
    built = candidates @ atoms
    off_proportion = np.abs(candidates / (built[:, None] * per_atom) - 1.0).max(axis=1)
    off_size = np.abs(built / n_atoms - 1.0)
    return candidates[np.argmin(off_proportion + 0.5 * off_size)].astype(int)


def _per_mole(solvent: Molecule, basis: str) -> float:
    """Volume, mass or number that one mole of a solvent counts for in a ratio."""
    if basis == "v/v":
        return solvent.molar_volume
    return solvent.mass if basis == "w/w" else 1.0
