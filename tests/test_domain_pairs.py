"""Pairs of a part of a box as a host has it, and the fused kernels on such parts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from decomposition import Domain, Exchange, ThreadHalo, divide, in_threads
from test_evaluator import dense_box, put_together, shipped

from hff_ase.batch import AtomsBatch
from hff_ase.domain_pairs import DomainPairs, points_of
from hff_ase.evaluator import Evaluator
from hff_ase.pairs import PairRequest, index_of
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential
from hff_ase.terms.coulomb import Coulomb

NEAR, REACH = 5.0, 10.0


def parts_of(
    atoms: Atoms, n: int, skin: float = 0.0, potential: HybridPotential | None = None
) -> list[tuple[Domain, DomainPairs]]:
    """Domains whose atoms stand once each, with their pairs."""
    potential = potential or shipped("electrolyte")
    parts = []
    for domain in divide(atoms, n, REACH + skin, 1.0):
        x, tag = domain.batch.positions.numpy(), domain.origin.numpy()
        cell = domain.batch.cell[0].numpy()
        points = points_of(x, domain.n_own, tag, cell, REACH + skin, NEAR + skin)
        of_points = torch.from_numpy(points.base)
        batch = AtomsBatch.of(
            {
                **domain.batch.arrays,
                "positions": domain.batch.positions[of_points],
                "numbers": domain.batch.numbers[of_points],
                "system": torch.zeros(len(of_points), dtype=torch.int64),
            }
        )
        terms = [term for _, term in potential.named_terms()]
        pairs = DomainPairs(potential.requests(), points, skin, terms)
        pairs.build(batch)
        parts.append((replace(domain, batch=batch, origin=torch.from_numpy(points.tag)), pairs))
    return parts


def named(pairs: DomainPairs, rows: bool, request: PairRequest) -> Counter[tuple[int, ...]]:
    """Every pair by the names of its atoms, the lower one first, and its squared distance."""
    index = index_of(pairs.rows(request)) if rows else pairs.view(request)
    tag = pairs.points.tag
    batch = pairs.reference
    assert batch is not None
    square = index.vectors(batch).square().sum(1)
    keys = zip(tag[index.i], tag[index.j], (square * 1e6).round().long().tolist(), strict=True)
    return Counter((min(i, j), max(i, j), d) for i, j, d in keys)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_each_pair_stands_in_the_rows_of_one_process(n: int) -> None:
    atoms = dense_box(40, seed=3)
    request = PairRequest(REACH, "half")
    whole = Evaluator(shipped("electrolyte"), trajectory=False)
    whole.neighbors.follow(AtomsBatch.from_atoms(atoms))
    index = whole.neighbors.view(request)
    square = (index.vectors(AtomsBatch.from_atoms(atoms)).square().sum(1) * 1e6).round().long()
    keys = zip(index.i.tolist(), index.j.tolist(), square.tolist(), strict=True)
    expected = Counter((min(i, j), max(i, j), d) for i, j, d in keys)
    parts = parts_of(atoms, n)
    found = sum((named(pairs, True, request) for _, pairs in parts), Counter())
    assert found == expected
    across = sum((named(pairs, False, request) for _, pairs in parts), Counter())
    assert set(across) == set(expected)
    assert (sum(across.values()) > sum(expected.values())) == (n > 1)
    if n == 1:  # all atoms are own ones: images are no ghosts
        assert parts[0][0].batch.n_atoms == len(atoms)


def test_rows_of_near_ghosts_are_the_reverse_of_those_of_own_atoms() -> None:
    request = PairRequest(NEAR, "full")
    for domain, pairs in parts_of(dense_box(40, seed=3), 3, skin=0.5):
        index = index_of(pairs.rows(request))
        rows = zip(index.i.tolist(), index.j.tolist(), index.shift.int().tolist(), strict=True)
        there = {(i, j, *shift) for i, j, shift in rows}
        assert there == {(j, i, *(-s for s in shift)) for i, j, *shift in there}
        assert int(index.i.max()) < pairs.points.n_near
        assert bool(((index.i < domain.n_own) | (index.j < domain.n_own)).all())


@pytest.mark.parametrize("skin", [0.0, 0.7])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 2e-5)])
def test_kernels_on_parts_make_the_whole(dtype: str, tolerance: float, skin: float) -> None:
    """Network, pairs and mesh, with every pair on one of three processes."""
    atoms = dense_box(40, seed=1)
    atoms.info["charge"] = 1.0
    potential: HybridPotential = shipped("electrolyte").set_dtype(getattr(torch, dtype))
    whole = Evaluator(potential).evaluate(AtomsBatch.from_atoms(atoms))
    parts = parts_of(atoms, 3, skin, potential)
    domains = [domain for domain, _ in parts]
    exchange, coulomb = Exchange(domains), potential.terms["coulomb"]
    assert isinstance(coulomb, Coulomb)

    def work(rank: int) -> Evaluation:
        domain, pairs = parts[rank]
        halo = ThreadHalo(exchange, rank, coulomb)
        return Evaluator(potential).evaluate(
            domain.batch, pairs=pairs, owned=domain.owned, halo=halo
        )

    results = in_threads(work, 3)
    energy, forces, stress = put_together(results, [d.origin for d in domains], len(atoms))
    assert energy == pytest.approx(float(whole.energy), rel=max(1e-12, 1e-3 * tolerance))
    torch.testing.assert_close(forces, whole.forces, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(stress, whole.stress, rtol=tolerance, atol=0.1 * tolerance)
    energies = torch.zeros(len(atoms), dtype=torch.float64)
    for domain, result in zip(domains, results, strict=True):
        own = domain.origin[: domain.n_own]
        energies[own] = result.energies[: domain.n_own]
        expected = whole.fields["charges"][domain.origin]
        torch.testing.assert_close(result.fields["charges"], expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(energies, whole.energies, rtol=0, atol=tolerance)


def test_a_process_without_atoms_has_no_points() -> None:
    points = points_of(np.zeros((0, 3)), 0, np.zeros(0, np.int64), np.eye(3), 10.0, 5.0)
    assert len(points.base) == 0
    assert len(points.x) == 0
