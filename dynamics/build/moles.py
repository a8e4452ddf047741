"""Exact amounts of everything in a recipe: one linear equation per requirement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hff_ase.errors import RecipeError

from .finding import find_component, find_salt
from .library import Molecule
from .recipe import PERCENT, Recipe
from .salts import Salt

# Fewer solvent molecules than this per formula unit of salt is no solution: 1:1 melts exist.
MIN_SOLVENT_PER_SALT = 0.5


def amounts(recipe: Recipe, density: float | None) -> np.ndarray:
    """Moles of each of ``recipe.names``, of one litre (M), one kg of solvent, or of anything.

    Unknown are the scale s of the mixture and the moles a_k of the additives. An additive is a
    share f_k of the whole in its own measure p (mass, volume or number): a_k p_k = f_k (s P +
    sum_i n_i p_i + sum_j a_j p_j) with P that of the mixture and n_i of the dissolved salts. The
    volume of the whole (M), or the mass of its solvents (mol/kg), closes the set.

    Raises RecipeError where nothing positive solves it.
    """
    mixture = [find_component(name) for name in recipe.solvents]
    parts = np.array(
        [r / per_mole(u, recipe.basis) for r, u in zip(recipe.ratio, mixture, strict=True)]
    )
    added = [find_component(additive.name) for additive in recipe.additives]
    salts = [find_salt(salt.name) for salt in recipe.salts]
    moles = np.array([salt.concentration for salt in recipe.salts])

    def sums(measure: str) -> tuple[float, float, np.ndarray]:
        """Of the mixture at s = 1, of the dissolved salts, and of a mole of each additive."""
        return (
            float(parts @ [per_mole(unit, measure) for unit in mixture]),
            float(moles @ [per_mole(salt, measure) for salt in salts]) if salts else 0.0,
            np.array([per_mole(unit, measure) for unit in added]),
        )

    matrix = np.zeros((1 + len(added),) * 2)
    right = np.zeros(1 + len(added))
    matrix[0], right[0] = _scale_row(recipe, density, sums, added)
    for k, additive in enumerate(recipe.additives):
        whole, dissolved, each = sums(PERCENT[additive.unit])
        share = additive.percent / 100.0
        matrix[1 + k] = np.concatenate([[-share * whole], -share * each])
        matrix[1 + k, 1 + k] += each[k]
        right[1 + k] = share * dissolved
    try:
        solution = np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        solution = np.full(len(right), -1.0)
    _check_room(recipe, salts, moles, solution, float(parts.sum()), added)
    return np.concatenate([moles, solution[0] * parts, solution[1:]])


def _scale_row(
    recipe: Recipe,
    density: float | None,
    sums: Callable[[str], tuple[float, float, np.ndarray]],
    added: Sequence[Molecule | Salt],
) -> tuple[np.ndarray, float]:
    """The equation that sets how much there is."""
    if not recipe.unit:
        return np.array([1.0, *np.zeros(len(added))]), 1.0
    if recipe.unit == "mol/kg":
        mass, _, each = sums("w/w")
        neutral = [isinstance(unit, Molecule) for unit in added]
        return np.concatenate([[mass], each * neutral]), 1000.0
    measure, whole = ("v/v", 1000.0) if density is None else ("w/w", 1000.0 * density)
    mixture, dissolved, each = sums(measure)
    return np.concatenate([[mixture], each]), whole - dissolved


def _check_room(
    recipe: Recipe,
    salts: list[Salt],
    moles: np.ndarray,
    solution: np.ndarray,
    parts: float,
    added: list[Molecule | Salt],
) -> None:
    """Refuse what leaves no solvent for the salt."""
    concentration = float(moles.sum())
    if salts and (solution[0] * parts < MIN_SOLVENT_PER_SALT * concentration or solution[0] <= 0):
        raise RecipeError(
            f"no room for the solvent: {concentration:g} {recipe.unit} leaves "
            f"{max(0.0, solution[0] * parts / concentration):.2f} solvent molecules per formula "
            f"unit of salt, expected at least {MIN_SOLVENT_PER_SALT:g}"
        )
    if min(solution) <= 0:
        names = ", ".join(unit.name for unit in added)
        raise RecipeError(f"no room for the solvent beside so much of {names}")


def per_mole(unit: Molecule | Salt, measure: str) -> float:
    """Volume, mass or number that one mole counts for in a ratio: v/v, w/w, else by number."""
    if measure == "v/v":
        return unit.molar_volume
    return unit.mass if measure == "w/w" else 1.0
