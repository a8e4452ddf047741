"""Induced dipoles by conjugate gradients and a mesh, against dense solutions and exact sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from core_models import molecular_box, molecular_gas, toy_molecules

from hff_ase import testing as checks
from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.errors import ConfigError, StructureError
from hff_ase.evaluator import Evaluator
from hff_ase.kernels.induction.table import boys, radial_table
from hff_ase.kernels.pair.tables import OFFSET, TABLE_END, knots
from hff_ase.longrange.bspline import CURVATURE, Grid, Stencil, interpolate_values
from hff_ase.longrange.induction.mesh import MeshDipoles
from hff_ase.longrange.induction.pairs import Sites
from hff_ase.longrange.induction.preconditioner import RADIUS, dipole_inverse
from hff_ase.longrange.mesh_sum import MeshSum
from hff_ase.longrange.pme import ReciprocalPME
from hff_ase.neighborhood import Neighborhood
from hff_ase.neighbors import NeighborList
from hff_ase.potential import HybridPotential
from hff_ase.terms.fixed_charges import FixedCharges
from hff_ase.terms.induced_dipoles import CROSSOVER, InducedDipoles
from hff_ase.terms.term import Fields, Term

KERNELS = pytest.mark.parametrize("kernels", ["auto", "reference"])


class MovingCharges(Term):
    """Charges of the toy molecules that change with position."""

    kind = "moving_charges"
    gives = ("charges",)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> torch.Tensor:
        fields["charges"] = 0.5 * torch.sin(batch.positions @ batch.positions.new_tensor([1, 2, 3]))
        return torch.zeros_like(batch.positions[:, 0])


def induction(solver: str = "iterative", **options: Any) -> InducedDipoles:
    return InducedDipoles(toy_molecules(), **{"cutoff": 6.0, "solver": solver, **options})


def potential(
    term: InducedDipoles, kernels: str = "auto", charges: Term | None = None
) -> HybridPotential:
    terms: dict[str, Term] = {"charges": charges or FixedCharges(toy_molecules()), "pol": term}
    return HybridPotential(terms).eval().requires_grad_(False).use_kernels(kernels)


def large(seed: int = 0) -> Atoms:
    """A triclinic box with Li+, twice as long as the usual one and without repetition."""
    box = molecular_box(seed)
    del box.arrays["molecule"]  # some are cut by the faces, and go on in the next copy
    twice = box.repeat((2, 1, 1))
    twice.rattle(0.02, seed=seed)
    twice.info["charge"] = 2.0
    return twice


def mixed() -> list[Atoms]:
    """Boxes of two sizes, molecules, an ion alone."""
    lithium = Atoms("Li", [[0.1, 0.2, 0.3]], info={"charge": 1.0})
    return [large(), molecular_gas(1), molecular_box(2), lithium, large(3)]


def largest(a: torch.Tensor | None, b: torch.Tensor | None) -> float:
    """Largest difference."""
    assert a is not None
    assert b is not None
    return float((a - b).detach().abs().max())


def iterations(evaluator: Evaluator) -> int:
    """Of the solver, in the last evaluation."""
    return evaluator.neighbors.plan(evaluator.potential.terms["pol"]).parts[0][0].iterations


# ---------------------------------------------------------------- the same minimum


@KERNELS
@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-10])
def test_iterations_end_at_the_dense_solution(tolerance: float, kernels: str) -> None:
    """With the same exact lattice sum, in boxes and for molecules in one batch."""
    batch = AtomsBatch.from_atoms(mixed())
    dense = potential(induction("dense"), "reference")(batch)
    term = induction(method="ewald", dipole_tolerance=tolerance)
    found = potential(term, kernels)(batch)
    assert largest(found.fields["dipoles"], dense.fields["dipoles"]) < 2 * tolerance + 1e-12
    # the energy's error is of second order, the forces' (in eV/A) of first
    assert largest(found.energy, dense.energy) < 1e4 * tolerance**2 + 1e-11
    assert largest(found.forces, dense.forces) < 10 * tolerance + 1e-10
    assert largest(found.stress, dense.stress) < 0.01 * tolerance + 1e-12


@KERNELS
def test_the_mesh_meets_the_tolerance_of_the_lattice_sum(kernels: str) -> None:
    """Against a converged Ewald sum of charges and dipoles, boxes of different meshes at once."""
    batch = AtomsBatch.from_atoms([large(), molecular_box(2)])
    exact = potential(induction("dense", tolerance=1e-12), "reference")(batch)
    for tolerance in (1e-4, 1e-6):
        term = induction(tolerance=tolerance, dipole_tolerance=1e-10)
        found = potential(term, kernels)(batch)
        assert largest(found.fields["dipoles"], exact.fields["dipoles"]) < tolerance
        assert largest(found.energy, exact.energy) < 5 * tolerance
        assert largest(found.forces, exact.forces) < 5 * tolerance
        assert largest(found.stress, exact.stress) < 0.01 * tolerance


def test_mixed_batch_is_each_system_alone() -> None:
    structures = mixed()
    model = potential(induction(dipole_tolerance=1e-11))
    together = model(AtomsBatch.from_atoms(structures))
    assert together.forces is not None
    start = 0
    for index, structure in enumerate(structures):
        alone = model(AtomsBatch.from_atoms(structure))
        mine = slice(start, start + len(structure))
        assert largest(together.energy[index], alone.energy[0]) < 1e-11
        assert largest(together.forces[mine], alone.forces) < 1e-10
        assert largest(together.fields["dipoles"][mine], alone.fields["dipoles"]) < 1e-11
        start = mine.stop


def test_automatic_choice_is_made_for_each_system() -> None:
    model = potential(induction("auto", method="ewald", dipole_tolerance=1e-11))
    neighbors = model.neighbor_list()
    twice = [large().repeat((1, 2, 1)), large(3).repeat((1, 1, 2))]
    for box in twice:
        box.info["charge"] = 4.0
    assert len(large()) < CROSSOVER < len(twice[0])
    batch = AtomsBatch.from_atoms([twice[0], *mixed(), twice[1]])
    found = model(batch, neighbors)
    parts = [part for part, _ in neighbors.plan(model.terms["pol"]).parts]
    assert [(part.dense, part.start.n_systems) for part in parts] == [(True, 5), (False, 2)]
    dense = potential(induction("dense"))(batch)
    assert largest(found.energies, dense.energies) < 1e-10
    assert largest(found.forces, dense.forces) < 1e-9


# ---------------------------------------------------------------- derivatives


@KERNELS
@pytest.mark.parametrize("method", ["pme", "ewald"])
def test_forces_and_stress_are_exact(method: str, kernels: str) -> None:
    """By differences: however coarse the mesh, and with charges that depend on positions."""
    # the cut of the real-space sum must not show in the differences
    term = induction(cutoff=9.0, tolerance=1e-10, method=method, dipole_tolerance=1e-11)
    if method == "pme":
        term.mesh = type(term.mesh)(term.alpha, 1e-4)  # type: ignore[arg-type]
    box = molecular_box()
    for charges in (None, MovingCharges()):
        model = potential(term, kernels, charges)
        checks.check_forces(model, [box, molecular_gas()])
        checks.check_stress(model, [box])


def test_forces_at_the_default_tolerance_are_the_gradient_to_that_tolerance() -> None:
    """What is left of the dipoles' error enters forces in first order: 3 eV/A per e A and less."""
    model = potential(induction(cutoff=9.0, tolerance=1e-8))
    batch = AtomsBatch.from_atoms(large())
    neighbors = model.neighbor_list(1.0)
    found = model(batch, neighbors)
    assert found.forces is not None
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        way = torch.randn(batch.positions.shape, generator=generator, dtype=torch.float64)
        way /= way.norm()
        energies = [
            model(batch.moved(batch.positions + h * way), neighbors, forces=False, stress=False)
            for h in (2e-3, -2e-3)
        ]
        slope = float(energies[0].energy - energies[1].energy) / 4e-3
        assert float((found.forces * way).sum()) == pytest.approx(-slope, abs=5e-6)


