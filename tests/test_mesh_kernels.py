"""The mesh kernels against the tensor operations that they replace, and the explicit derivatives of
the lattice sums against autograd and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor

from hff_ase.backends import backend_for
from hff_ase.batch import AtomsBatch
from hff_ase.dynamics.build import build_box
from hff_ase.errors import HFFWarning
from hff_ase.kernels.mesh import cpu_convolution, mesh_stencil
from hff_ase.kernels.mesh.cpu import NumbaStencil
from hff_ase.longrange import bspline, mesh_sum
from hff_ase.longrange.bspline import (
    BOTH,
    GRADIENT,
    VALUE,
    Grid,
    Stencil,
    interpolate_values,
    spread_values,
)
from hff_ase.longrange.ewald import ReciprocalEwald, explicit_corrections, potential_corrections
from hff_ase.longrange.lattice import SmoothSum, reciprocal_lattice
from hff_ase.longrange.mesh import group_systems, wave_metric
from hff_ase.longrange.pme import ReciprocalPME

TERMS = {"value": VALUE, "gradient": GRADIENT, "both": BOTH}


def relative(value: Tensor, reference: Tensor) -> float:
    """Largest deviation by the largest entry."""
    return float((value - reference).abs().max() / reference.abs().max())


def points(n_atoms: int, n_systems: int, reach: float = 40.0) -> tuple[Tensor, Tensor]:
    """Positions in mesh units, many cells away, some on mesh points; and sorted systems."""
    generator = torch.Generator().manual_seed(n_atoms)
    u = reach * torch.randn((n_atoms, 3), generator=generator, dtype=torch.float64)
    u[: n_atoms // 5] = torch.round(u[: n_atoms // 5])
    system = torch.randint(n_systems, (n_atoms,), generator=generator).sort().values
    return u, system


@pytest.fixture
def reference_only(uninstall: Callable[[str], None]) -> None:
    """As on a machine without numba."""
    uninstall("numba")
    with pytest.warns(HFFWarning, match="numba is not installed"):
        assert backend_for(torch.device("cpu")) is None


# ---------------------------------------------------------------- spreading and interpolation


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("order", [3, 4, 5, 6])
@pytest.mark.parametrize(("n_atoms", "n_systems"), [(60, 1), (80, 3), (1, 1)])
def test_stencil_is_the_reference(order: int, terms: str, n_atoms: int, n_systems: int) -> None:
    u, system = points(n_atoms, n_systems)
    grid = Grid(n_systems, (8, 12, 10), order, system)
    stencil = Stencil(u, grid)
    assert isinstance(stencil.kernel, NumbaStencil)
    which = TERMS[terms]
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(n_atoms, len(which), generator=generator, dtype=torch.float64)
    mesh = torch.randn(n_systems, *grid.shape, generator=generator, dtype=torch.float64)
    found, expected = stencil.spread(values, which), spread_values(values, stencil, which)
    assert relative(found, expected) < 1e-12
    found, expected = stencil.interpolate(mesh, which), interpolate_values(mesh, stencil, which)
    assert relative(found, expected) < 1e-12


def test_a_far_image_is_the_same_point() -> None:
    u, system = points(30, 2, reach=3.0)
    u = torch.round(u * 2**20) / 2**20  # so that adding a period is exact
    grid = Grid(2, (16, 8, 32), 6, system)
    shift = torch.tensor([16.0 * 1000, -8.0 * 4000, 32.0 * 77], dtype=torch.float64)
    values = torch.ones(30, 1, dtype=torch.float64)
    near, far = (Stencil(x, grid).spread(values, VALUE) for x in (u, u + shift))
    assert torch.equal(near, far)


def test_what_kernels_do_not_cover_goes_to_the_reference() -> None:
    u, system = points(10, 1)
    assert mesh_stencil(u, system, 1, (8, 8, 5), 6) is None  # a short axis
    assert mesh_stencil(u, system, 1, (8, 8, 8), 7) is None  # a high order
    curvature = ((2, 0, 0), (1, 1, 0))
    stencil = Stencil(u, Grid(1, (8, 8, 8), 6, system))
    values = torch.ones(10, 2, dtype=torch.float64)
    assert torch.equal(stencil.spread(values, curvature), spread_values(values, stencil, curvature))


def test_results_do_not_depend_on_threads() -> None:
    u, system = points(500, 2)
    stencil = Stencil(u, Grid(2, (16, 16, 16), 6, system))
    values = torch.rand(500, 4, dtype=torch.float64)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            mesh = stencil.spread(values, BOTH)
            results.append((mesh, stencil.interpolate(mesh, BOTH)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


# ---------------------------------------------------------------- explicit derivatives


def triclinic(n_atoms: int, seed: int, size: float = 7.0) -> tuple[Atoms, np.ndarray]:
    """Random ions, some far outside their cell, with a net charge; none on top of another."""
    rng = np.random.default_rng(seed)
    cell = size * (np.eye(3) + 0.25 * rng.normal(size=(3, 3)))
    cell[2] *= np.sign(np.linalg.det(cell))
    scaled = rng.random((n_atoms, 3)) + rng.integers(-3, 4, (n_atoms, 3))
    return Atoms(f"H{n_atoms}", scaled_positions=scaled, cell=cell, pbc=True), rng.normal(
        size=n_atoms
    )


def many_systems() -> tuple[AtomsBatch, Tensor]:
    """Boxes of several meshes, two of the same, one atom alone in a box, and a molecule."""
    systems = [triclinic(12, 1), triclinic(1, 2), triclinic(30, 3, 13.0)]
    systems += [(Atoms("H3", positions=np.eye(3)), np.array([0.3, -0.5, 0.1])), triclinic(12, 1)]
    batch = AtomsBatch.from_atoms([atoms for atoms, _ in systems])
    return batch, torch.as_tensor(np.concatenate([q for _, q in systems]))


def autograd_sum(method: object, batch: AtomsBatch, q: Tensor, plan: object) -> SmoothSum:
    """phi and derivatives by differentiating 1/2 sum q phi."""
    leaves = [x.clone().requires_grad_() for x in (batch.positions, batch.cell)]
    phi = method.potential(batch.moved(*leaves), q, plan)  # type: ignore[attr-defined]
    return SmoothSum(phi.detach(), *torch.autograd.grad(0.5 * (q * phi).sum(), leaves))


METHODS = [ReciprocalEwald(0.4, 1e-6)]
METHODS += [ReciprocalPME(0.4, 1e-4, order) for order in (4, 5, 6)]  # type: ignore[list-item]


@pytest.mark.parametrize("method", METHODS, ids=["ewald", "pme4", "pme5", "pme6"])
def test_explicit_derivatives_are_autograds(method: ReciprocalPME) -> None:
    batch, q = many_systems()
    plan = method.prepare(batch)
    if isinstance(method, ReciprocalPME):
        assert len(plan) > 1
    found, expected = method.explicit(batch, q, plan), autograd_sum(method, batch, q, plan)
    assert relative(found.phi, expected.phi) < 1e-12
    assert relative(found.d_positions, expected.d_positions) < 1e-10
    for one, other in zip(found.d_cell, expected.d_cell, strict=True):
        assert float((one - other).abs().max()) <= 1e-10 * float(other.abs().max())
    # dE/dq = phi: the potential is symmetric in the charges
    charges = q.clone().requires_grad_()
    energy = 0.5 * (charges * method.potential(batch, charges, plan)).sum()
    assert relative(torch.autograd.grad(energy, charges)[0], found.phi) < 1e-12


@pytest.mark.usefixtures("reference_only")
def test_explicit_derivatives_without_kernels() -> None:
    batch, q = many_systems()
    method = ReciprocalPME(0.4, 1e-4)
    plan = method.prepare(batch)
    found, expected = method.explicit(batch, q, plan), autograd_sum(method, batch, q, plan)
    assert Stencil(batch.positions, plan[0].grid).kernel is None
    for name in ("phi", "d_positions", "d_cell"):
        assert relative(getattr(found, name), getattr(expected, name)) < 1e-10


@pytest.mark.parametrize("method", METHODS, ids=["ewald", "pme4", "pme5", "pme6"])
def test_explicit_derivatives_are_finite_differences(method: ReciprocalPME) -> None:
    atoms, charges = triclinic(10, 5)
    batch, q = AtomsBatch.from_atoms(atoms), torch.as_tensor(charges)
    plan = method.prepare(batch)

    def total(positions: Tensor, cell: Tensor) -> SmoothSum:
        moved = batch.moved(positions, cell)
        return method.explicit(moved, q, plan) + explicit_corrections(moved, q, method.alpha)

    def slope(name: str, index: tuple[int, ...]) -> float:
        h = 1e-4
        energies = []
        for sign in (1, -1):
            inputs = {"positions": batch.positions.clone(), "cell": batch.cell.clone()}
            inputs[name][index] += sign * h
            energies.append(0.5 * float((q * total(**inputs).phi).sum()))
        return (energies[0] - energies[1]) / (2 * h)

    found = total(batch.positions, batch.cell)
    for index in ((0, 0), (4, 1), (9, 2)):
        expected = float(found.d_positions[index])
        assert slope("positions", index) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    scale = float(found.d_cell.abs().max())
    for a in range(3):
        for b in range(3):
            expected = float(found.d_cell[0, a, b])
            assert slope("cell", (0, a, b)) == pytest.approx(expected, abs=1e-6 * scale)


def test_corrections_with_derivatives() -> None:
    batch, q = many_systems()
    cell = batch.cell.clone().requires_grad_()
    charges = q.clone().requires_grad_()
    periodic = batch.periodic[batch.system]
    phi = torch.where(
        periodic, potential_corrections(batch.moved(batch.positions, cell), charges, 0.4), 0.0
    )
    d_cell, d_charges = torch.autograd.grad(0.5 * (charges * phi).sum(), (cell, charges))
    found = explicit_corrections(batch, q, 0.4)
    torch.testing.assert_close(found.phi, phi.detach(), rtol=1e-14, atol=0)
    torch.testing.assert_close(found.phi, d_charges, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found.d_cell, d_cell, rtol=1e-12, atol=1e-14)
    assert float(found.d_positions.abs().max()) == 0.0


def test_a_liquid_box_against_exact_ewald() -> None:
    atoms = build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 220)
    batch = AtomsBatch.from_atoms(atoms)
    rng = np.random.default_rng(0)
    q = torch.as_tensor(rng.normal(size=len(atoms)))
    q -= q.mean()
    alpha, tolerance = 0.45, 1e-6
    mesh, exact = ReciprocalPME(alpha, tolerance), ReciprocalEwald(alpha, 1e-14)
    found = mesh.explicit(batch, q, mesh.prepare(batch))
    expected = exact.explicit(batch, q, exact.prepare(batch))
    for name in ("phi", "d_positions", "d_cell"):
        value, reference = getattr(found, name), getattr(expected, name)
        error = (value - reference).square().mean().sqrt() / reference.square().mean().sqrt()
        assert float(error) < 3 * tolerance, name


# ---------------------------------------------------------------- batches and caches


def test_result_does_not_depend_on_the_rest_of_the_batch() -> None:
    batch, q = many_systems()
    method = ReciprocalPME(0.4, 1e-5)
    together = method.explicit(batch, q, method.prepare(batch))
    for index in range(batch.n_systems):
        member = batch.system == index
        alone = replace(
            batch,
            positions=batch.positions[member],
            numbers=batch.numbers[member],
            system=torch.zeros(int(member.sum()), dtype=torch.int64),
            cell=batch.cell[index : index + 1],
            periodic=batch.periodic[index : index + 1],
            charge=batch.charge[index : index + 1],
        )
        found = method.explicit(alone, q[member], method.prepare(alone))
        close = {"rtol": 1e-11, "atol": 1e-12}
        torch.testing.assert_close(together.phi[member], found.phi, **close)
        torch.testing.assert_close(together.d_positions[member], found.d_positions, **close)
        torch.testing.assert_close(together.d_cell[index], found.d_cell[0], **close)


def test_influence_is_kept_while_the_cell_is_and_no_longer() -> None:
    atoms, charges = triclinic(20, 4)
    batch, q = AtomsBatch.from_atoms(atoms), torch.as_tensor(charges)
    method = ReciprocalPME(0.4, 1e-4)
    plan = method.prepare(batch)
    kept = plan[0].influence(batch.cell, method.alpha)
    same = batch.moved(batch.positions + 0.1, batch.cell.clone())
    assert plan[0].influence(same.cell, method.alpha) is kept
    method.explicit(batch, q, plan)
    batch.cell[0, 0, 0] += 0.05  # in place: the tensor is the same one, its content is not
    again = method.explicit(batch, q, plan)
    fresh = method.explicit(batch, q, [replace(plan[0], known=type(plan[0].known)())])
    for name in ("phi", "d_positions", "d_cell"):
        assert torch.equal(getattr(again, name), getattr(fresh, name))
    assert plan[0].influence(batch.cell, method.alpha) is not kept


def test_one_binding_serves_many_charges() -> None:
    batch, q = many_systems()
    method = ReciprocalPME(0.4, 1e-4)
    plan = method.prepare(batch)
    bound = method.bind(batch, plan)
    for charges in (q, q.flip(0), 2.0 * q):
        torch.testing.assert_close(
            bound.potential(charges),
            method.explicit(batch, charges, plan).phi,
            rtol=1e-12,
            atol=1e-13,
        )
    # and the graph's path gives the same potential
    leaf = q.clone().requires_grad_()
    torch.testing.assert_close(bound.potential(q), method.potential(batch, leaf, plan).detach())


def test_second_derivatives_run_through_the_kernels() -> None:
    atoms, charges = triclinic(4, 6)
    batch, q = AtomsBatch.from_atoms(atoms), torch.as_tensor(charges)
    method = ReciprocalPME(0.4, 1e-3)
    plan = method.prepare(batch)
    assert bspline.Stencil(batch.positions, plan[0].grid).kernel is not None

    def energy(positions: Tensor, cell: Tensor, q: Tensor) -> Tensor:
        return 0.5 * (q * method.potential(batch.moved(positions, cell), q, plan)).sum()

    inputs = tuple(x.clone().requires_grad_() for x in (batch.positions, batch.cell, q))
    assert torch.autograd.gradgradcheck(energy, inputs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(8, 10, 12), (14, 9, 16)])
def test_convolution_is_the_reference(shape: tuple[int, int, int]) -> None:
    atoms = [triclinic(3, seed)[0] for seed in (1, 2)]
    batch = AtomsBatch.from_atoms(atoms)
    group = group_systems(batch, shape, [0, 1], 6)
    metric = wave_metric(reciprocal_lattice(batch.cell)[0])
    influence = group.influence(batch.cell, 0.4)
    spectrum = torch.fft.rfftn(torch.randn(2, *shape, dtype=torch.float64), dim=(1, 2, 3))
    one, other = spectrum.clone(), spectrum.clone()
    found = cpu_convolution.convolve(one, influence, metric, shape[2], 0.4)
    expected = mesh_sum.convolve(other, influence, metric, group, 0.4)
    assert torch.equal(one, other)
    assert relative(found, expected) < 1e-13
    power = (spectrum.abs().square() * influence * group.multiplicity).sum((1, 2, 3))
    torch.testing.assert_close(found[:, 0], power)
    assert math.isfinite(float(found.sum()))
