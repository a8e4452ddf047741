"""Neighbour lists against brute force, and a skin that never loses a pair."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from core_models import mixed_systems
from hypothesis import given, settings
from hypothesis import strategies as st
from vesin import NeighborList as VesinNeighborList

from hff_ase import neighbor_search
from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, HFFWarning, StructureError
from hff_ase.neighbor_search import Search, search_on_host
from hff_ase.neighbors import NeighborList
from hff_ase.pairs import PairIndex, PairRequest, Rows, index_of, isolated_rows
from hff_ase.testing import cluster, ionic_box, strained

CUTOFF = 4.5
FULL, HALF = PairRequest(CUTOFF, "full"), PairRequest(CUTOFF, "half")
MOLECULE = PairRequest(math.inf, "isolated")
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


def brute_force_of_all(structures: list[Atoms], cutoff: float) -> Counter[Entry]:
    """The same for the systems of a batch."""
    found: Counter[Entry] = Counter()
    start = 0
    for atoms in structures:
        for (i, j, *image), n in brute_force(atoms, cutoff).items():
            found[(i + start, j + start, *image)] += n  # type: ignore[index]
        start += len(atoms)
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
    expected = brute_force_of_all(structures, CUTOFF)
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
    index = index_of(isolated_rows(AtomsBatch.from_atoms(structures)))
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


# ---- engines


def of_rows(rows: Rows) -> Counter[Entry]:
    return entries(index_of(rows))


def whole(found: Counter[Entry]) -> Counter[Entry]:
    return found + reverse(found)


def engine(name: str) -> Search:
    if name == "vesin":
        return search_on_host
    pytest.importorskip("nvalchemiops")
    from hff_ase.kernels.rows.device import DeviceSearch

    return DeviceSearch()


@pytest.mark.parametrize("name", ["vesin", "nvalchemi"])
@pytest.mark.parametrize("cutoff", [2.0, 4.5, 8.0])
def test_every_engine_finds_the_pairs_of_brute_force(name: str, cutoff: float) -> None:
    """Triclinic, sheared, tiny, unwrapped and no cells at once; images of an atom with itself."""
    structures = [*STRUCTURES.values(), *mixed_systems(10, seed=3)]
    batch, search = AtomsBatch.from_atoms(structures), engine(name)
    expected = brute_force_of_all(structures, cutoff)
    assert of_rows(search(batch, cutoff, False)) == expected
    half = search(batch, cutoff, True)
    assert whole(of_rows(half)) == expected
    assert half.j.dtype == half.shift.dtype == half.start.dtype == half.count.dtype == torch.int32


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), cutoff=st.floats(1.0, 9.0), spread=st.floats(0.0, 30.0))
def test_engines_agree_on_random_batches(seed: int, cutoff: float, spread: float) -> None:
    """Dilute and dense systems, atoms anywhere."""
    structures = mixed_systems(4, seed=seed)
    rng = np.random.default_rng(seed)
    for atoms in structures:
        atoms.positions += spread * rng.normal(size=atoms.positions.shape)
    batch = AtomsBatch.from_atoms(structures)
    found = [of_rows(engine(name)(batch, cutoff, False)) for name in ("vesin", "nvalchemi")]
    assert found[0] == found[1]


def test_a_device_search_keeps_its_buffers_while_they_suffice() -> None:
    search = engine("nvalchemi")
    small, dense = (ionic_box("Li8F8", spacing=s, seed=1) for s in (2.6, 1.6))
    first = search(AtomsBatch.from_atoms(small), 4.0, False)
    again = search(AtomsBatch.from_atoms(small), 4.0, False)
    assert again.j.data_ptr() == first.j.data_ptr()
    wider = search(AtomsBatch.from_atoms(dense), 4.0, False)  # more pairs than there was room for
    assert wider.j.shape[0] > first.j.shape[0]
    assert of_rows(wider) == brute_force(dense, 4.0)


def same_rows(one: Rows, two: Rows) -> bool:
    parts = [(getattr(one, name), getattr(two, name)) for name in ("start", "count", "j", "shift")]
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in parts)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("numba", [True, False])
def test_rows_are_in_one_order(half: bool, numba: bool) -> None:
    """By partner, then by shift, whatever order the pairs are found in: a run that is resumed adds
    up the same pairs in the same order, on any number of threads."""
    rows_of = neighbor_search.rows_by_numpy
    if numba:
        rows_of = pytest.importorskip("hff_ase.kernels.rows.cpu").rows_of
    engine, rng = VesinNeighborList(cutoff=6.0, full_list=False), np.random.default_rng(0)
    for atoms in [*STRUCTURES.values(), ionic_box("Li6F6", spacing=1.8)]:
        cell, periodic = np.array(atoms.cell), bool(atoms.pbc.all())
        pair, image = neighbor_search.half_list(engine, atoms.positions, cell, periodic)
        pair, image = pair.copy(), image.copy()
        count, j, shift = rows_of(pair, image, len(atoms), half)
        i = np.repeat(np.arange(len(atoms)), count)
        order = [tuple(edge) for edge in np.column_stack([i, j, shift]).tolist()]
        assert order == sorted(order)
        # the same pairs in another order, some of them the other way round
        which = rng.permutation(len(pair))
        pair, image = pair[which], image[which]
        turned = rng.random(len(pair)) < 0.5
        pair[turned] = pair[turned][:, ::-1]
        image[turned] *= -1
        for one, other in zip(
            rows_of(pair, image, len(atoms), half), (count, j, shift), strict=True
        ):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("half", [True, False])
def test_rows_do_not_depend_on_the_number_of_threads(half: bool) -> None:
    batch = AtomsBatch.from_atoms(large_box())
    assert batch.n_atoms >= neighbor_search.THREADED_ATOMS
    threads, found = torch.get_num_threads(), []
    for n in (1, 3):
        torch.set_num_threads(n)
        found.append(search_on_host(batch, 5.0, half))
    torch.set_num_threads(threads)
    assert same_rows(*found)


@pytest.mark.parametrize("half", [True, False])
def test_rows_of_a_system_are_the_same_in_a_batch(half: bool) -> None:
    structures = mixed_systems(6)
    rows = search_on_host(AtomsBatch.from_atoms(structures), CUTOFF, half)
    start, slot = 0, 0
    for atoms in structures:
        alone = search_on_host(AtomsBatch.from_atoms(atoms), CUTOFF, half)
        own, end = slice(start, start + len(atoms)), slot + len(alone.j)
        part = Rows(
            rows.start[own] - slot, rows.count[own], rows.j[slot:end] - start, rows.shift[slot:end]
        )
        assert same_rows(part, alone)
        start, slot = start + len(atoms), end


@pytest.mark.parametrize("half", [True, False])
def test_a_machine_without_numba_gives_the_same_rows(
    half: bool, uninstall: Callable[[str], None]
) -> None:
    pytest.importorskip("numba")
    batch = AtomsBatch.from_atoms([*STRUCTURES.values(), *mixed_systems(6)])
    expected = search_on_host(batch, 8.0, half)
    uninstall("numba")
    with pytest.warns(HFFWarning, match="numba is not installed"):
        assert same_rows(search_on_host(batch, 8.0, half), expected)


def test_half_rows_are_about_equally_long() -> None:
    """Wherever in the numbering an atom is: threads divide rows among themselves."""
    count = search_on_host(AtomsBatch.from_atoms(large_box()), 6.0, True).count.double()
    first, last = count[: len(count) // 2].sum(), count[len(count) // 2 :].sum()
    assert 0.9 < float(first / last) < 1.1


def test_a_flat_cell_is_refused() -> None:
    batch = AtomsBatch.from_atoms(ionic_box())
    with pytest.raises(StructureError, match="volume"):
        search_on_host(batch.moved(batch.positions, torch.ones_like(batch.cell)), 3.0, False)


# ---- order


def large_box(seed: int = 0) -> Atoms:
    """2,160 atoms in no order."""
    rng = np.random.default_rng(seed)
    atoms = ionic_box("Li5F5", seed=seed).repeat((6, 6, 6))
    atoms.positions += 0.05 * rng.normal(size=atoms.positions.shape)
    return atoms[rng.permutation(len(atoms))]


def test_atoms_of_a_large_system_are_arranged_along_a_curve() -> None:
    structures = [large_box(), cluster("C3H4O", seed=1)]
    batch = AtomsBatch.from_atoms(structures)
    neighbors = NeighborList([HALF], skin=1.0, sort=True)
    arranged = neighbors.follow(batch)
    assert arranged.order is not None
    assert sorted(arranged.order.tolist()) == list(range(batch.n_atoms))
    assert torch.equal(arranged.system, batch.system)
    for name in ("positions", "numbers"):
        assert torch.equal(arranged.as_given(getattr(arranged, name)), getattr(batch, name))
    # neighbours in space are closer in memory, and the pairs are those of the atoms as given
    pairs, unsorted = neighbors.view(HALF), NeighborList([HALF], skin=1.0)
    unsorted.update(batch)
    plain = unsorted.view(HALF)
    apart = [float((p.i - p.j).abs().double().mean()) for p in (pairs, plain)]
    assert apart[0] < 0.5 * apart[1]
    given = arranged.order
    index = PairIndex(given[pairs.i], given[pairs.j], pairs.shift)
    assert whole(entries(index)) == whole(entries(plain))
    # messages and the closest pair name atoms as they were given
    assert neighbors.closest is not None
    assert unsorted.closest is not None
    assert neighbors.closest[0] == pytest.approx(unsorted.closest[0])
    assert sorted(neighbors.closest[1:]) == sorted(unsorted.closest[1:])
    assert arranged.place(0) == batch.place(int(given[0]))


def test_an_order_is_kept_until_it_is_worn() -> None:
    atoms = large_box()
    neighbors = NeighborList([HALF], skin=0.5, sort=True)
    first = neighbors.follow(AtomsBatch.from_atoms(atoms)).order
    rng = np.random.default_rng(0)
    atoms.positions += 0.3 * rng.normal(size=atoms.positions.shape)
    assert neighbors.follow(AtomsBatch.from_atoms(atoms)).order is first
    assert neighbors.n_builds == 2
    atoms.positions += 8.0 * rng.normal(size=atoms.positions.shape)
    assert not torch.equal(neighbors.follow(AtomsBatch.from_atoms(atoms)).order, first)
    # another box, and a small one
    assert neighbors.follow(AtomsBatch.from_atoms(large_box(1)[:2100])).n_atoms == 2100
    assert neighbors.follow(AtomsBatch.from_atoms(ionic_box())).order is None


def test_a_list_built_at_a_reference_goes_on_in_its_order() -> None:
    atoms = large_box()
    one, two = (NeighborList([HALF], skin=1.0, sort=True) for _ in range(2))
    one.follow(AtomsBatch.from_atoms(atoms))
    assert one.reference is not None
    two.build(one.reference)
    atoms.positions += 0.1
    orders = [n.follow(AtomsBatch.from_atoms(atoms)).order for n in (one, two)]
    assert torch.equal(orders[0], orders[1])
    assert one.n_builds == two.n_builds == 1
    assert torch.equal(one.view(HALF).j, two.view(HALF).j)


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
        for of in (lambda p: torch.minimum(p.i, p.j), lambda p: p.distance):
            one, two = (of(pairs).sort()[0] for pairs in (lean, trimmed))
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
