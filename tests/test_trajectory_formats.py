"""Trajectory files: what is read back, and files cut back to a checkpoint as after a kill."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from conftest import salt_box

from hff_ase.dynamics.reporters.growing_file import GrowingFile
from hff_ase.dynamics.reporters.statistics import Moment
from hff_ase.dynamics.reporters.trajectory_files import (
    FORMATS,
    TrajectoryFile,
    open_trajectory,
    write_topology,
)
from hff_ase.errors import ConfigError, HFFError, SimulationError, StructureError

SUFFIXES = sorted(FORMATS)
MOLECULE = [0, 0, 1, 1, 2, 2, 2, 3]
NAMES = ["LiF", "CO", "water", "P"]


def frames(n: int) -> list[tuple[Atoms, Moment, dict[str, Any]]]:
    """A box that drifts out of its cell while it swells, with made-up results."""
    rng = np.random.default_rng(3)
    made = []
    for k in range(n):
        atoms = salt_box()
        atoms.set_cell(atoms.cell * (1 + 0.01 * k), scale_atoms=True)
        atoms.positions += [3.7 * k, -2.9 * k, 0.1 * k]
        atoms.set_momenta(rng.normal(size=(8, 3)))
        atoms.set_array("molecule", np.array(MOLECULE))
        atoms.info["molecules"] = NAMES
        results = {
            "energy": -float(k), "stress": rng.normal(size=6), "charges": rng.normal(size=8),
            "forces": rng.normal(size=(8, 3)),
        }  # fmt: skip
        made.append((atoms, Moment(10 * k, 1, 0.005 * k), results))
    return made


def open_or_skip(path: Path, length: int = 0, with_forces: bool = False) -> TrajectoryFile:
    if path.suffix == ".xtc":
        pytest.importorskip("chemfiles", reason="XTC is written by chemfiles (extra xtc)")
    return open_trajectory(path, length, with_forces)


def write_all(path: Path, made: list[Any], length: int = 0, **options: bool) -> int:
    file = open_or_skip(path, length, **options)
    for entry in made:
        file.append(*entry)
    length = file.sync()
    file.close()
    return length


def read_back(path: Path) -> list[Atoms]:
    """Every frame, with ``time_ps`` and ``step``; XTC through MDAnalysis."""
    if path.suffix != ".xtc":
        return list(read(path, ":"))
    mda = pytest.importorskip("MDAnalysis", reason="reads XTC back")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # charges and masses that a PDB does not have
        universe = mda.Universe(str(path.with_suffix(".pdb")), str(path))
    copies = []
    for ts in universe.trajectory:
        atoms = Atoms(universe.atoms.elements, ts.positions, cell=ts.triclinic_dimensions, pbc=True)
        atoms.info.update(time_ps=ts.time, step=ts.data["step"])
        atoms.set_array("molecule", universe.atoms.resids - 1)
        copies.append(atoms)
    return copies


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("interrupted", [False, True])
def test_frames_come_back_and_a_kill_costs_only_what_followed_the_checkpoint(
    suffix: str, interrupted: bool, tmp_path: Path
) -> None:
    made = frames(60)  # more than 42: the table of a .traj file moves
    path = tmp_path / f"run{suffix}"
    if interrupted:
        length = write_all(path, made[:7])
        write_all(path, made[3:50], length)  # what a killed process wrote after its checkpoint
        length = write_all(path, made[7:9], length)
        write_all(path, made[9:], length)
    else:
        write_all(path, made)
    copies = read_back(path)
    assert len(copies) == len(made)
    exact = {".extxyz": 1e-8, ".traj": 1e-14, ".xtc": 6e-4}[suffix]
    for copy, (atoms, moment, _) in zip(copies, made, strict=True):
        assert copy.positions == pytest.approx(atoms.positions, abs=exact)  # never wrapped
        assert np.array(copy.cell) == pytest.approx(np.array(atoms.cell), abs=1e-5)
        assert copy.info["time_ps"] == pytest.approx(moment.time, rel=1e-6)  # XTC: float32
        assert copy.info["step"] == moment.step
        assert (copy.numbers == atoms.numbers).all()
        ids = copy.get_tags() if suffix == ".traj" else copy.arrays["molecule"]
        assert list(ids) == MOLECULE


@pytest.mark.parametrize("suffix", [".extxyz", ".traj"])
def test_results_and_momenta_are_kept(suffix: str, tmp_path: Path) -> None:
    made = frames(3)
    write_all(tmp_path / f"run{suffix}", made, with_forces=True)
    for copy, (atoms, _, results) in zip(read_back(tmp_path / f"run{suffix}"), made, strict=True):
        assert copy.get_momenta() == pytest.approx(atoms.get_momenta(), abs=1e-8)
        assert copy.get_potential_energy() == results["energy"]
        for name in ("forces", "stress", "charges"):
            assert copy.calc.results[name] == pytest.approx(results[name], abs=1e-8)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_back_to_nothing_begins_anew(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"run{suffix}"
    write_all(path, frames(4))
    write_all(path, frames(2))
    assert len(read_back(path)) == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_shorter_than_its_checkpoint_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"run{suffix}"
    length = write_all(path, frames(2))
    with pytest.raises(SimulationError, match=f"expected at least {length + 1} "):
        open_or_skip(path, length + 1)
    with pytest.raises(SimulationError, match="got 0"):
        open_or_skip(tmp_path / f"other{suffix}", 5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_that_is_not_there_is_said(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="cannot write"):
        open_or_skip(tmp_path / "nowhere" / f"run{suffix}")


def test_molecules_without_a_cell_fit_every_format(tmp_path: Path) -> None:
    atoms = salt_box()
    atoms.set_cell(None)
    atoms.pbc = False
    for suffix in SUFFIXES:
        write_all(tmp_path / f"run{suffix}", [(atoms, Moment(0, 1, 0.0), {})])
        assert read_back(tmp_path / f"run{suffix}")[0].positions == pytest.approx(
            atoms.positions, abs=6e-4
        )


def test_xtc_refuses_a_cell_that_it_would_turn(tmp_path: Path) -> None:
    file = open_or_skip(tmp_path / "run.xtc")
    atoms, moment, _ = frames(1)[0]
    atoms.rotate(30, "z", rotate_cell=True)
    with pytest.raises(StructureError, match="expected a cell of lower triangular rows"):
        file.append(atoms, moment, {})
    file.close()


def test_topology_names_molecules_and_unrolls_beyond_9999(tmp_path: Path) -> None:
    mda = pytest.importorskip("MDAnalysis", reason="reads the topology back")
    n = 10005
    atoms = Atoms(np.full(n, 3), np.arange(3 * n).reshape(n, 3) % 900)
    atoms.set_array("molecule", np.arange(n))
    write_topology(tmp_path / "many.pdb", atoms)
    write_topology(tmp_path / "named.pdb", frames(1)[0][0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        many = mda.Universe(str(tmp_path / "many.pdb"))
        named = mda.Universe(str(tmp_path / "named.pdb"))
    assert (many.atoms.resids == np.arange(1, n + 1)).all()
    assert list(named.residues.resnames) == ["LiF", "CO", "wat", "P"]
    assert set(many.residues.resnames) == {"MOL"}


def test_an_unknown_ending_and_a_missing_library_are_named(
    tmp_path: Path, uninstall: Callable[[str], None]
) -> None:
    with pytest.raises(ConfigError, match=r"expected a trajectory \.extxyz, \.traj, \.xtc, got"):
        open_trajectory(tmp_path / "run.dcd")
    uninstall("chemfiles")
    with pytest.raises(HFFError, match=r"pip install 'hff-ase\[xtc\]'"):
        open_trajectory(tmp_path / "run.xtc")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_running_file_can_be_read_at_any_moment(tmp_path: Path, suffix: str) -> None:
    """After every frame it holds so many whole ones, synced or not; large frames too."""
    path = tmp_path / f"running{suffix}"
    file = open_or_skip(path)
    lengths = []
    for count, (atoms, moment, results) in enumerate(frames(4), start=1):
        many = atoms.repeat((5, 5, 5))
        many.info.clear()
        file.append(many, moment, {"energy": results["energy"]})
        lengths.append(path.stat().st_size)
        if suffix == ".xtc":
            mda = pytest.importorskip("MDAnalysis", reason="XTC is read by MDAnalysis")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run = mda.Universe(str(path.with_suffix(".pdb")), str(path))
                assert len([step.frame for step in run.trajectory]) == count
            continue
        assert len(read(path, ":")) == count
    if suffix == ".extxyz":
        assert file.sync() == lengths[-1]
    file.close()


def test_rows_reach_the_disk_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    file = GrowingFile(path, 0)
    rng = np.random.default_rng(0)
    sizes = {0}
    for k in range(200):  # 10 MB, of which 1 MB waits in memory
        file.write(f"{k} " + "x" * int(rng.integers(1, 100_000)) + "\n")
        if path.stat().st_size not in sizes:
            sizes.add(path.stat().st_size)
            assert path.read_bytes().endswith(b"x\n")
    assert len(sizes) > 5  # it is written as it goes
    file.close()
    assert len(path.read_text().splitlines()) == 200


def test_the_topology_tells_carbonyl_from_ether_and_has_bonds_and_charges(tmp_path: Path) -> None:
    mda = pytest.importorskip("MDAnalysis", reason="reads the topology back")
    from hff_ase.dynamics.build import build_box

    box = build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 300, seed=2)
    write_topology(tmp_path / "box.pdb", box)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = mda.Universe(str(tmp_path / "box.pdb"))
    n = {name: int((found.residues.resnames == name).sum()) for name in ("EC", "DMC", "PF6", "Li")}
    assert min(n.values()) >= 1
    carbonates = n["EC"] + n["DMC"]
    for selection, count in {
        "name OC": carbonates, "name OCC": 2 * carbonates, "name COOO": carbonates,
        "resname DMC and name CO": 2 * n["DMC"], "resname EC and name CCO": 2 * n["EC"],
        "name FP": 6 * n["PF6"], "name LI": n["Li"], "name HC": 4 * n["EC"] + 6 * n["DMC"],
    }.items():  # fmt: skip
        assert len(found.select_atoms(selection)) == count, selection
    # C3H4O3 in a ring, C3H6O3 as a chain
    assert len(found.bonds) == 10 * n["EC"] + 11 * n["DMC"] + 6 * n["PF6"]
    assert all(len({atom.resid for atom in bond.atoms}) == 1 for bond in found.bonds)
    charges = found.atoms.formalcharges
    assert charges.sum() == 0
    assert (charges[found.select_atoms("resname Li").indices] == 1).all()
    assert charges[found.select_atoms("resname PF6").indices].sum() == -n["PF6"]
    np.testing.assert_allclose(found.atoms.positions, box.positions, atol=6e-4)
    assert found.atoms.elements.tolist() == list(box.symbols)
