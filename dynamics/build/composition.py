"""From a recipe to whole numbers of molecules, and back to what those numbers amount to.

Solvents mix with additive volumes and each salt adds its apparent molar volume, unless a density
is given; molarity is per litre of the solution so obtained, molality per kg of its solvents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hff_ase.errors import RecipeError

from .finding import find_component, find_salt
from .library import Molecule
from .moles import per_mole
from .proportions import A3_PER_CM3_PER_MOL, Proportions, proportions
from .recipe import PERCENT, Recipe
from .salts import Salt

Unit = Molecule | Salt


# A component must come to at least this many molecules: one molecule is then at most half too much.
MIN_MOLECULES = 2.0 / 3.0
# Atom counts within this fraction of the asked one are tried for whole numbers that fit better.
ATOMS_WINDOW = 0.05
# A density this many times the expected one packs, but is no liquid.
MAX_COMPRESSION = 1.5


@dataclass(frozen=True)
class Composition:
    """Whole numbers of formula units at a density; everything else follows from these.

    Attributes:
        recipe: that they were made for.
        counts: formula units by name of salt or solvent.
        density: g/cm3.
    """

    recipe: Recipe
    counts: dict[str, int]
    density: float

    @property
    def salts(self) -> list[tuple[Salt, int]]:
        """Each salt that is dissolved or added with its number of formula units."""
        found = [(find_salt(s.name), self.counts[s.name]) for s in self.recipe.salts]
        return found + [(unit, n) for unit, n in self.additives if isinstance(unit, Salt)]

    @property
    def solvents(self) -> list[tuple[Unit, int]]:
        """What salts are dissolved in: the mixture and each neutral additive, with numbers."""
        found = [(find_component(name), self.counts[name]) for name in self.recipe.solvents]
        return found + [(unit, n) for unit, n in self.additives if isinstance(unit, Molecule)]

    @property
    def additives(self) -> list[tuple[Unit, int]]:
        """Each additive with its number."""
        return [(find_component(a.name), self.counts[a.name]) for a in self.recipe.additives]

    @property
    def molecules(self) -> list[tuple[Molecule, int]]:
        """Each kind of molecule or ion with its number: cations, anions, solvents."""
        units = [*self.salts, *self.solvents]
        pairs = [(unit, n) for unit, n in units if isinstance(unit, Salt)]
        parts = [(salt.cation, n * salt.n_cations) for salt, n in pairs]
        parts += [(salt.anion, n * salt.n_anions) for salt, n in pairs]
        parts += [(unit, n) for unit, n in units if isinstance(unit, Molecule)]
        kinds: dict[str, Molecule] = {}
        numbers: dict[str, int] = {}
        for molecule, n in parts:
            kinds[molecule.name] = molecule
            numbers[molecule.name] = numbers.get(molecule.name, 0) + n
        return [(kinds[name], n) for name, n in numbers.items()]

    @property
    def n_atoms(self) -> int:
        """Atoms in the box."""
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
        units = [(find_component(name), self.counts[name]) for name in self.recipe.solvents]
        parts = [n * per_mole(unit, self.recipe.basis) for unit, n in units]
        scale = sum(self.recipe.ratio) / sum(parts)
        return tuple(part * scale for part in parts)

    @property
    def percent(self) -> dict[str, float]:
        """Share of each additive in the whole solution, per cent in its own unit."""
        units = [(find_component(name), n) for name, n in self.counts.items()]
        shares = {}
        for additive in self.recipe.additives:
            basis = PERCENT[additive.unit]
            whole = sum(n * per_mole(unit, basis) for unit, n in units)
            own = self.counts[additive.name] * per_mole(find_component(additive.name), basis)
            shares[additive.name] = 100.0 * own / whole
        return shares

    @property
    def deviation(self) -> float:
        """Largest relative difference to the asked concentrations, ratio and per cent."""
        got = self.molarity if self.recipe.unit == "M" else self.molality
        pairs = [(got[s.name], s.concentration) for s in self.recipe.salts]
        pairs += list(zip(self.ratio, self.recipe.ratio, strict=True))
        pairs += [(self.percent[a.name], a.percent) for a in self.recipe.additives]
        return max(abs(built / asked - 1.0) for built, asked in pairs)


def compose(recipe: Recipe, n_atoms: int, density: float | None = None) -> Composition:
    """The whole numbers nearest to a recipe in about ``n_atoms`` atoms (within about 5 %).

    ``density`` in g/cm3 replaces the expected one. Raises RecipeError where there is no room for
    the solvent, or fewer than one molecule of something; it then names the smallest ``n_atoms``.
    """
    if n_atoms < 1:
        raise RecipeError(f"expected a positive number of atoms, got {n_atoms}")
    parts = proportions(recipe, density)
    _check_size(parts, n_atoms)
    return with_density(parts, _nearest_integers(parts.per_atom, parts.atoms, n_atoms))


def with_density(parts: Proportions, counts: np.ndarray) -> Composition:
    """Whole numbers [n_kinds] as a composition at the given or else the expected density."""
    expected = float(counts @ parts.masses / (counts @ parts.volumes))
    density = parts.density
    if density is not None and density > MAX_COMPRESSION * expected > 0:
        raise RecipeError(
            f"expected a density up to {MAX_COMPRESSION * expected:.2f} g/cm3 "
            f"({MAX_COMPRESSION:g} times the expected one), got {density:g}"
        )
    numbers = dict(zip(parts.recipe.names, map(int, counts), strict=True))
    return Composition(parts.recipe, numbers, expected if density is None else density)


def _check_size(parts: Proportions, n_atoms: int) -> None:
    """Refuse a box without one molecule of each kind, or smaller than a molecule."""
    rarest = int(np.argmin(parts.per_atom))
    whole = math.ceil(MIN_MOLECULES / parts.per_atom[rarest])
    smallest = max(whole, parts.least_atoms)
    if n_atoms >= smallest:
        return
    if n_atoms < whole:
        rare = parts.units[rarest]
        one = f"one ion pair of {rare.name}" if isinstance(rare, Salt) else f"one {rare.name}"
        reason = f"{n_atoms * parts.per_atom[rarest]:.2f} of {one}"
    else:
        side = np.cbrt(n_atoms * parts.volume_per_atom)
        extent = max(unit.extent for unit in parts.units)
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
