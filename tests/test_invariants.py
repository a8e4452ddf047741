"""What must hold for the whole potential, whatever its weights: batching, symmetry, derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from core_models import VARIANTS, mixed_systems
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hff_ase.testing as checks
from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.potential import HybridPotential
from hff_ase.testing.compare import evaluate

N_SYSTEMS = 64
QUICK = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# Meshes and truncated sums depend on the place of the origin, and on where a list was built.
LATTICE_SUM = {"ewald": 1e-6, "pme": 3e-5, "qeq and d3": 1e-6}


@pytest.fixture(scope="module", params=list(VARIANTS))
def named(request: pytest.FixtureRequest) -> tuple[str, HybridPotential]:
    """Each kind of potential, networks in float64."""
    return request.param, VARIANTS[request.param]().set_dtype(torch.float64)


@pytest.fixture(scope="module")
def systems() -> list[Atoms]:
    return mixed_systems(N_SYSTEMS)


def test_everything_that_ships_as_a_check(named: tuple[str, HybridPotential]) -> None:
    name, potential = named
    checks.check_potential(potential, lattice_sum_tolerance=LATTICE_SUM[name])


@pytest.mark.parametrize("name", list(VARIANTS))
def test_float32_networks_keep_all_but_derivatives(name: str) -> None:
    checks.check_potential(
        VARIANTS[name](), lattice_sum_tolerance=LATTICE_SUM[name] + 5e-6, derivative_tolerance=None
    )


@pytest.mark.parametrize("name", list(VARIANTS))
def test_calculator(name: str) -> None:
    """Over ASE's interface; the step is small since the bare cut of one term is a step."""
    calculator = HybridFF(VARIANTS[name](), dtype="float64")
    tolerance = {"pme": 3e-5}.get(name, 1e-6)
    checks.check_calculator(calculator, None, tolerance, derivative_tolerance=1e-5, step=1e-5)


def test_64_mixed_systems_in_one_pass_are_the_same_alone(
    named: tuple[str, HybridPotential], systems: list[Atoms]
) -> None:
    checks.check_batch_equals_single(named[1], systems, 1e-10)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_64_mixed_systems_with_float32_networks(name: str, systems: list[Atoms]) -> None:
    potential = VARIANTS[name]()
    together = evaluate(potential, systems)
    for atoms, batched in zip(systems, together, strict=True):
        (alone,) = evaluate(potential, atoms)
        per_atom = abs(float(batched["energy"] - alone["energy"])) / len(atoms)
        assert per_atom < 1e-6
        for quantity in ("forces", "stress", "field 'charges'"):
            scale = max(1.0, np.abs(alone[quantity]).max())
            np.testing.assert_allclose(batched[quantity], alone[quantity], atol=2e-6 * scale)


def test_64_mixed_systems_do_not_feel_each_other(
    named: tuple[str, HybridPotential], systems: list[Atoms]
) -> None:
    checks.check_no_gradient_across_systems(named[1], systems)


def test_batch_order_does_not_matter(
    named: tuple[str, HybridPotential], systems: list[Atoms]
) -> None:
    order = np.random.default_rng(1).permutation(N_SYSTEMS)
    straight = named[1](AtomsBatch.from_atoms(systems), stress=False).energy.numpy()
    shuffled = named[1](AtomsBatch.from_atoms([systems[k] for k in order]), stress=False)
    np.testing.assert_allclose(shuffled.energy.numpy(), straight[order], rtol=1e-11, atol=1e-10)


def test_partial_derivatives_are_those_of_the_full_pass(
    named: tuple[str, HybridPotential], systems: list[Atoms]
) -> None:
    """Asking for less changes nothing of what is asked for."""
    batch = AtomsBatch.from_atoms(systems[:16])
    full = named[1](batch)
    only_forces = named[1](batch, stress=False)
    only_stress = named[1](batch, forces=False)
    energy = named[1](batch, forces=False, stress=False)
    assert only_forces.stress is None
    assert only_stress.forces is None
    torch.testing.assert_close(only_forces.forces, full.forces, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(only_stress.stress, full.stress, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(energy.energy, full.energy, rtol=1e-13, atol=0)
    assert not full.energy.requires_grad


seeds = st.integers(0, 10**6)


@st.composite
def structures(draw: st.DrawFn) -> Atoms:
    """A small box or cluster of any elements, charge and disorder."""
    symbols = draw(st.lists(st.sampled_from(checks.ELEMENTS), min_size=1, max_size=9))
    charge = float(draw(st.integers(-2, 2)))
    seed = draw(seeds)
    make = checks.ionic_box if draw(st.booleans()) else checks.cluster
    return make("".join(symbols), charge=charge, seed=seed)


@QUICK
@given(atoms=structures(), seed=seeds)
def test_any_structure_under_translation(
    named: tuple[str, HybridPotential], atoms: Atoms, seed: int
) -> None:
    checks.check_translation(named[1], [atoms], LATTICE_SUM[named[0]], seed)


@QUICK
@given(atoms=structures(), seed=seeds)
def test_any_structure_under_rotations_and_reflections(
    named: tuple[str, HybridPotential], atoms: Atoms, seed: int
) -> None:
    checks.check_rotation(named[1], [atoms], 1e-9, seed)


@QUICK
@given(atoms=structures(), seed=seeds)
def test_any_structure_in_any_order(
    named: tuple[str, HybridPotential], atoms: Atoms, seed: int
) -> None:
    checks.check_permutation(named[1], [atoms], 1e-9, seed)


@QUICK
@given(atoms=structures(), seed=seeds)
def test_any_box_with_atoms_in_any_image(
    named: tuple[str, HybridPotential], atoms: Atoms, seed: int
) -> None:
    checks.check_lattice_shift(named[1], [atoms], 1e-9, seed)


@QUICK
@given(atoms=structures())
def test_any_structure_conserves_charge_and_momentum(
    named: tuple[str, HybridPotential], atoms: Atoms
) -> None:
    """Charges sum to the total charge; forces sum to zero but for the mesh."""
    (result,) = evaluate(named[1], atoms)
    assert result["field 'charges'"].sum() == pytest.approx(atoms.info["charge"], abs=1e-9)
    scale = max(1.0, np.abs(result["forces"]).max())
    assert np.abs(result["forces"].sum(0)).max() < 10 * LATTICE_SUM[named[0]] * scale
    np.testing.assert_allclose(result["stress"], result["stress"].T, atol=1e-10)
