"""Charges, dipoles and quadrupoles, and dipoles that they induce: an independent lattice sum, exact
derivatives, frames, symmetries, solvers."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from core_models import molecular_box, molecular_gas
from multipole_models import multipolar_molecules, wet_lithium
from torch import Tensor
from torch.func import jacfwd, vmap

from hff_ase import testing as checks
from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.errors import ConfigError, StructureError
from hff_ase.evaluator import Evaluator
from hff_ase.longrange.induction.pairs import Near, Sites
from hff_ase.parameters import declared, set_values, values
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential
from hff_ase.terms import FixedMultipoles, MultipoleInduction, Multipoles
from hff_ase.units import COULOMB_CONSTANT


def potential(
    method: str = "ewald",
    tolerance: float = 1e-11,
    solver: str = "dense",
    form: str = "linear",
    mirrored: bool = True,
) -> HybridPotential:
    molecules = multipolar_molecules(mirrored=mirrored)
    sums: dict[str, Any] = {"cutoff": 5.2, "tolerance": tolerance, "method": method}
    terms = {
        "moments": FixedMultipoles(molecules),
        "multipoles": Multipoles(molecules, **sums),
        "induction": MultipoleInduction(
            molecules, form, solver=solver, dipole_tolerance=1e-11, **sums
        ),
    }
    model = HybridPotential(terms).requires_grad_(False).eval()
    return model.set_dtype(torch.float64)


def evaluated(model: HybridPotential, atoms: Atoms) -> Evaluation:
    return Evaluator(model, trajectory=False).evaluate(AtomsBatch.from_atoms(atoms))


ALPHA = 0.62  # of the slow sum: another one than the terms'


def image_sum(cell: np.ndarray, volume: float, own: bool) -> Any:
    """Potential of a unit charge with all its images and a background, as a function of r [3]; with
    ``own`` of the images only, near r = 0."""
    index = np.array(list(itertools.product(range(-4, 5), repeat=3)))
    away = index[np.abs(index).sum(1) > 0]
    near = index[np.abs(index).max(1) <= 2]
    shifts = torch.as_tensor((near[np.abs(near).sum(1) > 0] if own else near) @ cell)
    waves = torch.as_tensor(2.0 * math.pi * away @ np.linalg.inv(cell).T)
    k2 = waves.square().sum(1)
    weight = 4.0 * math.pi / volume * torch.exp(-k2 / (4.0 * ALPHA**2)) / k2

    def potential_at(r: Tensor) -> Tensor:
        distance = (r + shifts).square().sum(1).sqrt()
        total = (torch.erfc(ALPHA * distance) / distance).sum()
        total = total + (weight * torch.cos(waves @ r)).sum() - math.pi / (ALPHA**2 * volume)
        if own:  # less erf(x)/r, to the order that fourth derivatives at 0 see
            x2 = ALPHA**2 * r.square().sum()
            series = 1.0 - x2 / 3.0 + x2**2 / 10.0
            total = total - 2.0 * ALPHA / math.sqrt(math.pi) * series
        return total

    return potential_at


def test_energies_are_those_of_a_slow_lattice_sum() -> None:
    """L_i L_j of the potential of a lattice of charges, differentiated four times by torch."""
    atoms = wet_lithium()
    found = evaluated(potential(mirrored=False), atoms)
    charges = found.fields["charges"]
    mu, theta = found.fields["permanent_dipoles"], found.fields["permanent_quadrupoles"] / 3.0
    cell, place = np.asarray(atoms.cell), torch.as_tensor(atoms.positions)

    def energy(of: Any, pairs: list[tuple[int, int]]) -> float:
        i, j = torch.tensor(pairs).T
        d = [of]
        for _ in range(4):
            d.append(jacfwd(d[-1]))
        g, g1, g2, g3, g4 = (vmap(f)(place[i] - place[j]) for f in d)
        qi, qj, mi, mj, ti, tj = charges[i], charges[j], mu[i], mu[j], theta[i], theta[j]
        # derivatives at the place of j have the other sign
        total = qi * qj * g
        total = total + torch.einsum("p,pa,pa->p", qj, mi, g1)
        total = total - torch.einsum("p,pa,pa->p", qi, mj, g1)
        total = total - torch.einsum("pa,pb,pab->p", mi, mj, g2)
        total = total + torch.einsum("p,pab,pab->p", qj, ti, g2)
        total = total + torch.einsum("p,pab,pab->p", qi, tj, g2)
        total = total + torch.einsum("pa,pbc,pabc->p", mi, tj, g3)
        total = total - torch.einsum("pa,pbc,pabc->p", mj, ti, g3)
        total = total + torch.einsum("pab,pcd,pabcd->p", ti, tj, g4)
        return float(total.sum())

    volume = atoms.get_volume()
    expected = energy(image_sum(cell, volume, False), list(itertools.combinations(range(4), 2)))
    expected += 0.5 * energy(image_sum(cell, volume, True), [(i, i) for i in range(4)])
    expected -= energy(lambda r: 1.0 / r.square().sum().sqrt(), [(0, 1), (0, 2), (1, 2)])
    expected *= COULOMB_CONSTANT
    assert float(found.energy_terms["multipoles"]) == pytest.approx(expected, abs=1e-8)
    assert np.abs(expected) > 0.1


def test_a_field_is_that_of_the_energy() -> None:
    """Undamped, dE/dmu of an atom is minus the field there: E is linear in a small dipole more."""
    model = potential(mirrored=False)
    induction, multipoles = model.terms["induction"], model.terms["multipoles"]
    assert isinstance(induction, MultipoleInduction)
    induction.thole = 1e4
    batch = AtomsBatch.from_atoms([wet_lithium(), molecular_gas()])
    neighbors = model.neighbor_list()
    neighbors.update(batch)
    near = neighbors.bind(batch)
    fields = dict(Evaluator(model, trajectory=False).evaluate(batch).fields)
    mu = fields["permanent_dipoles"].clone().requires_grad_()
    fields["permanent_dipoles"] = mu
    energy = multipoles(batch, near, fields).sum()
    (slope,) = torch.autograd.grad(energy, mu)
    _, field = induction.sources(batch, near, fields, near.plan(induction))
    assert field is not None
    torch.testing.assert_close(field, -slope / COULOMB_CONSTANT, rtol=0, atol=1e-8)


@pytest.mark.parametrize("form", ["linear", "cubic"])
def test_damping_is_that_of_a_smeared_charge(form: str) -> None:
    """lambda_5 = lambda_3 - r lambda_3'/3 and lambda_7 = lambda_5 - r lambda_5'/5."""
    r = torch.linspace(0.3, 6.0, 40, dtype=torch.float64, requires_grad=True)
    one = torch.zeros(40, dtype=torch.int64)
    volume = torch.tensor([0.9], dtype=torch.float64)
    sites = Sites(volume, volume, 2.3, form)
    decays = sites.decays(r, one, one)
    assert float(decays[0][-1].detach()) < 1e-3
    for k, (low, high) in enumerate(itertools.pairwise(decays)):
        (slope,) = torch.autograd.grad(low.sum(), r, retain_graph=True)
        expected = low - r * slope / (2 * k + 3)
        torch.testing.assert_close(high.detach(), expected.detach(), rtol=1e-9, atol=1e-12)


def test_forces_and_stress_are_exact() -> None:
    """Moments that turn with their frames, in a small triclinic box and without a cell."""
    mesh = potential("pme", 1e-6, "iterative", mirrored=False)
    checks.check_forces(mesh, [wet_lithium()], n_directions=2)
    checks.check_stress(mesh, [wet_lithium()])
    checks.check_forces(potential(form="cubic", mirrored=False), [molecular_gas()], n_directions=1)


@pytest.mark.slow
def test_forces_and_stress_are_exact_in_a_larger_box() -> None:
    for solver in ("iterative", "dense"):
        mesh = potential("pme", 1e-6, solver, mirrored=False)
        checks.check_forces(mesh, [molecular_box()], n_directions=2)
        checks.check_stress(mesh, [molecular_box()])


def test_batches_rotations_images_and_kernels() -> None:
    structures = [molecular_box(), molecular_gas(1)]
    model = potential("pme", 1e-6, "iterative")
    checks.check_batch_equals_single(model, structures, tolerance=1e-8)
    checks.check_no_gradient_across_systems(model, structures)
    checks.check_rotation(model, structures, tolerance=1e-8)
    checks.check_permutation(model, structures, tolerance=1e-8)
    checks.check_kernels(model, structures)


def test_solvers_meshes_and_training_agree() -> None:
    exact = evaluated(potential(), molecular_box())
    assert exact.forces is not None
    for model, allowed in (
        (potential(solver="iterative"), 1e-8),
        (potential().train(), 1e-8),
        (potential("pme", 1e-6), 1e-4),
    ):
        found = evaluated(model, molecular_box())
        assert found.forces is not None
        for name, energy in exact.energy_terms.items():
            assert float(found.energy_terms[name]) == pytest.approx(float(energy), abs=allowed)
        torch.testing.assert_close(found.forces, exact.forces, rtol=0, atol=10 * allowed)
        torch.testing.assert_close(
            found.fields["dipoles"], exact.fields["dipoles"], rtol=0, atol=allowed
        )


def test_published_frames_depend_on_the_axes_of_space() -> None:
    """And only these: the package's own do not (the check of rotations above)."""
    molecules = multipolar_molecules()
    for entry in molecules:
        entry["frames"] = [
            ["axial_and_lab" if row[0] == "axial" else row[0], *row[1:]] for row in entry["frames"]
        ]
    terms = {"moments": FixedMultipoles(molecules), "multipoles": Multipoles(molecules)}
    model = HybridPotential(terms).eval()
    atoms = molecular_gas()
    turned = atoms.copy()
    turned.rotate(40, (1, 2, 3))
    one, two = (evaluated(model, a) for a in (atoms, turned))
    assert abs(float(one.energy) - float(two.energy)) > 1e-3
    assert one.forces is not None
    torque = np.cross(atoms.positions, one.forces.numpy()).sum(0)
    assert np.abs(torque).max() > 1e-3


