"""Neighbour lists against brute force, and a skin that never loses a pair."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from core_models import mixed_systems
from hypothesis import given, settings
from hypothesis import strategies as st

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError
from hff_ase.neighbors import NeighborList, PairIndex, PairRequest, all_pairs
from hff_ase.testing import cluster, ionic_box, strained

CUTOFF = 4.5
FULL, HALF = PairRequest(CUTOFF, "full"), PairRequest(CUTOFF, "half")
MOLECULE = PairRequest(math.inf, "molecule")
Entry = tuple[int, int, int, int, int]


def brute_force(atoms: Atoms, cutoff: float) -> Counter[Entry]:
    """Every ordered pair (i, j, image of j) within the cutoff, over all images that may count."""
    x, cell = atoms.positions, np.asarray(atoms.cell)
    if not atoms.pbc.all():
        images, cell = [(0, 0, 0)], np.zeros((3, 3))
    else:
        fractional = x @ np.linalg.inv(cell)
        heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        reach = np.ceil(cutoff / heights + np.ptp(fractional, axis=0)).astype(int)
        images = list(product(*(range(-n, n + 1) for n in reach)))
    found: Counter[Entry] = Counter()
    for image in images:
        vectors = x[None] + np.array(image) @ cell - x[:, None]
        distance = np.linalg.norm(vectors, axis=-1)
        for i, j in np.argwhere(distance < cutoff):
            if i != j or any(image):
                found[(int(i), int(j), *image)] += 1
    return found


def entries(index: PairIndex) -> Counter[Entry]:
    shift = index.shift.long()
    return Counter(map(tuple, torch.cat([index.i[:, None], index.j[:, None], shift], 1).tolist()))


def reverse(found: Counter[Entry]) -> Counter[Entry]:
    turned: Counter[Entry] = Counter()
    for (i, j, a, b, c), n in found.items():
        turned[(j, i, -a, -b, -c)] += n
    return turned


def built(
    structures: Atoms | list[Atoms], *requests: PairRequest, skin: float = 0.0
) -> NeighborList:
    neighbors = NeighborList(requests, skin)
    neighbors.update(AtomsBatch.from_atoms(structures))
    return neighbors


def far_apart() -> Atoms:
    """Atoms many lattice vectors away from the cell."""
    atoms = ionic_box("Li3F3", seed=3)
    shifts = np.random.default_rng(0).integers(-3, 4, (6, 3))
    atoms.positions += shifts @ np.asarray(atoms.cell)
    return atoms


def sheared() -> Atoms:
    """A cell with angles far from 90 degrees, much shorter than the cutoff along one vector."""
    cell = [[2.2, 0.0, 0.0], [3.0, 5.0, 0.0], [-2.0, 1.5, 4.0]]
    return Atoms("LiF", [[0.1, 0.2, 0.3], [1.9, 2.5, 3.5]], cell=cell, pbc=True)


STRUCTURES = {
    "triclinic": ionic_box("Li4F4H2C2N2O2PS", seed=1),
    "tiny": ionic_box("LiF", seed=2),
    "one atom": ionic_box("Li", spacing=2.5, seed=4),
    "unwrapped": far_apart(),
    "sheared": sheared(),
    "molecule": cluster("C4H6O2LiF", seed=5),
    "single atom": Atoms("Li"),
}


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_full_list_against_brute_force(name: str) -> None:
    atoms = STRUCTURES[name]
    found = entries(built(atoms, FULL).view(FULL))
    assert found == brute_force(atoms, CUTOFF)
    assert max(found.values(), default=1) == 1


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_half_list_holds_each_pair_once(name: str) -> None:
    atoms = STRUCTURES[name]
    half = entries(built(atoms, HALF).view(HALF))
    assert half + reverse(half) == brute_force(atoms, CUTOFF)


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_vectors_against_ase(name: str) -> None:
    atoms = STRUCTURES[name]
    batch = AtomsBatch.from_atoms(atoms)
    pairs = built(atoms, FULL).bind(batch).pairs(FULL)
    i, j, vectors, distances = neighbor_list("ijDd", atoms, CUTOFF)
    ours = np.column_stack([pairs.i, pairs.j, pairs.vector])
    theirs = np.column_stack([i, j, vectors])
    order = [np.lexsort(np.round(a, 6).T) for a in (ours, theirs)]
    np.testing.assert_allclose(ours[order[0]], theirs[order[1]], atol=1e-10)
    np.testing.assert_allclose(pairs.distance.sort()[0], np.sort(distances), atol=1e-10)


def test_full_list_is_sorted_and_symmetric() -> None:
    index = built(mixed_systems(12), FULL).view(FULL)
    assert bool((index.i.diff() >= 0).all())
    found = entries(index)
    assert found == reverse(found)


def test_a_batch_has_the_pairs_of_its_systems() -> None:
    structures = [*STRUCTURES.values(), *mixed_systems(10, seed=7)]
    expected: Counter[Entry] = Counter()
    start = 0
    for atoms in structures:
        for (i, j, *image), n in brute_force(atoms, CUTOFF).items():
            expected[(i + start, j + start, *image)] += n  # type: ignore[index]
        start += len(atoms)
    neighbors = built(structures, FULL, HALF)
    assert entries(neighbors.view(FULL)) == expected
    half = entries(neighbors.view(HALF))
    assert half + reverse(half) == expected


def test_views_of_one_search_end_at_their_own_cutoffs() -> None:
    atoms = STRUCTURES["triclinic"]
    requests = [PairRequest(r, kind) for r in (2.0, 3.1, 6.0) for kind in ("full", "half")]
    neighbors = built(atoms, *requests)
    for request in requests:
        found = entries(neighbors.view(request))
        found = found if request.kind == "full" else found + reverse(found)
        assert found == brute_force(atoms, request.cutoff)


def test_molecule_pairs_are_all_pairs_of_molecules_only() -> None:
    structures = mixed_systems(16)
    index = all_pairs(AtomsBatch.from_atoms(structures))
    expected = set()
    start = 0
    for atoms in structures:
        if not atoms.pbc.any():
            n = len(atoms)
            expected |= {(start + i, start + j) for i in range(n) for j in range(i + 1, n)}
        start += len(atoms)
    assert len(index.i) == len(expected)
    assert set(zip(index.i.tolist(), index.j.tolist(), strict=True)) == expected
    assert not index.shift.any()


def test_only_molecule_pairs_need_no_search() -> None:
    neighbors = built(STRUCTURES["molecule"], MOLECULE)
    assert len(neighbors.view(MOLECULE).i) == 14 * 13 // 2
    assert neighbors.closest is None


def test_closest_pair_is_named() -> None:
    atoms = Atoms("H3", [[0, 0, 0], [0, 0, 3.0], [0, 1.2, 3.0]])
    neighbors = built([Atoms("He"), atoms], HALF)
    assert neighbors.closest is not None
    distance, *pair = neighbors.closest
    assert distance == pytest.approx(1.2)
    assert sorted(pair) == [2, 3]
    assert built(Atoms("He"), HALF).closest is None


def test_vectors_are_differentiable_in_positions_and_cell() -> None:
    batch = AtomsBatch.from_atoms([STRUCTURES["tiny"], STRUCTURES["molecule"]])
    index = built([STRUCTURES["tiny"], STRUCTURES["molecule"]], HALF).view(HALF)

    def distances(positions: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        return index.vectors(batch.moved(positions, cell)).norm(dim=-1)[::7]

    inputs = (batch.positions.clone().requires_grad_(), batch.cell.clone().requires_grad_())
    assert torch.autograd.gradcheck(distances, inputs)


# ---- skin


def all_within(structures: list[Atoms], neighbors: NeighborList) -> bool:
    """Whether every pair within the cutoff is among those of the list, by brute force."""
    batch = AtomsBatch.from_atoms(structures)
    pairs = neighbors.bind(batch).pairs(HALF)
    vectors = np.round(pairs.vector.numpy(), 7) + 0.0
    have = {(int(i), *v) for i, v in zip(pairs.i, vectors.tolist(), strict=True)}
    have |= {(int(j), *(-v + 0.0)) for j, v in zip(pairs.j, vectors, strict=True)}
    start, wanted = 0, 0
    for atoms in structures:
        i, v = neighbor_list("iD", atoms, CUTOFF - 1e-6)
        wanted += len(i)
        rounded = np.round(v, 7) + 0.0
        for atom, vector in zip(i + start, rounded.tolist(), strict=True):
            if (int(atom), *vector) not in have:
                return False
        start += len(atoms)
    return wanted > 0


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    skin=st.floats(0.05, 2.0),
    step=st.floats(0.001, 0.4),
    strain=st.floats(0.0, 0.05),
)
def test_a_reused_list_never_loses_a_pair(
    seed: int, skin: float, step: float, strain: float
) -> None:
    """Random motion and random strain, as a barostat makes it, of boxes and a molecule at once."""
    rng = np.random.default_rng(seed)
    structures = [ionic_box("Li2F2HO", seed=seed), cluster("C3H4O", seed=seed), sheared()]
    neighbors = NeighborList([HALF], skin)
    for _ in range(5):
        neighbors.update(AtomsBatch.from_atoms(structures))
        assert all_within(structures, neighbors)
        change = strain * rng.normal(size=(3, 3)) / 3.0
        structures = [strained(s, change) if s.pbc.all() else s for s in structures]
        for atoms in structures:
            atoms.positions += step * rng.normal(size=atoms.positions.shape)


def test_the_property_above_can_fail() -> None:
    """Without the rebuilds, pairs are lost."""
    atoms = ionic_box("Li2F2HO", seed=1)
    neighbors = built(atoms, HALF, skin=0.1)
    assert all_within([atoms], neighbors)
    atoms.positions += np.random.default_rng(0).normal(scale=0.8, size=(6, 3))
    assert not all_within([atoms], neighbors)


def update(neighbors: NeighborList, *structures: Atoms) -> bool:
    return neighbors.update(AtomsBatch.from_atoms(list(structures)))


def test_nothing_is_searched_while_nothing_moved_far() -> None:
    atoms, molecule = ionic_box(seed=1), cluster("H4C", seed=2)
    neighbors = NeighborList([HALF, FULL], skin=1.0)
    assert update(neighbors, atoms, molecule)
    assert not update(neighbors, atoms, molecule)
    rng = np.random.default_rng(3)
    for changed in (atoms, molecule):
        step = rng.normal(size=changed.positions.shape)
        changed.positions += 0.45 * step / np.linalg.norm(step, axis=1, keepdims=True)
    assert not update(neighbors, atoms, molecule)
    assert neighbors.n_builds == 1
    assert neighbors.view(FULL) is neighbors.view(FULL)


def test_a_box_that_scales_with_its_atoms_is_not_searched_anew() -> None:
    """A barostat moves every atom of a large box by much more than the skin, but pairs by less."""
    atoms = ionic_box("Li32F32", spacing=3.0, seed=1)
    atoms.positions += 1000.0  # unwrapped, far from the origin
    neighbors = NeighborList([HALF], skin=1.0)
    update(neighbors, atoms)
    larger = strained(atoms, 0.015 * np.eye(3))
    assert np.linalg.norm(larger.positions - atoms.positions, axis=1).min() > 10.0
    assert not update(neighbors, larger)
    assert all_within([larger], neighbors)
    # far less than the skin allows, but meshes and wave vectors are planned at a search
    assert update(neighbors, strained(atoms, 0.02 * np.eye(3)))


@pytest.mark.parametrize(
    "how", ["one atom", "shear", "wrap", "element", "count", "pbc", "skinless"]
)
def test_what_makes_a_list_outdated(how: str) -> None:
    atoms = ionic_box(seed=1)
    neighbors = NeighborList([HALF], skin=0.0 if how == "skinless" else 0.6)
    update(neighbors, atoms)
    atoms = atoms.copy()
    if how == "one atom":
        atoms.positions[3, 0] += 0.31
    elif how == "shear":
        atoms = strained(atoms, np.array([[0, 0.12, 0], [0, 0, 0], [0, 0, 0]]))
    elif how == "wrap":
        atoms.positions[0] += atoms.cell[1]
    elif how == "element":
        atoms.symbols[0] = "S" if atoms.symbols[0] != "S" else "P"
    elif how == "count":
        atoms = atoms[:-1]
    elif how == "pbc":
        atoms.pbc = False
    assert update(neighbors, atoms)
    assert neighbors.n_builds == 2


def test_one_system_of_a_batch_that_moves_is_noticed() -> None:
    structures = mixed_systems(8)
    neighbors = NeighborList([HALF], skin=0.5)
    update(neighbors, *structures)
    structures[5] = structures[5].copy()
    structures[5].positions[-1] += 0.4
    assert update(neighbors, *structures)


def test_a_skin_gives_the_same_pairs_as_none() -> None:
    structures = mixed_systems(10)
    batch = AtomsBatch.from_atoms(structures)
    for request in (FULL, HALF):
        lean = built(structures, request).bind(batch).pairs(request)
        trimmed = built(structures, request, skin=2.0).bind(batch).pairs(request)
        assert bool((trimmed.distance < CUTOFF).all())
        for name in ("i", "distance"):
            one, two = (getattr(pairs, name).sort()[0] for pairs in (lean, trimmed))
            torch.testing.assert_close(one, two)
    assert bool((trimmed.i.diff() >= 0).all()) or request.kind == "half"


def test_plans_are_made_at_rebuilds_only() -> None:
    class Planner:
        calls = 0

        def prepare(self, batch: AtomsBatch) -> int:
            self.calls += 1
            return self.calls

    planner = Planner()
    neighbors = NeighborList([HALF], skin=1.0, planners=[planner])
    atoms = ionic_box()
    for step, expected in ((0.0, 1), (0.4, 1), (0.2, 2)):
        atoms.positions[0, 0] += step
        update(neighbors, atoms)
        assert neighbors.bind(AtomsBatch.from_atoms(atoms)).plan(planner) == expected


@pytest.mark.parametrize("skin", [-0.1, float("nan")])
def test_a_skin_that_cannot_be(skin: float) -> None:
    with pytest.raises(ConfigError, match="skin"):
        NeighborList([HALF], skin)


@pytest.mark.parametrize("what", ["positions", "cell"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_before_the_search(what: str, value: float) -> None:
    """Structures are checked on entry; a batch made of tensors is not, and must not crash."""
    batch = AtomsBatch.from_atoms(ionic_box())
    bad = {"positions": batch.positions.clone(), "cell": batch.cell.clone()}
    bad[what][0] = value
    with pytest.raises(StructureError, match="finite"):
        NeighborList([HALF]).update(batch.moved(**bad))
