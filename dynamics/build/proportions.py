"""A recipe in exact numbers, per atom of a box, before they are made whole."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ase.units import _Nav

from hff_ase.errors import RecipeError

from .finding import find_component
from .library import Molecule
from .moles import amounts
from .recipe import Recipe
from .salts import Salt

A3_PER_CM3_PER_MOL = 1e24 / _Nav  # 1.6605 A^3 per molecule for each cm3/mol
# Room between a molecule and its own periodic image, Angstrom.
IMAGE_GAP = 2.0

Unit = Molecule | Salt


@dataclass(frozen=True)
class Proportions:
    """A recipe in exact numbers: arrays [n_kinds] over ``units``, salts, solvents, additives.

    ``per_atom`` in formula units per atom of the box, ``atoms`` per formula unit, ``volumes`` in
    cm3/mol, ``masses`` in g/mol; ``density`` in g/cm3 where it is given.
    """

    recipe: Recipe
    units: tuple[Unit, ...]
    per_atom: np.ndarray
    atoms: np.ndarray
    volumes: np.ndarray
    masses: np.ndarray
    density: float | None

    @property
    def volume_per_atom(self) -> float:
        """A^3."""
        if self.density is None:
            return float(self.per_atom @ self.volumes) * A3_PER_CM3_PER_MOL
        return float(self.per_atom @ self.masses) / self.density * A3_PER_CM3_PER_MOL

    @property
    def least_atoms(self) -> int:
        """Atoms of the smallest box that is wider than its longest molecule."""
        extent = max(unit.extent for unit in self.units)
        return math.ceil((extent + IMAGE_GAP) ** 3 / self.volume_per_atom)


def proportions(recipe: Recipe, density: float | None = None) -> Proportions:
    """Exact numbers of a recipe; RecipeError as `compose`, but for the number of atoms."""
    if density is not None and not 0 < density < math.inf:
        raise RecipeError(f"expected a positive density in g/cm3, got {density:g}")
    units = tuple(find_component(name) for name in recipe.names)
    _check_melt(units, density)
    moles = amounts(recipe, density)
    atoms = np.array([len(unit) for unit in units])
    return Proportions(
        recipe,
        units,
        moles / (moles @ atoms),
        atoms,
        np.array([unit.molar_volume for unit in units]),
        np.array([unit.mass for unit in units]),
        density,
    )


def _check_melt(units: tuple[Unit, ...], density: float | None) -> None:
    """Refuse a melt of atomic ions without a density: their volumes in solution say nothing about
    it."""
    melt = all(isinstance(unit, Salt) for unit in units)
    atomic = [u.name for u in units if isinstance(u, Salt) and len(u.anion) == 1]
    if melt and atomic and density is None:
        raise RecipeError(f"expected --density for a melt with {atomic[0]}, got none")
