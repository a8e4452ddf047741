"""Meshes in skewed cells: one lattice by any vectors gives the same forces, to the tolerance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.ewald import ReciprocalEwald
from hff_ase.longrange.pme import ReciprocalPME
from hff_ase.longrange.reduction import SKEWED, reductions

CELL = np.array([[9.0, 0.0, 0.0], [0.7, 9.4, 0.0], [-0.6, 0.8, 8.8]])
# Rows of further descriptions of one lattice; the smallest angles are 44, 27, 19, 12 and 9 degrees.
DESCRIPTIONS = [(1, 0, 0), (2, 0, 0), (3, 2, 1), (5, 3, 2), (-6, 1, 3)]
ALPHA = 0.4


def box(k: int = 0, low: int = 0, m: int = 0) -> tuple[Atoms, torch.Tensor]:
    """Forty ions in the lattice of `CELL`, described by skewed vectors."""
    rng = np.random.default_rng(7)
    positions, charges = rng.random((40, 3)) @ CELL, torch.as_tensor(rng.normal(size=40))
    cell = np.array([[1, 0, 0], [k, 1, 0], [low, m, 1]]) @ CELL
    return Atoms("H40", positions, cell=cell, pbc=True), charges - charges.mean()


def relative(value: torch.Tensor, reference: torch.Tensor) -> float:
    return float((value - reference).square().mean().sqrt() / reference.square().mean().sqrt())


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
@pytest.mark.parametrize("rows", DESCRIPTIONS)
def test_forces_meet_the_tolerance_however_skewed_the_cell(
    rows: tuple[int, int, int], tolerance: float
) -> None:
    atoms, q = box(*rows)
    batch = AtomsBatch.from_atoms(atoms)
    mesh, exact = ReciprocalPME(ALPHA, tolerance), ReciprocalEwald(ALPHA, 1e-14)
    found = mesh.explicit(batch, q, mesh.prepare(batch))
    expected = exact.explicit(batch, q, exact.prepare(batch))
    assert relative(found.d_positions, expected.d_positions) < 2.5 * tolerance
    assert relative(found.phi, expected.phi) < tolerance
    assert relative(found.d_cell, expected.d_cell) < 5 * tolerance


def test_derivatives_in_a_skewed_cell_are_exact() -> None:
    """Explicit, by autograd and by differences, in a batch with a box that is not reduced."""
    structures = [box(3, 2, 1), box(), box(5, 3, 2)]
    batch = AtomsBatch.from_atoms([atoms for atoms, _ in structures])
    q = torch.cat([charges for _, charges in structures])
    mesh = ReciprocalPME(ALPHA, 1e-5)
    plan = mesh.prepare(batch)
    assert any(group.basis is not None for group in plan)
    positions, cell = batch.positions.clone(), batch.cell.clone()
    leaves = (positions.requires_grad_(), cell.requires_grad_())
    moved = batch.moved(*leaves)
    energy = 0.5 * (q * mesh.potential(moved, q, plan)).sum()
    d_positions, d_cell = torch.autograd.grad(energy, leaves)
    found = mesh.explicit(batch, q, plan)
    torch.testing.assert_close(found.d_positions, d_positions, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found.d_cell, d_cell, rtol=1e-9, atol=1e-9)
    generator = torch.Generator().manual_seed(1)
    step = torch.randn(cell.shape, generator=generator, dtype=torch.float64) * 1e-4

    def at(sign: float) -> float:
        there = batch.moved(batch.positions, batch.cell + sign * step)
        return 0.5 * float(q @ mesh.potential(there, q, plan))

    assert (at(1) - at(-1)) / 2 == pytest.approx(float((d_cell * step).sum()), rel=1e-5)


def test_only_skewed_boxes_are_described_anew() -> None:
    straight, skewed = box()[0], box(5, 3, 2)[0]
    fcc = Atoms("Ar", cell=[[0, 3, 3], [3, 0, 3], [3, 3, 0]], pbc=True)
    molecule = Atoms("H2", positions=np.eye(3)[:2])
    batch = AtomsBatch.from_atoms([straight, fcc, molecule])
    assert reductions(batch.cell, batch.periodic) is None
    batch = AtomsBatch.from_atoms([straight, skewed, molecule])
    basis = reductions(batch.cell, batch.periodic)
    assert basis is not None
    assert torch.equal(basis[0], torch.eye(3, dtype=torch.float64))
    assert torch.equal(basis[2], torch.eye(3, dtype=torch.float64))
    assert float(torch.linalg.det(basis[1]).abs()) == pytest.approx(1.0)
    reduced = (basis @ batch.cell)[1]
    lengths = torch.linalg.vector_norm(reduced, dim=-1)
    assert float(lengths.prod()) < SKEWED * float(batch.volume[1])