def test_gradients_in_parameters_are_differences() -> None:
    term = induction(dipole_tolerance=1e-11)
    model = potential(term)
    batch = AtomsBatch.from_atoms(large())
    names = ["pol.polarizability.value", "pol.damping.value", "pol.thole", "charges.charge.value"]
    evaluator = Evaluator(model, trajectory=False)
    found = evaluator.evaluate(batch, derivatives=["parameters"], parameters=names)
    for value, name in ((term.polarizability.value, names[0]), (term.damping.value, names[1])):
        energies = []
        for h in (1e-5, -1e-5):
            with torch.no_grad():
                value[0] += h
            energies.append(float(evaluator.evaluate(batch).energy))
            with torch.no_grad():
                value[0] -= h
        slope = (energies[0] - energies[1]) / 2e-5
        assert float(found.parameter_gradients[name][0, 0]) == pytest.approx(slope, rel=1e-5)
    dense = Evaluator(potential(induction("dense", tolerance=1e-8)), trajectory=False)
    other = dense.evaluate(batch, derivatives=["parameters"], parameters=names)
    for name in names:
        one, two = found.parameter_gradients[name], other.parameter_gradients[name]
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_training_mode_gives_the_same_and_second_derivatives() -> None:
    model = potential(induction(method="ewald", dipole_tolerance=1e-11))
    batch = AtomsBatch.from_atoms([molecular_box(), molecular_gas()])
    one = model(batch)
    with pytest.raises(ConfigError, match="training mode"):
        model(batch, create_graph=True)
    other = model.train()(batch, create_graph=True)
    assert largest(one.energies, other.energies) < 1e-10
    assert largest(one.forces, other.forces) < 1e-9


