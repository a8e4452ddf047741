"""Targets from the package's own data, and the elements in the liquids of targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from hff_ase.calculators.finetune.targets import Target
from hff_ase.dynamics.build import compose, parse_recipe
from hff_ase.dynamics.reference.lookup import QUANTITIES, measured
from hff_ase.errors import ConfigError, RecipeError

SMALL = 400  # atoms of a box that holds every molecule of a recipe


def with_reference(targets: Sequence[Target]) -> list[Target]:
    """Targets whose value is ``reference`` with the value that comes with the package.

    Raises:
        ConfigError: none was measured of that liquid at that temperature.
    """
    found = []
    for target in targets:
        if math.isnan(target.value):
            known = None
            if target.quantity in QUANTITIES:
                known = measured(target.quantity, target.liquid, target.temperature)
            if known is None:
                raise ConfigError(
                    f"expected reference data for {target}, got none: give value, uncertainty and "
                    "source"
                )
            target = replace(
                target, value=known.value, uncertainty=known.uncertainty, source=known.source
            )
        found.append(target)
    return found


def elements_of(targets: Sequence[Target]) -> dict[str, list[str]]:
    """Chemical symbols in each liquid that is a recipe."""
    found: dict[str, list[str]] = {}
    for target in targets:
        if target.liquid not in found:
            try:
                composition = compose(parse_recipe(target.liquid), SMALL)
            except RecipeError:
                continue
            symbols = {s for kind, _ in composition.molecules for s in kind.symbols}
            found[target.liquid] = sorted(symbols)
    return found
