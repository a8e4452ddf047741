"""Liquid boxes from a recipe: ``build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 1000)``."""

from __future__ import annotations

from .box import build_box, describe_box
from .composition import Composition, compose
from .library import Molecule, Salt, find_salt, find_solvent, salts, solvents
from .pack import closest_contact
from .recipe import Recipe, SaltAmount, parse_recipe

__all__ = [
    "Composition",
    "Molecule",
    "Recipe",
    "Salt",
    "SaltAmount",
    "build_box",
    "closest_contact",
    "compose",
    "describe_box",
    "find_salt",
    "find_solvent",
    "parse_recipe",
    "salts",
    "solvents",
]
