"""The models that are shipped."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from hff_ase import HybridFF, available_models
from hff_ase import testing as checks
from hff_ase.dynamics.build import build_box, find_solvent
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


@pytest.mark.parametrize("name", ["electrolyte", "electrolyte-e3"])
@pytest.mark.parametrize("solvent", ["DMC", "EMC", "ethyl acetate", "ethanol", "acetone"])
def test_hydrogens_of_a_methyl_group_do_not_meet(name: str, solvent: str) -> None:
    """Closing the angle H-C-H costs more and more, from 90 degrees (1.56 Angstrom between them) to
    30 (0.57 Angstrom): no network saw such a molecule (docs/decisions/methyl-wall.md)."""
    atoms = find_solvent(solvent).atoms()
    atoms.calc = HybridFF.load(name)
    carbon, first, second = methyl(atoms)
    start = atoms.positions.copy()
    u, v = (unit(start[h] - start[carbon]) for h in (first, second))
    middle, across = unit(u + v), unit(u - v)
    energies = []
    for half in np.radians(np.arange(90, 29, -5)) / 2:
        along, aside = 1.1 * np.cos(half) * middle, 1.1 * np.sin(half) * across
        atoms.positions[first] = start[carbon] + along + aside
        atoms.positions[second] = start[carbon] + along - aside
        energies.append(atoms.get_potential_energy())
    assert (np.diff(energies) > 0.0).all(), np.round(np.array(energies) - energies[0], 2)


def methyl(atoms: Atoms) -> tuple[int, int, int]:
    """A carbon with three hydrogens, and two of these."""
    distances = atoms.get_all_distances()
    for carbon in np.flatnonzero(atoms.numbers == 6):
        found = np.flatnonzero((atoms.numbers == 1) & (distances[carbon] < 1.3))
        if len(found) == 3:
            return int(carbon), int(found[0]), int(found[1])
    raise AssertionError("no methyl group")


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector))
