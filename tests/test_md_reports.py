"""Summary and plot of runs that go on, were stopped or blew up, and of replicas."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from toy_md import ListedLennardJones, argon, settings
from toy_replicas import boxes, calculator
from toy_replicas import config as replica_config

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.replicas import ReplicaRun
from hff_ase.dynamics.reporters.plots import running_mean
from hff_ase.dynamics.reporters.statistics import average
from hff_ase.dynamics.simulation.departures import departures
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


# --- what is not what it looks like ---------------------------------------------------------


def columns(**late: Any) -> dict[str, np.ndarray]:
    """Statistics of one stage of 2,000 rows around the given values, fluctuating as a liquid's."""
    rng = np.random.default_rng(4)
    n = 2000
    rows = {"stage": np.ones(n), "time[ps]": 0.01 * np.arange(n), "conserved[eV]": np.zeros(n)}
    spread = {"temperature[K]": 8.0, "pressure[bar]": 500.0, "density[g/cm^3]": 0.01}
    names = ("temperature[K]", "pressure[bar]", "density[g/cm^3]")
    for name, value in zip(names, late.values(), strict=False):
        rows[name] = value + spread[name] * rng.standard_normal(n)
    return rows


def stage_of(ensemble: str, **options: Any) -> MDConfig:
    return MDConfig.load({"stages": [f"{ensemble}:20ps"], "timestep": 1.0, **options})


@pytest.mark.parametrize(
    ("ensemble", "late", "message"),
    [
        ("nvt", {"kelvin": 185.6}, r"temperature 185\.\d \+- 0\.\d K, 300 K asked for \(nvt, sec"),
        ("npt", {"kelvin": 300.0, "bar": 13500.0}, r"pressure 13\d{3} \+- \d+ bar, 1 bar asked"),
        ("npt", {"kelvin": 300.0, "bar": 1.0, "density": 0.6}, r"density 0\.60\d .* to 1\.06"),
    ],
)
def test_a_stage_that_ended_far_from_what_was_asked(
    ensemble: str, late: dict[str, float], message: str
) -> None:
    box = Atoms("C3H6O3" * 10, info={"recipe": "DMC"})
    (line,) = departures(columns(**late), 1, stage_of(ensemble), box)
    assert re.match(message, line)


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
def test_nothing_is_said_of_what_was_reached_or_not_asked(ensemble: str) -> None:
    box = Atoms("C3H6O3" * 10, info={"recipe": "DMC"})
    near = columns(kelvin=301.0, bar=40.0, density=1.02)
    assert departures(near, 1, stage_of(ensemble), box) == []
    free = columns(kelvin=150.0, bar=9000.0, density=0.3)
    assert bool(departures(free, 1, stage_of(ensemble), Atoms("Ar"))) == (ensemble != "nve")


def test_a_cold_run_says_so(tmp_path: Path) -> None:
    """Started at rest with a thermostat that hardly acts."""
    atoms = argon(2)
    atoms.set_momenta(np.zeros((len(atoms), 3)))
    options = {"temperature": 60, "velocities": "file", "minimize": False, "friction": 1e-6}
    config = settings(str(tmp_path), ["nvt:0.3ps", "nve:0.1ps"], statistics_interval=1, **options)
    MDRun.start(config, atoms, ListedLennardJones()).run()
    (line,) = told_of(tmp_path)["far_from_asked"]
    assert re.match(r"temperature \d\.\d.* K, 60 K asked for \(nvt, second half", line)
    assert f"warning: {line}" in (tmp_path / "md.log").read_text()


def told_of(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "summary.yaml").read_text()))


def test_means_that_drift_or_are_short_get_no_error() -> None:
    """A density that falls from 1.286 to 1.16 has no error, however smooth; settled ones have the
    one of independent samples."""
    rng = np.random.default_rng(7)
    noise = 0.004 * rng.standard_normal(1500)
    settled = average(1.16 + noise)
    assert 0.8 < settled["error"] / (0.004 / np.sqrt(1500)) < 1.6
    assert "doubt" not in settled
    falling = average(1.286 - 0.126 * np.linspace(0, 1, 1500) + noise)
    assert (falling["error"], falling["doubt"]) == (None, "still drifting")
    slow = np.repeat(rng.standard_normal(8), 200)
    assert average(slow)["error"] is None
    assert average(slow)["doubt"]
    assert average(np.array([])) == {"mean": None, "error": None}