def test_the_dipole_of_a_calculator_is_what_a_far_charge_feels() -> None:
    """E(R) - E(-R) = 2 k q mu . R / R^3 for a charge at R: of charges, permanent and induced."""
    model = potential()
    water = wet_lithium()[:3]
    water.set_pbc(False)
    water.info["charge"] = 0.0
    water.calc = HybridFF(model)
    dipole = water.get_dipole_moment()
    of_charges = water.get_charges() @ water.positions
    assert np.linalg.norm(dipole - of_charges) > 0.01
    far, energies = np.array([1200.0, -700.0, 900.0]), []
    for sign in (1, -1):
        probed = water.copy() + Atoms("Li", [sign * far])
        probed.info["charge"] = 1.0
        energies.append(float(evaluated(model, probed).energy_terms["multipoles"]))
    expected = 2.0 * COULOMB_CONSTANT * dipole @ far / np.linalg.norm(far) ** 3
    assert energies[0] - energies[1] == pytest.approx(expected, rel=1e-4)


MOMENTS = [f"moments.{name}.value" for name in ("charge", "dipole", "quadrupole")]
INDUCTION = ["induction.polarizability.value", "induction.thole"]


@pytest.mark.parametrize("one_volume", [False, True])
def test_gradients_in_parameters_are_exact(one_volume: bool) -> None:
    """Of moments, polarizabilities and the damping, against differences of the energy; where the
    polarizability is the volume of the damping it is one parameter."""
    model = potential(mirrored=False)
    names = [*MOMENTS, *INDUCTION, "induction.damping.value"]
    if one_volume:
        molecules = multipolar_molecules()
        for entry in molecules:
            del entry["damping"]
        terms = {"moments": FixedMultipoles(molecules), "induction": MultipoleInduction(molecules)}
        model, names = HybridPotential(terms).eval(), INDUCTION
        assert "induction.damping.value" not in declared(model)
        copied = MultipoleInduction(**model.terms["induction"].config())
        assert "damping" not in copied.config()["molecules"][0]
    batch = AtomsBatch.from_atoms(wet_lithium())
    evaluator = Evaluator(model, trajectory=False)
    found = evaluator.evaluate(batch, derivatives=["parameters"], parameters=names)
    start = values(model, names)
    generator = torch.Generator().manual_seed(0)
    for name in names:
        gradient = found.parameter_gradients[name]
        way = torch.randn(start[name].shape, generator=generator, dtype=torch.float64)
        ends = []
        for step in (1e-4, -1e-4):
            set_values(model, {name: start[name] + step * way})
            changed = Evaluator(model, trajectory=False).evaluate(batch)
            ends.append(float(changed.energy))
        set_values(model, {name: start[name]})
        slope = (ends[0] - ends[1]) / 2e-4
        assert float((gradient * way).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-7), name


