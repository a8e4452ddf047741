"""Parts of the recipes that make the shipped models."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.io import read

from hff_ase import HybridFF
from hff_ase.data import read_frames, write_database
from hff_ase.data.frames import frames_text
from hff_ase.dynamics.build import build_box, find_solvent, parse_recipe
from hff_ase.dynamics.build.composition import compose
from hff_ase.files import write_whole
from hff_ase.topology import perceive
from hff_ase.training import TrainConfig

RECIPE = Path(__file__).parents[1] / "models" / "recipes" / "electrolyte"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """A module of the recipe by name; none of them stays behind."""
    monkeypatch.syspath_prepend(str(RECIPE))
    yield pytest.importorskip
    for path in RECIPE.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def sampling(module: Callable[[str], Any]) -> Any:
    return module("sampling")


def small_boxes(sampling: Any, calc: HybridFF) -> tuple[list[Any], list[Any]]:
    starts = [sampling.Start(name, name, 300.0, 1.1) for name in ("EC", "DMC")]
    structures = [build_box(start.recipe, 100, seed=2) for start in starts]
    return starts, structures


def test_a_box_that_blows_up_is_left_out_and_the_others_go_on(sampling: Any) -> None:
    calc = HybridFF.load("electrolyte")
    starts, structures = small_boxes(sampling, calc)
    both = sampling.Boxes.of(calc, starts, structures, seed=1)
    n_first = len(structures[0])
    both.positions[n_first] = both.positions[n_first + 1] + 0.3  # 0.5 Angstrom apart, in DMC
    before = both.positions[:n_first].clone()
    both.run(4, timestep=0.5)
    assert [start.name for start in both.starts] == ["EC"]
    assert both.step == 4
    assert both.positions.shape == both.momenta.shape == before.shape
    assert 0.0 < float((both.positions - before).abs().max()) < 0.5
    (frame,) = both.frames()
    assert frame.info["step"] == 4


def test_boxes_come_to_their_density_and_molecules_keep_their_shape(sampling: Any) -> None:
    calc = HybridFF.load("electrolyte")
    starts, structures = small_boxes(sampling, calc)
    both = sampling.Boxes.of(calc, starts, structures, seed=1)
    volume, positions = torch.linalg.det(both.cell), both.positions.clone()
    for _ in range(sampling.SQUEEZES):
        both.scale()
    assert torch.allclose(torch.linalg.det(both.cell), volume / 1.1, rtol=1e-10)
    molecule = sampling.global_molecules(structures)
    shift = (both.positions - positions).numpy()
    for number in np.unique(molecule.numpy()):
        mine = shift[molecule.numpy() == number]
        assert np.allclose(mine, mine[0], rtol=0, atol=1e-10)


def test_random_mixtures_differ_between_rounds_and_are_never_left_out(
    module: Callable[[str], Any],
) -> None:
    liquids = module("liquids")
    first, second = (liquids.random_mixtures(200, seed, n_atoms=400) for seed in (0, 1))
    assert len(first) == len(second) == 200
    assert first == liquids.random_mixtures(200, 0, n_atoms=400)
    assert len(set(first.values()) & set(second.values())) < 30  # neat solvents recur
    kept_apart = {frozenset(name.split("_")) for name in liquids.LEFT_OUT}
    for name, recipe in [*first.items(), *second.items()]:
        assert frozenset(name.split("_")[:-1]) not in kept_apart
        made = compose(parse_recipe(recipe), 400)
        asked = [s.name for s in made.recipe.salts]
        asked += [k for k, long in liquids.SOLVENTS.items() if long in made.recipe.solvents]
        assert sorted(asked) == sorted(name.split("_")[:-1])
        assert 250 < made.n_atoms < 550
    for recipe in liquids.random_mixtures(50, seed=0, n_atoms=200).values():
        assert compose(parse_recipe(recipe), 200).n_atoms < 300


def test_frames_of_a_round_are_told_apart_after_they_were_read_and_labelled(
    module: Callable[[str], Any], tmp_path: Path
) -> None:
    make, teacher = module("make"), module("teacher")
    frames = []
    for system, temperature, step in (("EC", 300.123456789, 600), ("EC", 300.5, 600)):
        atoms = molecule("H2O")  # in vacuum: no label of a stress
        atoms.info = {"system": system, "temperature": temperature, "step": step}
        frames.append(atoms)
    text = tmp_path / "sampled.extxyz"
    write_whole(text, frames_text(frames).encode())
    labelled = teacher.label(read(text, ":"), HybridFF.load("electrolyte"))
    assert set(labelled[0].calc.results) == {"energy", "forces", "charges"}
    write_database(labelled[1:], tmp_path / "chosen.db")
    chosen = {make.place(atoms) for atoms in read_frames(tmp_path / "chosen.db")}
    told = [make.place(atoms) in chosen for atoms in read(text, ":")]
    assert told == [False, True]


def test_clusters_of_mixtures_are_whole_molecules_in_vacuum(module: Callable[[str], Any]) -> None:
    make = module("make")
    frames = []
    for seed in range(3):
        frames.append(build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 200, seed=seed))
        frames[-1].info["system"] = f"LiPF6_EC_DMC_{seed}"
    del frames[0].arrays["molecule"]  # as frames are read back
    broken = frames[2]
    hydrogen = int(np.flatnonzero(broken.numbers == 1)[0])
    del broken[hydrogen]  # a radical is left
    del broken.arrays["molecule"]
    clusters = make.clusters_in(frames, 3, seed=1)
    assert {c.info["system"] for c in clusters} == {"LiPF6_EC_DMC_0", "LiPF6_EC_DMC_1"}
    for cluster in clusters:
        assert 8 <= len(cluster) <= 48
        assert not cluster.pbc.any()
        ions = cluster.info["molecules"].split()
        assert cluster.info["charge"] == ions.count("Li") - ions.count("F6P")
    again = make.clusters_in(frames, 3, seed=1)
    assert all(
        np.array_equal(a.positions, b.positions) for a, b in zip(clusters, again, strict=True)
    )
    assert len(make.clusters_in(frames, 1, seed=1)) <= 1


def test_distorted_angles_keep_bonds_and_molecules_apart(module: Callable[[str], Any]) -> None:
    """Across the boundaries of a box, in vacuum, and never in a ring."""
    box = build_box("1 M LiPF6 in EC:DMC 1:1 v/v", 120, seed=0)
    across = box.copy()
    across.positions += 3.0
    across.wrap()
    starts = [box, across, find_solvent("acetone").atoms(), Atoms("Li")]
    for k, atoms in enumerate(starts):
        atoms.info["system"] = k
    found = module("distorted").distorted(starts, len(starts), seed=3)
    assert sorted(atoms.info["system"] for atoms in found) == [0, 1, 2]  # an ion has no angle
    for atoms in found:
        start = starts[atoms.info["system"]]
        moved = np.abs(start.positions - atoms.positions).max(axis=1) > 1e-6
        assert 0 < moved.sum() < len(atoms)
        bonds = perceive(start).bonds
        before, after = ([a.get_distance(i, j, mic=True) for i, j in bonds] for a in (start, atoms))
        assert after == pytest.approx(before, abs=1e-6)
        apart = atoms.get_all_distances(mic=True)[~np.eye(len(atoms), dtype=bool)]
        assert apart.min() > 0.79
        assert atoms.info["weight"] < 1.0


def test_mixtures_come_before_the_training_they_are_given_for(
    module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make = module("make")
    of_rounds = [molecule("H2O") for _ in range(3)]
    for k, atoms in enumerate(of_rounds):
        atoms.info = {"system": "water", "temperature": 300.0, "step": k}
    write_whole(tmp_path / "round-0-sampled.extxyz", frames_text(of_rounds).encode())
    labelled = module("teacher").label(of_rounds[:1], HybridFF.load("electrolyte"))
    write_database(labelled, tmp_path / "round-0.db")
    asked: dict[int, int] = {}
    written: dict[str, int] = {}

    def sampled(args: Any, name: str, number: int, model: Path, liquids: dict[str, str]) -> list:
        asked[number] = len(liquids)
        return [molecule("CH4")]

    def write_labelled(frames: list, teacher: Any, target: Path) -> None:
        written[target.name] = len(frames)

    monkeypatch.setattr(make, "sampled", sampled)
    monkeypatch.setattr(make, "write_labelled", write_labelled)
    args = argparse.Namespace(
        work=tmp_path,
        rounds=1,
        mixtures=[0, 3, 5],
        clusters=0,
        distorted=0,
        atoms=200,
        hours=[0.1] * 5,
    )
    for number in range(1, 5):
        make.add_wide(args, number, Path("model.hff"), None)
    assert asked == {2: 3, 3: 5}  # none for the first training after the rounds, none for the last
    assert written == {"wide-2.db": 1 + 2, "wide-3.db": 1}  # what the round did not choose, once


@pytest.mark.slow
def test_a_stability_record_goes_on_and_tells_of_what_blew_up(
    module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stability, card = module("stability"), module("card")
    argv = "stability.py electrolyte --npt 0.1 --nvt 0.02 --atoms 60 --only EC DMC --work"
    monkeypatch.setattr(sys, "argv", [*argv.split(), str(tmp_path)])
    stability.main()
    # DMC had blown up in the first run, with a bond broken
    folder = tmp_path / "npt" / "replica-001"
    last = read(folder / "final.extxyz")
    carbon = int(np.flatnonzero(last.numbers == 6)[0])
    bonded = np.argsort(last.get_distances(carbon, range(len(last)), mic=True))[1]
    last.positions[bonded] += 3.0
    write_whole(folder / "failed.extxyz", frames_text([last]).encode())
    (folder / "final.extxyz").unlink()
    shutil.rmtree(tmp_path / "nvt")
    before = (folder / "statistics.dat").read_bytes()
    stability.main()
    assert (folder / "statistics.dat").read_bytes() == before
    first, second = (line.strip("| ").split(" | ") for line in card.stability_of(tmp_path)[-2:])
    assert first == ["EC", "0.1", "0.02", "0"]
    assert second[:3] == ["DMC", "0.1", "0"]
    assert int(second[3]) >= 1


def test_bonds_across_a_boundary_are_not_broken(module: Callable[[str], Any]) -> None:
    stability = module("stability")
    box = build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 100, seed=1)
    bonds = stability.bonds_of(box)
    of_each = {"EC": 10, "DMC": 11, "PF6": 6, "Li": 0}
    assert bonds.shape[1] == sum(of_each[name] for name in box.info["molecules"])
    wrapped = box.copy()
    wrapped.positions += [3.0, 4.0, 5.0]
    wrapped.wrap()
    assert stability.broken_bonds(wrapped, bonds) == 0


@pytest.mark.parametrize("path", sorted(RECIPE.parent.glob("*/*.yaml")), ids=lambda p: p.stem)
def test_configurations_are_those_of_a_training(path: Path) -> None:
    given = {"data.train": ["a.db"], "data.validation": ["b.db"], "limits.cpu_hours": 0.1}
    if path.parent.name == "ecemc-dft":
        given["model.start"] = "start.hff"
    config = TrainConfig.load(path, given)
    assert config.model.licence
    assert config.model.provenance


def test_both_networks_of_the_electrolyte_stand_beside_the_same_terms() -> None:
    given = {"data.train": ["a.db"], "limits.cpu_hours": 0.1}
    get, e3 = (TrainConfig.load(RECIPE / f"{n}.yaml", given) for n in ("config", "e3"))
    assert get.model.terms is not None
    assert e3.model.terms is not None
    assert get.model.terms["short_range"] != e3.model.terms["short_range"]
    for name in {*get.model.terms, *e3.model.terms} - {"short_range"}:
        assert get.model.terms[name] == e3.model.terms[name]
    assert (get.loss, get.model.elements) == (e3.loss, e3.model.elements)
