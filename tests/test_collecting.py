"""Runs that a committee watches: stopped or collected at a threshold, the same after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.io import read
from conftest import make_potential, salt_box
from toy_engine import toy_calculator
from toy_md import ListedLennardJones, argon, settings

from hff_ase.calculators import HybridFF
from hff_ase.calculators.committee import Committee
from hff_ase.cli import app
from hff_ase.dynamics.md import MDRun
from hff_ase.errors import ConfigError, SimulationError, StructureError

STAGES = ["nvt:0.4ps", "nve:0.24ps"]
FILES = ("statistics.dat", "trajectory.extxyz", "spread.dat", "collected.extxyz")


class KilledError(Exception):
    """Stands in for a power cut."""


class Forgetful(LennardJones):
    """ASE's keeps its list while nothing moves far: the order of its sums depends on the past."""

    n_calls: int | None = None

    def calculate(self, *args: Any, **options: Any) -> None:
        if self.n_calls is not None:
            self.n_calls -= 1
            if self.n_calls < 0:
                raise KilledError
        self.nl = None
        super().calculate(*args, **options)


def other(n_calls: int | None = None) -> LennardJones:
    """A member that differs, and dies at a given evaluation."""
    calc = Forgetful(sigma=3.35, epsilon=0.03, rc=5.0, smooth=True)
    calc.n_calls = n_calls
    return calc


def start(folder: Path, calc: Any, member: Any, **options: Any) -> MDRun:
    base = {"committee_interval": 4, "checkpoint_interval": 10, "minimize": False}
    config = settings(str(folder), STAGES, **{**base, **options})
    return MDRun.start(config, argon(2), calc, committee=[member])


@pytest.mark.parametrize("engine", ["ase", "torch"])
def test_spread_in_the_table_is_that_of_the_committee(tmp_path, engine):
    calc = toy_calculator()
    start(
        tmp_path, calc, other(), engine=engine, max_spread=1e-9, collect="c.extxyz",
        collect_spacing=20,
    ).run()  # fmt: skip
    frames = read(tmp_path / "c.extxyz", ":")
    assert [frame.info["step"] for frame in frames] == list(range(4, 161, 20))
    committee = Committee([toy_calculator(), other()])
    table = np.loadtxt(tmp_path / "spread.dat")
    assert table[:, 0].tolist() == list(range(4, 161, 4))
    assert table[:, 6].sum() == len(frames)
    for frame in frames[::3]:
        assert frame.calc is None  # nothing in it that could be taken for a label
        committee.get_property("forces", frame)
        assert np.allclose(frame.arrays["forces_spread"], committee.spread.forces, atol=1e-6)
        assert frame.info["energy_spread"] == pytest.approx(committee.spread.energy, abs=1e-6)
        row = table[table[:, 0] == frame.info["step"]][0]
        assert row[4] == pytest.approx(committee.spread.largest(), rel=1e-4)
        assert row[5] == committee.spread.forces.argmax()


def test_only_what_is_above_the_threshold_is_collected(tmp_path):
    start(tmp_path / "all", ListedLennardJones(), other()).run()
    spread = np.loadtxt(tmp_path / "all" / "spread.dat")
    limit = float(np.quantile(spread[:, 4], 0.6))
    options = {"max_spread": limit, "collect": "collected.extxyz", "collect_spacing": 4}
    summary = start(tmp_path / "some", ListedLennardJones(), other(), **options).run()
    steps = [frame.info["step"] for frame in read(tmp_path / "some/collected.extxyz", ":")]
    assert steps == spread[spread[:, 4] > limit, 0].tolist()
    assert 0 < len(steps) < len(spread)
    assert summary["collected"] == len(steps)
    first = [(tmp_path / k / "trajectory.extxyz").read_bytes() for k in ("all", "some")]
    assert first[0] == first[1]  # looking changes nothing


def test_a_run_stops_at_the_threshold_in_words(tmp_path):
    with pytest.raises(SimulationError) as caught:
        start(tmp_path, ListedLennardJones(), other(), max_spread=1e-6, spread_quantile=0.5).run()
    for part in ("after step 4", "disagrees on atom", "(Ar)", "0.5 quantile", "limit 1e-06 eV/A"):
        assert part in str(caught.value)
    assert (tmp_path / "failed.extxyz").exists()
    assert "disagrees on atom" in (tmp_path / "md.log").read_text()


