"""Runs of replicas that are killed, stopped, or lose a replica on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase.io import read
from killing import kill_again_and_again
from toy_engine import LennardJones
from toy_md import argon
from toy_replicas import DiesAt, KilledError, calculator, config, outputs, start

from hff_ase.calculators import HybridFF
from hff_ase.dynamics.replicas import ReplicaRun
from hff_ase.dynamics.reporters import read_statistics
from hff_ase.errors import ConfigError, HFFWarning, SimulationError, StoppedError

PROGRAM = Path(__file__).with_name("toy_replicas.py")


def launch(folder: Path) -> subprocess.Popen[bytes]:
    root = PROGRAM.parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen([sys.executable, str(PROGRAM), str(folder)], env=environment, cwd=root)


def test_killed_at_random_moments(tmp_path):
    start(tmp_path / "whole").run()
    killed = tmp_path / "killed"
    assert kill_again_and_again(lambda: launch(killed), killed, tmp_path / "whole", 1) == 1
    assert outputs(killed) == outputs(tmp_path / "whole")


@pytest.mark.parametrize("form", ["traj", "xtc"])
def test_cut_anywhere_and_resumed(tmp_path, form):
    if form == "xtc":
        pytest.importorskip("chemfiles")
    options = {"trajectory_format": form}
    start(tmp_path / "whole", **options).run()
    run = start(tmp_path / "cut", calculator(DiesAt(8)), **options)  # minimising
    for call in (60, None):
        with pytest.raises(KilledError):
            run.run()
        calc = calculator(DiesAt(call)) if call else calculator()
        run = ReplicaRun.resume(tmp_path / "cut", calc)
    run.run()
    cut, whole = outputs(tmp_path / "cut"), outputs(tmp_path / "whole")
    if form == "traj":  # its index of frames may stand elsewhere
        for folder in (tmp_path / "cut", tmp_path / "whole"):
            found = cut if folder.name == "cut" else whole
            for name in [name for name in found if name.endswith(".traj")]:
                found[name] = b"".join(one.positions.tobytes() for one in read(folder / name, ":"))
    assert cut == whole


def test_stopped_by_a_signal_and_by_the_clock(tmp_path):
    start(tmp_path / "whole").run()

    class Asks(LennardJones):
        def forward(self, batch, neighbors, fields):
            if self.n_calls == 30:
                signal.raise_signal(signal.SIGTERM)
            return super().forward(batch, neighbors, fields)

    run = start(tmp_path / "stopped", calculator(Asks()))
    with pytest.raises(StoppedError, match=r"SIGTERM.*--resume"):
        run.run()
    short = ReplicaRun.resume(tmp_path / "stopped", calculator(), settings={"max_hours": 1e-9})
    with pytest.raises(StoppedError, match="max_hours"):
        short.run()
    ReplicaRun.resume(tmp_path / "stopped", calculator()).run()
    assert outputs(tmp_path / "stopped") == outputs(tmp_path / "whole")


def test_other_settings_are_refused_at_resume(tmp_path):
    start(tmp_path / "md")
    for wrong in ({"temperature": [80, 120]}, {"replicas": 16}, {"timestep": 1.0}):
        with pytest.raises(ConfigError, match="settings of the run to resume"):
            ReplicaRun.resume(tmp_path / "md", calculator(), settings=wrong)
    ReplicaRun.resume(tmp_path / "md", calculator(), settings={"temperature": "80,100"})


# one blows up, the others go on


class Breaks(LennardJones):
    """Goes wrong for some systems from one evaluation on."""

    def __init__(self, call: int, how: str) -> None:
        super().__init__()
        self.call, self.how = call, how

    def forward(self, batch, neighbors, fields):
        energies = super().forward(batch, neighbors, fields)
        ill = batch.charge[batch.system] == 0.5  # told apart by a charge that nothing feels
        if self.n_calls < self.call or not bool(ill.any()):
            return energies
        if self.how == "nan":
            return torch.where(ill, energies * torch.nan, energies)
        first = ill & (batch.index_in_system == 3)
        return energies - torch.where(first, 300.0 * batch.positions[:, 0], 0.0)


def broken_run(folder: Path, how: str, call: int) -> ReplicaRun:
    ill = argon(2)
    ill.info["charge"] = 0.5
    calc = calculator(Breaks(call, how))
    made = config(folder, ["nvt:0.4ps"], minimize=False, replicas=6, checkpoint_interval=50)
    return ReplicaRun.start(made, [argon(2), ill, argon(2)[:30]], calc)


@pytest.mark.parametrize("how", ["nan", "kick"])
def test_a_replica_that_blows_up_leaves_the_others(tmp_path, how):
    broken_run(tmp_path / "whole", how, 10**6).run()
    run = broken_run(tmp_path / "broken", how, 40)
    with pytest.warns(HFFWarning, match=r"replica [14] stopped after step.*frame saved"):
        summary = run.run()
    assert [entry["replica"] for entry in summary["failed"]] == [1, 4]
    assert [one["replicas"] for one in summary["conditions"]] == [2, 0, 2]
    for index in (1, 4):
        own = tmp_path / "broken" / f"replica-{index:03d}"
        assert np.isfinite(read(own / "failed.extxyz").positions).all()
        assert yaml.safe_load((own / "summary.yaml").read_text())["status"] == "failed"
        assert len(read_statistics(own / "statistics.dat")["step"]) > 5
    for index in (0, 2, 3, 5):
        found = [
            read(tmp_path / name / f"replica-{index:03d}" / "final.extxyz").positions
            for name in ("whole", "broken")
        ]
        assert np.abs(found[0] - found[1]).max() < 1e-8  # final.extxyz has eight digits
    log = (tmp_path / "broken" / "md.log").read_text()
    assert "replica 1 stopped after step" in log


def test_resumed_after_one_blew_up(tmp_path):
    run = hot_run(tmp_path / "whole")
    with pytest.warns(HFFWarning, match="replica 1 stopped"):
        whole = run.run()
    assert [entry["replica"] for entry in whole["failed"]] == [1]
    step = whole["failed"][0]["step"]
    assert step > 4
    with pytest.raises(KilledError):  # before it fails ...
        hot_run(tmp_path / "cut", calculator(DiesAt(step))).run()
    run = ReplicaRun.resume(tmp_path / "cut", calculator(DiesAt(40)))
    with pytest.warns(HFFWarning, match="replica 1 stopped"), pytest.raises(KilledError):
        run.run()  # ... and after
    cut = ReplicaRun.resume(tmp_path / "cut", calculator()).run()
    assert outputs(tmp_path / "cut") == outputs(tmp_path / "whole")
    assert cut["failed"] == whole["failed"]


def hot_run(folder: Path, calc: HybridFF | None = None) -> ReplicaRun:
    """Two structures; in the second, two atoms are so close that they will fly apart."""
    tight = argon(2)
    away = tight.positions[1] - tight.positions[0]
    tight.positions[0] += away * (1 - 2.5 / np.linalg.norm(away))
    made = config(
        folder, ["nvt:0.2ps"], minimize=False, max_displacement=0.0625, temperature=60,
        checkpoint_interval=3, timestep=2.0,
    )  # fmt: skip
    return ReplicaRun.start(made, [argon(2), tight], calc or calculator())


def test_all_of_them_blow_up(tmp_path):
    ill = argon(2)
    ill.info["charge"] = 0.5
    made = config(tmp_path / "all", ["nvt:0.4ps"], minimize=False, replicas=2)
    run = ReplicaRun.start(made, [ill], calculator(Breaks(30, "nan")))
    with pytest.raises(SimulationError, match="no replica is left; replica 0"):
        run.run()
