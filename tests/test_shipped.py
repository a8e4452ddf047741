"""The models that are shipped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hff_ase import HybridFF, available_models
from hff_ase.dynamics.build import build_box
from hff_ase.models import model_path

NAMES = available_models()


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
    atoms = build_box("EC:EMC 1:1 v/v", 100, seed=3)
    atoms.calc = HybridFF.load(name, dtype="float64")
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    positions, cell, volume = atoms.positions.copy(), atoms.cell.copy(), atoms.get_volume()
    rng = np.random.default_rng(0)
    direction, strain = rng.normal(size=positions.shape), rng.normal(size=(3, 3))

    def moved(step: float) -> float:
        atoms.positions = positions + step * direction
        return atoms.get_potential_energy()

    def strained(step: float) -> float:
        deform = np.eye(3) + step * (strain + strain.T) / 2
        atoms.set_cell(cell @ deform)
        atoms.positions = positions @ deform
        return atoms.get_potential_energy()

    assert slope(moved) == pytest.approx(-np.sum(forces * direction), rel=1e-6)
    assert slope(strained) == pytest.approx(volume * np.sum(stress * strain), rel=1e-6)


def slope(energy: Callable[[float], float]) -> float:
    """Derivative at 0, over a way so short that hardly any pair crosses a bare cut (of dispersion
    or a lattice sum), which is a step in the energy."""
    step = 1e-6
    return (energy(step) - energy(-step)) / (2 * step)
