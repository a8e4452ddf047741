"""Liquid boxes from a recipe: ``build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 1000)``."""

from __future__ import annotations

from .box import build_box, describe_box
from .composition import Composition, compose
from .finding import find_component, find_salt, find_solvent
from .library import Molecule, ions, solvents
from .pack import closest_contact
from .parsing import parse_recipe
from .recipe import Additive, Recipe, SaltAmount
from .salts import Salt, salts
from .smallest import smallest

__all__ = [
    "Additive",
    "Composition",
    "Molecule",
    "Recipe",
    "Salt",
    "SaltAmount",
    "build_box",
    "closest_contact",
    "compose",
    "describe_box",
    "find_component",
    "find_salt",
    "find_solvent",
    "ions",
    "parse_recipe",
    "salts",
    "smallest",
    "solvents",
]
