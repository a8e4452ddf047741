"""Committees: mean and spread against numpy, one search for all, and exact restarts."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import make_potential, salt_box, water
from core_models import equilibrated, feature_equilibrated

from hff_ase.calculators import HybridFF
from hff_ase.calculators.committee import Committee
from hff_ase.errors import ConfigError, StructureError

N_MEMBERS = 3


def members(dtype: str = "float64") -> list[HybridFF]:
    return [HybridFF(make_potential(seed), dtype=dtype) for seed in range(N_MEMBERS)]


def alone(atoms: Atoms) -> list[dict]:
    return [calc.evaluate([atoms])[0] for calc in members()]


def test_mean_and_spread_are_those_of_numpy():
    atoms = salt_box()
    atoms.calc = Committee(members())
    found = alone(atoms)
    forces = np.array([results["forces"] for results in found])
    assert np.allclose(atoms.get_forces(), forces.mean(0), atol=1e-10)
    assert atoms.get_potential_energy() == pytest.approx(np.mean([r["energy"] for r in found]))
    assert np.allclose(atoms.get_stress(), np.mean([r["stress"] for r in found], 0), atol=1e-12)
    assert np.allclose(atoms.get_charges(), np.mean([r["charges"] for r in found], 0), atol=1e-12)
    spread = atoms.calc.spread
    assert spread.energy == pytest.approx(np.std([r["energy"] for r in found]), rel=1e-9)
    expected = np.sqrt(forces.var(axis=0).sum(axis=1))
    assert np.allclose(spread.forces, expected, rtol=1e-8)
    assert spread.forces.shape == (len(atoms),)
    assert spread.largest() == pytest.approx(expected.max())
    assert spread.largest(0.5) == pytest.approx(np.median(expected))
    full = np.array([r["stress"][[0, 5, 4, 5, 1, 3, 4, 3, 2]] for r in found])
    assert spread.stress == pytest.approx(np.sqrt(full.var(axis=0).mean()))
    total = sum(atoms.calc.energy_terms.values())
    assert total == pytest.approx(atoms.get_potential_energy())


def test_first_drives_and_the_spread_is_the_same():
    atoms = salt_box()
    first, mean = Committee(members(), drive="first"), Committee(members())
    assert np.allclose(first.get_property("forces", atoms), alone(atoms)[0]["forces"], atol=1e-10)
    mean.get_property("forces", atoms)
    assert first.spread is not None
    assert mean.spread is not None
    assert np.array_equal(first.spread.forces, mean.spread.forces)


def test_members_that_agree_have_no_spread():
    calc = Committee([HybridFF(make_potential(1)), HybridFF(make_potential(1))])
    calc.get_property("energy", salt_box())
    assert calc.spread is not None
    assert calc.spread.energy == 0
    assert not calc.spread.forces.any()


def test_neighbours_are_searched_once_for_all_and_followed():
    calc, atoms = Committee(members(), skin=1.0), salt_box()
    rng = np.random.default_rng(2)
    for _ in range(6):
        atoms.positions += 0.02 * rng.normal(size=(8, 3))
        forces = np.mean([results["forces"] for results in alone(atoms)], axis=0)
        assert np.allclose(calc.get_property("forces", atoms), forces, atol=1e-9)
    assert calc._shared is not None
    assert calc._shared.neighbors.n_builds == 1


def test_results_are_results_of_ase():
    atoms = salt_box()
    atoms.calc = Committee(members("float32"))
    atoms.get_forces()
    copy = SinglePointCalculator(atoms, **atoms.calc.results)  # refuses what ASE does not know
    assert np.array_equal(copy.results["forces"], atoms.get_forces())
    single = water()
    single.calc = Committee(members())
    assert single.get_dipole_moment().shape == (3,)
    assert single.calc.spread is None or single.calc.spread.stress is None
    with pytest.raises(PropertyNotImplementedError):
        single.get_stress()


def test_a_new_total_charge_is_a_new_calculation():
    calc, atoms = Committee(members()), water()
    atoms.calc = calc
    before = atoms.get_potential_energy()
    atoms.info["charge"] = 1
    assert atoms.get_potential_energy() != before


def test_any_ase_calculator_can_be_a_member():
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.rattle(0.05, seed=1)
    calc = Committee([EMT(), LennardJones(sigma=2.3, epsilon=0.4, rc=5.0)])
    atoms.calc = calc
    forces = []
    for member in (EMT(), LennardJones(sigma=2.3, epsilon=0.4, rc=5.0)):
        copy = atoms.copy()
        copy.calc = member
        forces.append(copy.get_forces())
    assert np.allclose(atoms.get_forces(), np.mean(forces, 0))
    assert np.allclose(calc.spread.forces, np.sqrt(np.var(forces, 0).sum(1)))
    assert "charges" not in calc.implemented_properties
    results, spreads = calc.evaluate([atoms, atoms])
    assert np.array_equal(results[1]["forces"], atoms.get_forces())
    assert np.array_equal(spreads[0].forces, calc.spread.forces)


def test_batched_evaluation_is_that_of_one_by_one():
    structures = [water(), salt_box(1), salt_box(2)]
    calc = Committee(members())
    results, spreads = calc.evaluate(structures)
    for atoms, found, spread in zip(structures, results, spreads, strict=True):
        assert np.allclose(found["forces"], calc.get_property("forces", atoms), atol=1e-10)
        assert np.allclose(spread.forces, calc.spread.forces, atol=1e-10)
    assert spreads[0].stress is None


def test_restart_is_bit_for_bit():
    """Float32 sums depend on where neighbours were searched, and iterated charges on the start."""
    charged = equilibrated(1), feature_equilibrated(1)
    for potential in charged:
        potential.terms["charges"].solver = "iterative"

    def make() -> Committee:
        return Committee([HybridFF(p) for p in charged], skin=2.0)

    atoms, calc = salt_box(), make()
    moves = 0.03 * np.random.default_rng(0).normal(size=(6, 8, 3))
    for move in moves[:4]:
        atoms.positions += move
        calc.get_property("forces", atoms)
    state, other = calc.get_state(), make()
    assert any(name.startswith("member1_memory") for name in state)
    other.set_state(state)
    assert np.array_equal(other.get_property("forces", atoms), calc.get_property("forces", atoms))
    for move in moves[4:]:
        atoms.positions += move
        assert np.array_equal(
            other.get_property("forces", atoms), calc.get_property("forces", atoms)
        )
    with pytest.raises(ConfigError, match="expected a state with"):
        other.set_state({"positions": atoms.positions})


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_a_copy_goes_on_by_itself(duplicate):
    calc, atoms = Committee(members("float32")), salt_box()
    calc.get_property("forces", atoms)
    other = duplicate(calc)
    atoms.positions += 0.02 * np.random.default_rng(0).normal(size=(8, 3))
    forces = [c.get_property("forces", atoms) for c in (other, calc)]
    assert np.array_equal(*forces)
    assert np.array_equal(other.spread.forces, calc.spread.forces)


def test_what_is_asked_apart_does_not_depend_on_the_past():
    calc, atoms = Committee(members("float32")), salt_box()
    fresh = calc.evaluate_members([atoms], skip=1)
    for k in range(3):
        calc.get_property("forces", salt_box(k + 5))
    again = calc.evaluate_members([atoms], skip=1)
    assert len(again[0]) == N_MEMBERS - 1
    for one, other in zip(fresh[0], again[0], strict=True):
        assert np.array_equal(one["forces"], other["forces"])


def test_a_bad_structure_leaves_nothing_behind():
    calc, atoms = Committee(members()), salt_box()
    expected = calc.get_property("forces", atoms)
    broken = atoms.copy()
    broken.positions[1] = broken.positions[0] + 0.01
    with pytest.raises(StructureError, match="at least"):
        calc.get_property("forces", broken)
    assert calc.spread is None
    assert np.allclose(calc.get_property("forces", atoms), expected, atol=1e-12)
    with pytest.raises(StructureError, match="model knows"):
        calc.get_property("energy", Atoms("Na"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Committee([EMT()]), "at least two members, got 1"),
        (lambda: Committee([EMT(), "b.hff"]), "calculators with forces, got str"),
        (lambda: Committee([EMT(), EMT()], drive="median"), "'mean' or 'first', got 'median'"),
    ],
)
def test_what_is_no_committee(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
