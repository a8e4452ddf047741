"""A recipe in, a periodic box of liquid out."""

from __future__ import annotations

from dataclasses import replace

from ase import Atoms

from hff_ase.errors import RecipeError
from hff_ase.settings.common import BOX_ATOMS

from .composition import Composition, compose
from .pack import pack
from .parsing import parse_recipe
from .proportions import A3_PER_CM3_PER_MOL
from .recipe import Recipe
from .smallest import smallest

# Fractions of the expected density that are tried in turn until the molecules fit.
LOOSER = (1.0, 0.96, 0.92, 0.88)


def build_box(
    recipe: str | Recipe,
    n_atoms: int | None = None,
    *,
    within: float | None = None,
    density: float | None = None,
    seed: int = 0,
    timeout: float = 600.0,
) -> Atoms:
    """A cubic periodic box of about ``n_atoms`` atoms (within about 5 %) of a liquid.

    With ``within`` (0.02 for 2 %) it is the smallest box whose concentrations, ratio and per cent
    all come that near to the recipe, of at least ``n_atoms`` atoms; without, about 1000 atoms are
    the default.
    ``density`` in g/cm3 replaces the expected one, and is then met exactly; the expected one may
    be lowered by up to 12 % where the molecules do not fit. ``timeout`` in seconds is for one
    attempt of packmol. Molecules are whole and rigid copies of one conformer (PC and FEC: of
    one enantiomer), not equilibrated: relax before MD.

    The atoms carry ``arrays["molecule"]`` [n_atoms], one id from 0 per molecule or ion, and in
    ``info``: ``molecules`` (the name of each id), ``composition`` (numbers by salt and solvent),
    ``recipe``, ``charge`` (0.0) and ``seed``. All survive a round trip through extxyz.

    Raises RecipeError for a recipe that cannot be read, met or packed.
    """
    if isinstance(recipe, str):
        recipe = parse_recipe(recipe)
    if within is None:
        plan = compose(recipe, BOX_ATOMS if n_atoms is None else n_atoms, density)
    else:
        plan = smallest(recipe, within, density, 1 if n_atoms is None else n_atoms)
    for fraction in LOOSER if density is None else (1.0,):
        trial = replace(plan, density=plan.density * fraction)
        box = pack(trial.molecules, trial.length, seed, timeout)
        if box is not None:
            box.info = {
                "recipe": str(recipe),
                "charge": 0.0,
                "composition": dict(plan.counts),
                "molecules": [m.name for m, n in trial.molecules for _ in range(n)],
                "seed": seed,
            }
            return box
    raise RecipeError(
        f"packmol found no way to place {plan.n_atoms} atoms of '{recipe}' at {plan.density:.3f} "
        "g/cm3: expected a lower density, another seed or more atoms"
    )


def describe_box(atoms: Atoms) -> Composition:
    """What a box from ``build_box`` holds at its present volume; RecipeError for another box."""
    missing = [key for key in ("recipe", "composition") if key not in atoms.info]
    if missing:
        raise RecipeError(f"expected a box made by build_box, got one without {missing} in info")
    recipe = parse_recipe(atoms.info["recipe"])
    counts = {name: int(n) for name, n in atoms.info["composition"].items()}
    density = float(atoms.get_masses().sum() / atoms.get_volume() * A3_PER_CM3_PER_MOL)
    return Composition(recipe, counts, density)
