"""The models that are shipped."""

from __future__ import annotations

import pytest

from hff_ase import HybridFF, available_models
from hff_ase import testing as checks
from hff_ase.dynamics.build import build_box
from hff_ase.models import model_path

NAMES = available_models()
RECIPES = {"ec-dmc-lipf6-pol": "EC:DMC 1:1 v/v"}  # of models that do not know the usual liquid


@pytest.mark.parametrize("name", NAMES)
def test_every_model_says_what_it_is(name: str) -> None:
    info = HybridFF.load(name).info
    assert info.name == name
    assert info.licence
    assert info.description
    assert info.provenance
    card = model_path(name).with_suffix(".md").read_text()
    assert card.startswith(f"# {name}\n")
    for what in ("**What it is.**", "**What it was trained on.**"):
        assert what in card


@pytest.mark.parametrize("name", NAMES)
def test_forces_and_stress_are_the_gradient_of_the_energy(name: str) -> None:
    """The step is so short that hardly any pair crosses a bare cut (of dispersion or a lattice
    sum), which is a step in the energy."""
    box = build_box(RECIPES.get(name, "EC:EMC 1:1 v/v"), 100, seed=3)
    calculator = HybridFF.load(name, dtype="float64")
    checks.check_calculator(calculator, [box], derivative_tolerance=1e-7, step=1e-6)