# ---------------------------------------------------------------- kernels, preconditioner


def test_boys_functions_are_their_integrals() -> None:
    t = np.array([0.0, 0.3, 4.0, 30.0])
    x, w = np.polynomial.legendre.leggauss(80)
    u = 0.5 * (x + 1.0)
    for n in range(1, 5):
        expected = (0.5 * w * u ** (2 * n) * np.exp(-t[:, None] * u**2)).sum(1)
        np.testing.assert_allclose(boys(n, t), expected, rtol=1e-12)


@pytest.mark.parametrize(("alpha", "cutoff"), [(0.4, 9.0), (0.0, np.inf)])
def test_table_holds_what_a_mesh_leaves_in_real_space(alpha: float, cutoff: float) -> None:
    """t_n = (-1/r d/dr)^n of erfc(alpha r)/r, by automatic differentiation."""
    r = torch.linspace(0.1, 8.9, 500, dtype=torch.float64, requires_grad=True)
    table = torch.from_numpy(radial_table(alpha, cutoff)).view(-1, 3, 4)
    w = knots(min(cutoff, TABLE_END))
    interval = torch.searchsorted(w, r.detach() ** 2 + OFFSET, right=True) - 1
    d = (r.detach() ** 2 + OFFSET - w[interval])[:, None]
    a0, a1, a2, a3 = table[interval].unbind(2)
    found = a0 + d * (a1 + d * (a2 + d * a3))
    expected = torch.erfc(alpha * r) / r
    for n in range(3):
        (slope,) = torch.autograd.grad(expected.sum(), r, create_graph=True)
        expected = -slope / r
        np.testing.assert_allclose(found[:, n], expected.detach(), rtol=1e-9, atol=1e-12)