def test_missing_couplings_are_found_in_either_order() -> None:
    near = Near(torch.tensor([3, 0]), torch.tensor([1, 2]), torch.tensor([0.4, 1.0]), True)
    i, j = torch.tensor([[1, 2, 0], [3, 0, 1]]), torch.tensor([[3, 0, 1], [1, 3, 0]])
    expected = torch.tensor([[0.4, 1.0, 0.0], [0.4, 0.0, 0.0]])
    torch.testing.assert_close(near.missing_of(i, j, 5), expected)
    assert not near._replace(of_dipoles=False).missing_of(i, j, 5).any()


def test_molecules_need_not_be_neutral_but_nearly() -> None:
    """Published molecules have net charges of some 1e-3 e; more is a wrong total charge."""
    molecules = multipolar_molecules()
    molecules[0]["charge"] = [-0.799, 0.4, 0.4]
    model = HybridPotential(
        {"moments": FixedMultipoles(molecules), "multipoles": Multipoles(molecules)}
    ).eval()
    box = molecular_box()
    assert np.isfinite(float(evaluated(model, box).energy))
    box.info["charge"] = 0.0
    with pytest.raises(StructureError, match="total charge that is the sum"):
        evaluated(model, box)


def test_what_cannot_be_is_refused() -> None:
    molecules = multipolar_molecules()
    for row in (["zx", 0, 1], ["bisector", 0, 1], ["axial", 0, 0], ["axial", 0, 7]):
        wrong = copy.deepcopy(molecules)
        wrong[0]["frames"] = [row]
        with pytest.raises(ConfigError, match=r"frames of 'water' as \[kind, atom, partners\]"):
            FixedMultipoles(wrong)
    with pytest.raises(ConfigError, match="quadrupole for the 1 atoms of 'Li' as rows of 5"):
        FixedMultipoles([{**molecules[2], "quadrupole": [[0.0]]}])
    with pytest.raises(ConfigError, match="multipole method 'ewald' or 'pme', got 'p3m'"):
        Multipoles(molecules, method="p3m")
    with pytest.raises(ConfigError, match="form of damping among cubic, linear, got 'quartic'"):
        MultipoleInduction(molecules, "quartic")
