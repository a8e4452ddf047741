"""`hff md` writes the same run in every trajectory format, and resumes each exactly."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read
from killing import kill_again_and_again
from toy_md import settings
from toy_runs import KilledError, Still, calculator, molecular_argon, start

from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.md import MDRun
from hff_ase.errors import ConfigError, StructureError

FORMATS = ("extxyz", "traj", "xtc")


def universe(folder: Path) -> Any:
    mda = pytest.importorskip("MDAnalysis", reason="reads XTC back")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # charges and masses that a PDB does not have
        return mda.Universe(str(folder / "trajectory.pdb"), str(folder / "trajectory.xtc"))


def frames(folder: Path, suffix: str) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Step, positions and cell of every frame."""
    if suffix == "xtc":
        found = universe(folder)
        return [
            (ts.data["step"], ts.positions.copy(), np.array(ts.triclinic_dimensions))
            for ts in found.trajectory
        ]
    read_back = read(folder / f"trajectory.{suffix}", ":")
    return [(atoms.info["step"], atoms.positions, np.array(atoms.cell)) for atoms in read_back]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_holds_the_same_run_and_resumes_exactly(tmp_path, suffix):
    if suffix == "xtc":
        pytest.importorskip("chemfiles", reason="XTC is written by chemfiles (extra xtc)")
    stages = ["npt:0.4ps", "nvt:0.4ps"]
    options = {"trajectory_format": suffix, "pressure_interval": 2, "checkpoint_interval": 35}
    start(tmp_path / "whole", stages, **options).run()
    run = start(tmp_path / "cut", stages, calculator("ase", 90), **options)
    for call in (60, 3, None):
        with pytest.raises(KilledError):
            run.run()
        run = MDRun.resume(tmp_path / "cut", calculator("ase", call))
    run.run()
    whole, cut = (frames(tmp_path / name, suffix) for name in ("whole", "cut"))
    assert [entry[0] for entry in whole] == list(range(0, 201, 20))
    assert len(cut) == len(whole)
    for one, other in zip(whole, cut, strict=True):
        assert one[0] == other[0]
        assert np.array_equal(one[1], other[1])
        assert np.array_equal(one[2], other[2])
    exact = {"statistics.dat", "pressure.dat", "final.extxyz"}
    if suffix != "traj":  # where a .traj file was cut it has gaps
        exact |= {f"trajectory.{suffix}"}
    for name in exact:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    last = read(tmp_path / "cut" / "final.extxyz")
    assert whole[-1][1] == pytest.approx(last.positions, abs=6e-4)
    assert np.abs(whole[-1][1] - last.get_positions(wrap=True)).max() > 1  # never wrapped


PROGRAM = """
import sys
from toy_md import ListedLennardJones, argon, settings
from hff_ase.dynamics.md import MDRun
folder, suffix = sys.argv[1:]
try:
    run = MDRun.resume(folder, ListedLennardJones())
except Exception as error:
    if "got no checkpoint" not in str(error):
        raise
    options = {"trajectory_format": suffix, "pressure_interval": 2, "trajectory_interval": 2}
    run = MDRun.start(settings(folder, ["npt:2ps"], **options), argon(2), ListedLennardJones())
run.run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_killed_at_random_moments(tmp_path, suffix):
    def launch(name: str) -> subprocess.Popen[bytes]:
        tests = Path(__file__).parent
        environment = {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / name), suffix]
        return subprocess.Popen(command, env=environment)

    assert launch("whole").wait() == 0
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    hits = kill_again_and_again(lambda: launch("killed"), folder, whole, 5)
    assert hits >= 1
    for one, other in zip(frames(whole, suffix), frames(folder, suffix), strict=True):
        assert one[0] == other[0]
        assert np.array_equal(one[1], other[1])
    for name in ("pressure.dat", "statistics.dat"):
        assert (whole / name).read_bytes() == (folder / name).read_bytes()


def test_molecules_of_a_built_box_stay_with_it(tmp_path):
    pytest.importorskip("chemfiles", reason="XTC is written by chemfiles (extra xtc)")
    box = build_box("1.0 M LiPF6 in DMC", 100, seed=1)
    config = MDConfig(
        output=str(tmp_path), time="4fs", minimize=False, trajectory_interval=2, temperature=10,
        trajectory_format="xtc", progress=False, plot=False, hydrogen_mass=3,
    )  # fmt: skip
    MDRun.start(config, box, Still()).run()
    last = read(tmp_path / "final.extxyz")
    assert np.array_equal(last.arrays["molecule"], box.arrays["molecule"])
    assert list(last.info["molecules"]) == list(box.info["molecules"])
    found = universe(tmp_path)
    assert len(found.trajectory) == 3
    assert np.array_equal(found.atoms.resids - 1, box.arrays["molecule"])
    solvent = found.select_atoms("resname DMC")
    assert len(solvent) == 12 * list(box.info["molecules"]).count("DMC") > 0


def test_another_format_replaces_the_files_of_the_run_before(tmp_path):
    pytest.importorskip("chemfiles", reason="XTC is written by chemfiles (extra xtc)")
    start(tmp_path, ["nvt:0.1ps"], trajectory_format="xtc", pressure_interval=5).run()
    start(tmp_path, ["nvt:0.1ps"], trajectory_format="traj").run()
    names = {path.name for path in tmp_path.iterdir()}
    assert "trajectory.traj" in names
    assert not names & {"trajectory.xtc", "trajectory.pdb", "pressure.dat"}
    with pytest.raises(ConfigError, match="trajectory_format 'traj', got 'xtc'"):
        MDRun.resume(tmp_path, calculator("ase"), settings={"trajectory_format": "xtc"})


def test_what_a_format_cannot_hold_is_said_before_the_run(tmp_path, uninstall):
    pytest.importorskip("chemfiles", reason="XTC is written by chemfiles (extra xtc)")
    turned = molecular_argon()
    turned.rotate(30, "z", rotate_cell=True)
    config = settings(str(tmp_path / "run"), ["nvt:0.1ps"], trajectory_format="xtc")
    with pytest.raises(StructureError, match="lower triangular"):
        MDRun.start(config, turned, calculator("ase"))
    uninstall("chemfiles")
    with pytest.raises(ConfigError, match="hff-ase\\[xtc\\]"):
        MDRun.start(config, molecular_argon(), calculator("ase"))
    assert not (tmp_path / "run").exists()