def test_what_a_mesh_knows_of_charges_serves_dipoles() -> None:
    """A sum that another term made, if its meshes are the same."""
    atoms = molecular_box(3)
    batch = AtomsBatch.from_atoms(atoms)
    generator = torch.Generator().manual_seed(5)
    charges = torch.randn(batch.n_atoms, generator=generator, dtype=torch.float64)
    dipoles = torch.randn((batch.n_atoms, 3), generator=generator, dtype=torch.float64)
    mesh, finer, made = ReciprocalPME(0.5, 1e-5), ReciprocalPME(0.5, 1e-8), list[MeshSum]()
    mesh.explicit(batch, charges, mesh.prepare(batch), made=made)
    plan = mesh.prepare(batch)
    own = MeshDipoles(batch, plan, 0.5, True)
    read = MeshDipoles(batch, plan, 0.5, True, made[0])
    assert read.of(charges) is made[0].of(charges)
    assert largest(read.field(charges), own.field(charges)) < 1e-12
    assert largest(read.energies(charges, dipoles), own.energies(charges, dipoles)) < 1e-12
    assert largest(read.field(2 * charges), 2 * own.field(charges)) < 1e-12
    other = MeshDipoles(batch, finer.prepare(batch), 0.5, True, made[0])
    assert other.of(charges) is not made[0].of(charges)


@pytest.mark.parametrize("order", [4, 5, 6])
def test_curvatures_on_a_mesh_are_those_of_the_reference(order: int) -> None:
    generator = torch.Generator().manual_seed(order)
    system = torch.tensor([0] * 9 + [1] * 6)
    shape = (8, 10, 9)
    u = 20.0 * torch.randn((15, 3), generator=generator, dtype=torch.float64)
    mesh = torch.randn((2, *shape), generator=generator, dtype=torch.float64)
    stencil = Stencil(u, Grid(2, shape, order, system))
    expected = interpolate_values(mesh, stencil, CURVATURE)
    torch.testing.assert_close(stencil.interpolate(mesh, CURVATURE), expected)


