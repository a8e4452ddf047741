"""The shipped model under `hff md`, killed again and again, as a user's cluster would do it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ase.io import write
from killing import kill_again_and_again

from hff_ase.dynamics.build import build_box

KILLS = 20
SAME = ("trajectory.extxyz", "statistics.dat", "final.extxyz")
SETTINGS = {
    "--model": "electrolyte",
    "--stages": "npt:1ps",
    "--minimize-steps": "20",
    "--checkpoint-interval": "20",
    "--trajectory-interval": "5",
    "--statistics-interval": "2",
}


@pytest.mark.slow
def test_a_run_killed_at_twenty_random_moments_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path / "box.extxyz", build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 150))
    root = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root}

    def launch(folder: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "hff_ase", "md", "box.extxyz", "--resume", folder]
        options = [word for option in SETTINGS.items() for word in option]
        return subprocess.Popen([*command, *options], cwd=tmp_path, env=environment)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert launch("whole").wait() == 0
    hits = kill_again_and_again(lambda: launch("killed"), killed, whole, KILLS)
    assert hits >= 3 * KILLS // 4
    for name in SAME:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
