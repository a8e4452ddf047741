"""Summary and plot of runs that go on, were stopped or blew up, and of replicas."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from toy_md import ListedLennardJones, argon, settings
from toy_replicas import boxes, calculator
from toy_replicas import config as replica_config

from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.replicas import ReplicaRun
from hff_ase.dynamics.reporters.plots import running_mean
from hff_ase.errors import SimulationError, StoppedError

STAGES = ["npt:0.2ps", "nvt:0.2ps"]


class Interrupted(ListedLennardJones):
    """Asks to be stopped at an evaluation."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def calculate(self, *args: Any, **options: Any) -> None:
        super().calculate(*args, **options)
        if self.n_calls == self.at:
            signal.raise_signal(signal.SIGTERM)


def told(folder: Path) -> dict[str, Any]:
    assert (folder / "md.png").read_bytes().startswith(b"\x89PNG")
    return dict(yaml.safe_load((folder / "summary.yaml").read_text()))


def start(folder: Path, calc: Any, **options: Any) -> MDRun:
    return MDRun.start(settings(str(folder), STAGES, plot=True, **options), argon(2), calc)


def test_a_stopped_run_has_its_summary_and_plot(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        start(tmp_path, Interrupted(40)).run()
    summary = told(tmp_path)
    assert summary["status"] == "stopped"
    assert len(summary["stages"]) == 1  # the other has not begun
    assert 0 < summary["steps"] < 50
    rows = np.loadtxt(tmp_path / "statistics.dat")
    late = rows[len(rows) // 2 :]
    mean = summary["stages"][0]["averages"]["temperature[K]"]["mean"]
    assert mean == pytest.approx(late[:, 7].mean())
    MDRun.resume(tmp_path, ListedLennardJones()).run()
    assert told(tmp_path)["status"] == "finished"
    assert len(told(tmp_path)["stages"]) == 2


class Slow(ListedLennardJones):
    """An evaluation takes 5 s on its clock; reads what the run has reported so far."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.now, self.seen = folder, 0.0, set[str]()

    def calculate(self, *args: Any, **options: Any) -> None:
        super().calculate(*args, **options)
        self.now += 5.0
        if (self.folder / "summary.yaml").exists():
            self.seen.add(told(self.folder)["status"])


def test_a_running_run_has_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calc = Slow(tmp_path)
    monkeypatch.setattr(time, "perf_counter", lambda: calc.now)
    start(tmp_path, calc, checkpoint_interval=20).run()
    assert calc.seen == {"running"}
    assert told(tmp_path)["status"] == "finished"


def test_a_run_that_blew_up_has_them(tmp_path: Path) -> None:
    with pytest.raises(SimulationError):
        start(tmp_path, ListedLennardJones(), max_temperature=181.0, temperature=90.0, friction=9,
              timestep=10.0, max_displacement=0.05).run()  # fmt: skip
    assert told(tmp_path)["status"] == "failed"


def test_a_longer_run_does_not_look_finished(tmp_path: Path) -> None:
    start(tmp_path, ListedLennardJones()).run()
    run = MDRun.resume(tmp_path, Interrupted(9), settings={"extend": "1ps"})
    with pytest.raises(StoppedError):
        run.run()
    assert told(tmp_path)["status"] == "stopped"


def test_replicas_have_plots(tmp_path: Path) -> None:
    made = replica_config(tmp_path, ["nvt:0.05ps"], temperature=[80, 100], replicas=4, plot=True)
    ReplicaRun.start(made, boxes(), calculator()).run()
    assert told(tmp_path)["status"] == "finished"
    for k in range(4):
        assert told(tmp_path / f"replica-{k:03d}")["replica"] == k
    assert [made.for_structures(2).name_of(k) for k in (0, 3)] == [
        "structure 1, 80 K", "structure 2, 100 K",
    ]  # fmt: skip


def test_running_means() -> None:
    values = np.random.default_rng(0).normal(size=101)
    found = running_mean(values)
    half = 101 // 40
    for k in (0, 1, 50, 100):
        window = values[max(0, k - half) : k + half + 1]
        assert found[k] == pytest.approx(window.mean())
