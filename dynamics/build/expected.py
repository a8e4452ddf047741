"""The density that a box should come to."""

from __future__ import annotations

from ase import Atoms

from hff_ase.dynamics.build.composition import compose
from hff_ase.dynamics.build.parsing import parse_recipe
from hff_ase.errors import RecipeError


def recipe_density(atoms: Atoms) -> float | None:
    """That of the recipe that a box was built from, g/cm^3 (molar volumes added up); None where it
    has none that can be read."""
    recipe = atoms.info.get("recipe")
    if recipe is None:
        return None
    try:
        return compose(parse_recipe(str(recipe)), len(atoms)).density
    except RecipeError:
        return None
