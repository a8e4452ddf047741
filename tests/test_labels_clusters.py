"""Clusters cut out of boxes, and the choice of those that differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from typer.testing import CliRunner

from hff_ase import HybridFF
from hff_ase.cli.label import app
from hff_ase.dynamics.build import build_box, find_salt
from hff_ase.errors import ConfigError, StructureError
from hff_ase.labels import (
    choose_diverse,
    cluster_features,
    cut_clusters,
    distance_features,
    find_molecules,
)
from hff_ase.labels.clusters import clusters_of
from hff_ase.labels.molecules import formal_charge


@pytest.fixture(scope="module")
def box() -> Atoms:
    return build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 200, seed=1)


def scrambled(box: Atoms, seed: int) -> Atoms:
    """The box shifted, wrapped and in another order of atoms, without its molecule ids."""
    rng = np.random.default_rng(seed)
    out = box.copy()
    del out.arrays["molecule"]
    out.positions += rng.uniform(0, 20, 3)
    out.wrap()
    return out[rng.permutation(len(out))]


def distances(atoms: Atoms) -> np.ndarray:
    """Sorted distances within a molecule: what a rigid motion cannot change."""
    return np.sort(atoms.get_all_distances().ravel())


def test_molecules_by_bonds_are_the_ones_the_box_was_built_of(box: Atoms) -> None:
    moved = scrambled(box, 0)
    built, found = find_molecules(box), find_molecules(moved)
    assert sorted(built.formulas) == sorted(found.formulas)
    whole = moved.positions + found.offsets @ moved.cell.array
    seen = [distances(Atoms(moved.numbers[m], whole[m])) for m in found.members]
    assert any(np.ptp(moved.positions[m], axis=0).max() > 8 for m in found.members)  # were cut
    shapes = {f: distances(box[built.members[k]]) for k, f in enumerate(built.formulas)}
    for formula, shape in zip(found.formulas, seen, strict=True):
        np.testing.assert_allclose(shape, shapes[formula], atol=1e-5)


def test_a_skewed_small_cell_keeps_molecules_whole() -> None:
    ec = find_salt("LiTFSI").anion
    atoms = Atoms(ec.symbols, ec.positions, cell=[[9, 0, 0], [4, 8.5, 0], [-3, 3.5, 8]], pbc=True)
    reference = distances(Atoms(ec.symbols, ec.positions))
    atoms.positions += [4.1, 1.0, 6.6]
    atoms.wrap()
    found = find_molecules(atoms)
    assert len(found.members) == 1
    whole = atoms.positions + found.offsets @ atoms.cell.array
    np.testing.assert_allclose(distances(Atoms(atoms.numbers, whole)), reference, atol=1e-9)


def test_a_molecule_without_an_end_is_refused() -> None:
    chain = Atoms(
        "C2H4", [[0, 0, 0], [1.3, 0, 0], [0, 1, 0], [0, -1, 0], [1.3, 1, 0], [1.3, -1, 0]]
    )
    chain.set_cell([2.6, 12, 12])
    chain.pbc = True
    with pytest.raises(StructureError, match="its own image"):
        find_molecules(chain)


def test_clusters_are_whole_charged_and_nearest_first(box: Atoms) -> None:
    moved = scrambled(box, 3)
    clusters = cut_clusters(moved, "Li", min_atoms=10, max_atoms=45)
    assert len(clusters) == int((moved.numbers == 3).sum())
    for cluster in clusters:
        assert 10 <= len(cluster) <= 45
        assert not cluster.pbc.any()
        assert cluster.symbols[0] == "Li"
        n_li, n_p = (cluster.numbers == 3).sum(), (cluster.numbers == 15).sum()
        assert cluster.info["charge"] == n_li - n_p
        assert (int(cluster.numbers.sum()) - cluster.info["charge"]) % 2 == 0
        again = find_molecules(Atoms(cluster.numbers, cluster.positions))
        assert sorted(again.formulas) == sorted(cluster.info["molecules"].split())
        np.testing.assert_allclose(cluster.get_center_of_mass(), 0, atol=1e-9)
        near = [
            cluster.get_distances(0, np.flatnonzero(cluster.arrays["molecule"] == k)).min()
            for k in range(1, cluster.arrays["molecule"].max() + 1)
        ]
        assert near == sorted(near)
        assert max(near) <= 6.0
    # the first shell is the one that the box has: minimum images, brute force
    li = int(np.flatnonzero(moved.numbers == 3)[0])
    others = np.setdiff1d(np.arange(len(moved)), [li])
    expected = moved.get_distances(li, others, mic=True).min()
    assert clusters[0].get_distances(0, range(1, len(clusters[0]))).min() == pytest.approx(expected)


def test_clusters_do_not_depend_on_where_the_box_is_cut(box: Atoms) -> None:
    one = cut_clusters(box, "PF6", max_atoms=50)
    moved = box.copy()
    moved.positions += [3.0, 7.0, 1.0]
    moved.wrap()
    other = cut_clusters(moved, "F6P", max_atoms=50)
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-6)
        np.testing.assert_array_equal(a.numbers, b.numbers)


def test_both_images_of_a_neighbour_in_a_small_box() -> None:
    water = molecule("H2O")
    two = Atoms(cell=[5.0, 20, 20], pbc=True)
    two += water
    water.translate([2.5, 0, 0])
    two += water
    (cluster, _) = cut_clusters(two, "O", radius=3.0, max_atoms=9)
    assert len(cluster) == 9  # the one on the left and the one on the right
    assert (cluster.get_all_distances() < 1.2).sum() == 9 + 2 * 6  # each with its two O-H bonds


def test_by_index_and_with_random_sizes(box: Atoms) -> None:
    one = cut_clusters(box, [3, 4], max_atoms=40)
    assert len(one) == len({int(box.arrays["molecule"][k]) for k in (3, 4)})
    sizes = {len(c) for c in cut_clusters(box, min_atoms=10, max_atoms=50, seed=0)}
    assert len(sizes) > 3
    assert min(sizes) >= 10
    assert max(sizes) <= 50


def test_odd_electrons_and_overridden_charges() -> None:
    radical = molecule("CH3")
    with pytest.raises(StructureError, match=r"even number of electrons, got 9 in .* CH3"):
        cut_clusters(radical, min_atoms=1)
    (anion,) = cut_clusters(radical, min_atoms=1, charges={"H3C": -1})
    assert anion.info["charge"] == -1
    assert [formal_charge(f) for f in ("C2F6NO4S2", "Li", "F2NO4S2", "H2O")] == [-1, 1, -1, 0]


def test_what_makes_no_sense_is_refused(box: Atoms) -> None:
    with pytest.raises(StructureError, match="'Na'"):
        cut_clusters(box, "Na")
    with pytest.raises(ConfigError, match="chemical formula"):
        cut_clusters(box, "lithium")
    with pytest.raises(ConfigError, match="min_atoms"):
        cut_clusters(box, min_atoms=30, max_atoms=20)
    with pytest.raises(ConfigError, match="indices"):
        cut_clusters(box, [1000])
    with pytest.raises(StructureError, match="'Na'"):
        list(clusters_of([box], ["Li", "Na"]))


def test_farthest_points_are_spread_and_distinct() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10.0]])
    points = (centres[:, None] + 0.1 * rng.normal(size=(4, 25, 2))).reshape(-1, 2)
    chosen = choose_diverse(points, 4)
    assert sorted(k // 25 for k in chosen) == [0, 1, 2, 3]
    doubled = np.concatenate([points, points + 1e-9])
    everything = choose_diverse(doubled, eps=1e-6)
    assert sorted(k % 100 for k in everything) == list(range(100))
    known = centres[[0, 1, 2]]
    assert [k // 25 for k in choose_diverse(points, 1, known=known)] == [3]
    assert choose_diverse(points, eps=0.5, known=centres) == []


def test_features_of_a_network_tell_clusters_apart_but_not_their_orientation(box: Atoms) -> None:
    hot = box.copy()
    hot.rattle(0.02, seed=0)  # molecules of a new box are copies: alone they are duplicates
    clusters = cut_clusters(hot, max_atoms=30, seed=2)[:12]
    turned = clusters[0].copy()
    turned.rotate(70, (1, 2, 3))
    order = np.random.default_rng(0).permutation(len(turned))
    features = cluster_features(HybridFF.load("electrolyte").potential, [*clusters, turned[order]])
    assert len(set(choose_diverse(features)) & {0, len(clusters)}) == 1
    assert len(choose_diverse(features)) == len(clusters)


def test_distances_tell_clusters_apart_without_a_model(box: Atoms) -> None:
    hot = box.copy()
    hot.rattle(0.02, seed=0)
    clusters = cut_clusters(hot, max_atoms=30, seed=2)[:12]
    turned = clusters[0].copy()
    turned.rotate(70, (1, 2, 3))
    order = np.random.default_rng(0).permutation(len(turned))
    features = distance_features([*clusters, turned[order]])
    np.testing.assert_allclose(features[0], features[-1], atol=1e-9)
    assert len(set(choose_diverse(features)) & {0, len(clusters)}) == 1
    assert len(choose_diverse(features)) == len(clusters)
    # the farthest first: of two kinds of clusters both are chosen
    kinds = ["".join(sorted(set(map(str, clusters[k].symbols)))) for k in range(len(clusters))]
    chosen = choose_diverse(distance_features(clusters), len(set(kinds)) + 1)
    assert len({kinds[k] for k in chosen}) > 1


@pytest.mark.parametrize("features", [[], ["--features", "none"]])
def test_an_element_that_no_model_knows_can_be_labelled(
    box: Atoms, tmp_path: Path, features: list[str]
) -> None:
    sodium = box.copy()
    sodium.numbers[sodium.numbers == 3] = 11
    sodium.info.pop("molecules", None)
    frames = []
    for seed in range(4):
        frames.append(sodium.copy())
        frames[-1].rattle(0.05, seed=seed)
    write(tmp_path / "napf6.extxyz", frames)
    arguments = ["clusters", str(tmp_path / "napf6.extxyz"), "--around", "Na"]
    arguments += ["--dry-run", "-n", "3", "-o", str(tmp_path / "cut.extxyz"), *features]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    found = read(tmp_path / "cut.extxyz", ":")
    assert len(found) == 3
    assert all("Na" in atoms.symbols for atoms in found)
    assert ("electrolyte does not know Na" in result.output) == (not features)
    if features:
        result = CliRunner().invoke(app, [*arguments[:-2], "--features", "electrolyte", "--force"])
        assert isinstance(result.exception, StructureError)