@pytest.mark.parametrize("engine", ["ase", "torch"])
def test_killed_runs_collect_the_same_frames(tmp_path, engine):
    make = ListedLennardJones if engine == "ase" else toy_calculator
    options = {"max_spread": 1e-3, "collect": "collected.extxyz", "collect_spacing": 7}
    options["engine"] = engine
    start(tmp_path / "whole", make(), other(), **options).run()
    run = start(tmp_path / "cut", make(), other(6), **options)
    for calls in (9, 14, 3):
        with pytest.raises(KilledError):
            run.run()
        run = MDRun.resume(tmp_path / "cut", make(), committee=[other(calls)])
    with pytest.raises(KilledError):
        run.run()
    MDRun.resume(tmp_path / "cut", make(), committee=[other()]).run()
    for name in FILES:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(read(tmp_path / "cut/collected.extxyz", ":")) > 10


def test_the_mean_can_drive(tmp_path):
    options = {"committee_drive": "mean", "committee_interval": None, "engine": "auto"}
    folder = tmp_path / "mean"
    start(folder, ListedLennardJones(), other(), trajectory_forces=True, **options).run()
    frame = read(folder / "trajectory.extxyz", -1)
    committee = Committee([ListedLennardJones(), other()])
    assert np.allclose(committee.get_property("forces", frame), frame.get_forces(), atol=1e-6)
    assert np.loadtxt(folder / "spread.dat")[:, 0].tolist() == list(range(1, 161))
    with pytest.raises(ConfigError, match="HybridFF for the torch engine, got Committee"):
        start(tmp_path / "torch", toy_calculator(), other(), **options | {"engine": "torch"})


def test_members_of_the_package_restart_exactly(tmp_path):
    """Fused kernels in float32: a member's last bits must not depend on where it was resumed."""

    def run(folder: Path, n_calls: int | None = None) -> MDRun:
        calc, member = HybridFF(make_potential(0)), HybridFF(make_potential(1))
        if n_calls is not None:
            compute, left = member.potential.compute, [n_calls]

            def limited(*args: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise KilledError
                return compute(*args, **options)

            member.potential.compute = limited
        config = settings(
            str(folder), ["nvt:0.01ps"], timestep=0.25, temperature=200.0, committee_interval=3,
            minimize=False, max_spread=1e-3, collect="collected.extxyz", collect_spacing=1,
            max_temperature=1e9, max_displacement=9.0, min_distance=0.0, checkpoint_interval=5,
        )  # fmt: skip
        if folder.exists():
            return MDRun.resume(folder, calc, committee=[member])
        return MDRun.start(config, salt_box(), calc, committee=[member])

    run(tmp_path / "whole").run()
    for _ in range(2):
        with pytest.raises(KilledError):
            run(tmp_path / "cut", 6).run()
    run(tmp_path / "cut").run()
    for name in FILES:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_cannot_be_watched_is_said_before_the_run(tmp_path):
    options = {"max_spread": 0.1, "collect": "c.extxyz"}
    with pytest.raises(StructureError, match="model knows"):
        start(tmp_path, toy_calculator(), HybridFF(make_potential()))
    with pytest.raises(ConfigError, match="expected a committee"):
        MDRun.start(settings(str(tmp_path), STAGES, max_spread=0.1), argon(2), toy_calculator())
    with pytest.raises(ConfigError, match="expected max_spread with collect"):
        settings(str(tmp_path), STAGES, collect="c.extxyz")
    with pytest.raises(ConfigError, match=r"another file to collect frames in, got md\.log"):
        start(tmp_path, toy_calculator(), other(), **options | {"collect": "md.log"})
    (tmp_path / "c.extxyz").write_text("something")
    with pytest.raises(ConfigError, match="expected a new file to collect"):
        start(tmp_path, toy_calculator(), other(), **options)


def test_command_line(tmp_path, small_model_path, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    box = salt_box()
    box.write("box.extxyz")
    model = str(small_model_path)
    arguments = [
        "md", "box.extxyz", "--model", model, "--committee", model, "--committee", model,
        "--committee-interval", "2", "--max-spread", "0.3", "--collect", "c.extxyz", "--time",
        "1fs", "--timestep", "0.1", "--ensemble", "nve", "--no-minimize", "--no-plot",
        "--no-progress", "--temperature", "10",
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    assert np.loadtxt("md/spread.dat").shape == (5, 7)
    assert Path("md/c.extxyz").stat().st_size == 0  # alike members agree
