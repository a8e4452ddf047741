"""The smallest box whose whole molecules meet a recipe within a tolerance."""

from __future__ import annotations

import math

import numpy as np

from hff_ase.errors import RecipeError

from .composition import Composition, with_density
from .proportions import Proportions, proportions
from .recipe import Recipe

MOST_ATOMS = 1_000_000
# Whole numbers whose proportions are off by more than this many tolerances are not looked at.
SLACK = 4.0


def smallest(
    recipe: Recipe, within: float, density: float | None = None, n_atoms: int = 1
) -> Composition:
    """The fewest molecules that meet every concentration, ratio and per cent of a recipe.

    ``within`` is the largest relative deviation, 0.02 for 2 %; ``density`` in g/cm3 replaces the
    expected one; the box holds at least ``n_atoms``
    atoms and is wider than its longest molecule. Raises RecipeError as `compose`, and where a
    million atoms are not enough.
    """
    if not 0 < within < 1:
        raise RecipeError(f"expected a tolerance between 0 and 1 (0.02 for 2 %), got {within:g}")
    parts = proportions(recipe, density)
    least = max(n_atoms, parts.least_atoms)
    if least > MOST_ATOMS:
        raise RecipeError(f"expected at most {MOST_ATOMS} atoms, got {least}")
    size = least
    while size <= MOST_ATOMS:
        for counts in _candidates(parts, size, min(2 * size, MOST_ATOMS), within):
            built = with_density(parts, counts)
            if built.n_atoms >= least and built.deviation <= within:
                return built
        size *= 2
    raise RecipeError(
        f"expected a box within {100 * within:g} % of the recipe, found none of up to "
        f"{MOST_ATOMS} atoms: a wider tolerance needs fewer"
    )


def _candidates(parts: Proportions, low: int, high: int, within: float) -> np.ndarray:
    """Whole numbers [n, n_kinds] by size, of sizes from ``low`` to ``high`` atoms, each once.

    Numbers within the tolerance are the nearest integers to the exact ones at some size, or
    differ from those by less than the tolerance; the nearest change where a kind passes a half.
    """
    exact = parts.per_atom
    halves = [
        (np.arange(math.floor(low * share), math.ceil(high * share) + 1) + 0.5) / share
        for share in exact
    ]
    edges = np.unique(np.concatenate([[low, high], *halves]))
    middle = 0.5 * (edges[1:] + edges[:-1])
    counts = np.rint(middle[:, None] * exact)
    counts = counts[(counts >= 1).all(axis=1)]
    sizes = counts @ parts.atoms
    off = np.abs(counts / (sizes[:, None] * exact) - 1.0).max(axis=1)
    counts = counts[off <= SLACK * within]
    return counts[np.argsort(counts @ parts.atoms, kind="stable")].astype(int)