def test_sparse_inverse_is_the_inverse_of_each_cluster() -> None:
    """Atoms within one radius: every cluster is whole and G^T G is the inverse itself."""
    rng = np.random.default_rng(0)
    places = rng.random((9, 3)) * RADIUS / np.sqrt(3.0)
    batch = AtomsBatch.from_atoms(Atoms("H9", places))
    alpha, volume = torch.tensor(rng.uniform(0.1, 0.3, (2, 9)))
    sites = Sites(alpha, volume, 0.39)
    term = induction()
    neighbors = NeighborList(term.requests(), 0.0, [])
    neighbors.update(batch)
    matrix = np.zeros((9, 3, 9, 3))
    for i in range(9):
        matrix[i, :, i] = np.eye(3) / float(alpha[i])
        for j in range(9):
            if i != j:
                v = places[j] - places[i]
                r = np.linalg.norm(v)
                w = 0.39 * r**3 / np.sqrt(float(volume[i] * volume[j]))
                l3, l5 = 1 - np.exp(-w), 1 - (1 + w) * np.exp(-w)
                matrix[i, :, j] = l3 * np.eye(3) / r**3 - 3 * l5 * np.outer(v, v) / r**5
    expected = np.linalg.inv(matrix.reshape(27, 27))
    for kernels in ("numba", None):
        inverse = dipole_inverse(batch, neighbors.rows(term.requests()[2]), sites, kernels)  # type: ignore[arg-type]
        product = inverse.product(kernels)  # type: ignore[arg-type]
        unit = torch.eye(27, dtype=torch.float64)
        rows = torch.stack([product(vector.view(9, 3)).flatten() for vector in unit])
        np.testing.assert_allclose(rows, expected, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- warm start


def trajectory(steps: int) -> list[AtomsBatch]:
    """Atoms on straight lines at about 300 K, 0.5 fs apart."""
    atoms = large()
    batch = AtomsBatch.from_atoms(atoms)
    generator = torch.Generator().manual_seed(0)
    velocity = torch.randn(batch.positions.shape, generator=generator, dtype=torch.float64)
    step = 0.5 * 0.0157 / torch.tensor(np.sqrt(atoms.get_masses()))[:, None] * velocity
    return [batch.moved(batch.positions + k * step) for k in range(steps)]


def test_warm_start_saves_iterations_and_agrees_with_a_cold_one() -> None:
    model = potential(induction())
    warm, cold = Evaluator(model, 0.3), Evaluator(model, 0.3, trajectory=False)
    for step, frame in enumerate(trajectory(8)):
        one, other = warm.evaluate(frame), cold.evaluate(frame)
        assert largest(one.fields["dipoles"], other.fields["dipoles"]) < 2e-6
        assert largest(one.forces, other.forces) < 1e-5
        if step >= 4:
            assert iterations(warm) <= 2  # the fewest products are one more
            assert iterations(cold) >= iterations(warm) + 3


def test_restored_memory_goes_on_bit_for_bit() -> None:
    frames = trajectory(8)
    model = potential(induction())
    whole = Evaluator(model, 0.3)
    straight = [whole.evaluate(frame) for frame in frames]
    first = Evaluator(model, 0.3)
    for frame in frames[:4]:
        first.evaluate(frame)
    resumed = Evaluator(model, 0.3)
    resumed.set_state(first.get_state())
    for index in (3, 4, 5, 6, 7):  # the last step before the break is computed again
        again = resumed.evaluate(frames[index])
        assert largest(straight[index].forces, again.forces) == 0.0
        assert largest(straight[index].fields["dipoles"], again.fields["dipoles"]) == 0.0


def test_a_calculator_goes_on_bit_for_bit_with_its_history() -> None:
    atoms = large()
    step = np.random.default_rng(0).normal(scale=2e-3, size=atoms.positions.shape)
    first = HybridFF(potential(induction()))
    for _ in range(6):
        atoms.positions += step
        atoms.calc = first
        atoms.get_forces()
    second = HybridFF(potential(induction()))
    second.set_state(first.get_state())
    atoms.positions += step
    expected, again = atoms.get_forces(), atoms.copy()
    again.calc = second
    np.testing.assert_array_equal(again.get_forces(), expected)


# ---------------------------------------------------------------- settings, errors


def test_old_configs_load_and_new_ones_come_back() -> None:
    config = induction(dipole_tolerance=1e-5, method="ewald").config()
    assert InducedDipoles(**config).config() == config
    old = {k: v for k, v in config.items() if k not in ("solver", "dipole_tolerance", "method")}
    assert InducedDipoles(**old).config()["solver"] == "auto"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "cg"}, "dipole solver among auto, dense, iterative, got 'cg'"),
        ({"dipole_tolerance": 0.0}, "dipole_tolerance of 1e-13 to 1e-2 e A, got 0.0"),
        ({"method": "p3m"}, "dipole method 'ewald' or 'pme', got 'p3m'"),
    ],
)
def test_errors_of_the_configuration(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        induction(**options)


@pytest.mark.parametrize("solver", ["dense", "iterative"])
def test_a_polarization_catastrophe_is_refused(solver: str) -> None:
    """Without damping, atoms whose polarizabilities are too large for their distance."""
    molecules = [
        {**m, "polarizability": [9.0] * len(m["numbers"]), "damping": [1e-3] * len(m["numbers"])}
        for m in toy_molecules()
    ]
    term = InducedDipoles(molecules, cutoff=6.0, solver=solver)
    with pytest.raises(StructureError, match=r"positive definite matrix of induced dipoles"):
        potential(term)(AtomsBatch.from_atoms(large()))


def test_the_size_limit_is_the_dense_solvers() -> None:
    batch = AtomsBatch.from_atoms(large())
    assert float(potential(induction("auto", max_atoms=10))(batch).energy) < 0.0
    with pytest.raises(StructureError, match=r"at most 10 atoms .* dense induced dipoles.*GB"):
        potential(induction("dense", max_atoms=10))(batch)
