"""Many runs on workers: each once, whatever dies in between, and one table."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.io import read, write

from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.sweep import SweepSettings, run_sweep
from hff_ase.dynamics.sweep.config import Member, members_of
from hff_ase.dynamics.sweep.member import FAILURE, run_member, status_of
from hff_ase.dynamics.sweep.table import row_of
from hff_ase.errors import ConfigError
from hff_ase.terms.short_range import ShortRange

MD = {"model": "electrolyte-inner", "time": "10fs", "minimize": False, "outside_domain": True}


def test_runs_of_a_sweep_are_systems_times_state_points() -> None:
    both = ("DMC", "EC:DMC 1:1 v/v")
    points = {"pressure": (1.0, 100.0), "boxes": 3, "atoms": 50}
    settings = SweepSettings(system=both, temperature=(280.0, 300.0), **points)
    members = members_of(settings, {"stages": ["npt:1ps"]})
    names = [member.name for member in members]
    assert len(set(names)) == len(names) == 24
    assert names[0].startswith("DMC-280K-1bar-0-")
    assert names[12].startswith("EC-DMC-1-1-v-v-280K-1bar-0-")
    assert members_of(settings, {"stages": ["npt:2ps"]})[0].name != names[0]
    other = SweepSettings(system=both[::-1], **points)
    kept = {member.name for member in members_of(other, {"stages": ["npt:1ps"]})}
    assert kept < set(names)  # what was run before is found again


@pytest.mark.parametrize(
    ("system", "md", "message"),
    [
        ("DMC", {"seed": 3}, "settings of every run, got seed, which a sweep sets"),
        ("no.xyz", {}, "a recipe or a file of a box, got no.xyz"),
        ("DMC", {"timestep": -1}, "timestep"),
    ],
)
def test_what_cannot_be_is_said_before_the_first_run(
    system: str, md: dict[str, Any], message: str, tmp_path: Path
) -> None:
    settings = SweepSettings(system=(system,), output=str(tmp_path / "s"))
    with pytest.raises(ConfigError, match=message):
        run_sweep(settings, {**MD, **md})
    assert not (tmp_path / "s").exists()
    with pytest.raises(ConfigError, match="got one of them twice"):
        members_of(SweepSettings(system=("DMC", "DMC")), MD)


def test_a_run_is_begun_taken_up_and_done_once(tmp_path: Path) -> None:
    member = Member("DMC", 300.0, None, 1, 60, MD)
    place = tmp_path / "run"
    evaluations = []

    def stop(module: torch.nn.Module, _: object) -> None:
        if isinstance(module, ShortRange):
            evaluations.append(module)
            if len(evaluations) == 6:
                signal.raise_signal(signal.SIGTERM)

    assert status_of(place) == "waiting"
    hook = torch.nn.modules.module.register_module_forward_pre_hook(stop)
    run_member(member, str(place))
    hook.remove()
    assert status_of(place) == "begun"
    box = (place / "box.extxyz").read_bytes()
    run_member(member, str(place))
    assert status_of(place) == "finished"
    assert (place / "box.extxyz").read_bytes() == box
    written = (place / "summary.yaml").stat().st_mtime_ns
    run_member(member, str(place))
    assert (place / "summary.yaml").stat().st_mtime_ns == written
    row = row_of(member, place)
    assert (row["status"], row["atoms"], row["time[ps]"]) == ("finished", 60, 0.01)
    assert row["temperature[K]"] > 0


def test_a_run_that_fails_says_why_and_is_not_repeated(tmp_path: Path) -> None:
    box = build_box("DMC", 60)
    box.positions[1] = box.positions[0] + 0.05
    write(tmp_path / "bad.extxyz", box)
    member = Member(str(tmp_path / "bad.extxyz"), 300.0, None, 0, None, MD)
    place = tmp_path / "run"
    run_member(member, str(place))
    assert status_of(place) == "failed"
    assert "apart" in row_of(member, place)["error"]
    run_member(member, str(place))
    (place / FAILURE).unlink()
    assert status_of(place) == "waiting"


@pytest.mark.slow
def test_twelve_runs_with_a_worker_killed_in_the_middle(tmp_path: Path) -> None:
    """Nothing lost, nothing twice; the same command again does nothing."""
    line = [sys.executable, "-m", "hff_ase", "sweep", "DMC", "EC:DMC 1:1 v/v", "EC"]
    line += ["--temperature", "280,300", "--boxes", "2", "--atoms", "60", "--workers", "2"]
    line += ["--model", "electrolyte-inner", "--time", "100fs", "--no-minimize"]
    line += ["--outside-domain", "--checkpoint-interval", "20", "--output", str(tmp_path / "s")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = False
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        while process.poll() is None:
            begun = list((tmp_path / "s").glob("*/checkpoint.npz"))
            if len(begun) >= 4 and not killed:
                os.kill(workers_below(process.pid)[0], signal.SIGKILL)
                killed = True
            time.sleep(0.05)
        _, errors = process.communicate()
    assert killed
    assert process.returncode == 0, errors
    assert "12 of 12 runs finished, 0 failed" in errors
    with (tmp_path / "s" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished"] * 12
    for row in rows:
        frames = read(tmp_path / "s" / row["folder"] / "trajectory.extxyz", ":")
        assert len(frames) == 2  # of steps 0 and 100, each once
        lines = (tmp_path / "s" / row["folder"] / "statistics.dat").read_text().splitlines()
        assert len([text for text in lines if not text.startswith("#")]) == 11
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.yaml")}
    again = subprocess.run(line, capture_output=True, text=True, env=environment)
    assert again.returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.yaml")}


def workers_below(pid: int) -> list[int]:
    """Processes of Dask's workers among the descendants of one."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    children = [child for thread in threads for child in thread.read_text().split()]
    found = [worker for child in children for worker in workers_below(int(child))]
    program = Path(f"/proc/{pid}/cmdline").read_bytes()
    return found + ([pid] if b"spawn_main" in program else [])
