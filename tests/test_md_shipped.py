"""The shipped model under `hff md`, killed again and again, as a user's cluster would do it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.io import write

from hff_ase.dynamics.build import build_box

KILLS = 20
SAME = ("trajectory.extxyz", "statistics.dat", "final.extxyz")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hff_ase", "md", *arguments]


@pytest.mark.slow
def test_a_run_killed_at_twenty_random_moments_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path / "box.extxyz", build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 150))
    start = ("box.extxyz", "--model", "electrolyte-preview", "--stage", "npt:0.3ps",
             "--stage", "nvt:0.2ps", "--minimize-steps", "20", "--checkpoint-interval", "20",
             "--trajectory-interval", "5", "--statistics-interval", "2")  # fmt: skip
    root = str(Path(__file__).parents[1])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    begin = time.monotonic()
    subprocess.run(command(*start, "-o", "whole"), cwd=tmp_path, env=environment, check=True)
    longest = time.monotonic() - begin
    rng = np.random.default_rng(0)
    killed = 0
    while killed < KILLS:
        process = subprocess.Popen(
            command(*start, "--resume", "killed"), cwd=tmp_path, env=environment
        )
        try:
            code = process.wait(timeout=rng.uniform(1.0, 0.4 * longest))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            continue
        assert code == 0
        break
    subprocess.run(command(*start, "--resume", "killed"), cwd=tmp_path, env=environment, check=True)
    assert killed >= KILLS // 2
    for name in SAME:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
