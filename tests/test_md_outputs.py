"""What a long run needs: pressure tensors, a time limit, heavy hydrogens, old checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase.io import read
from toy_md import ListedLennardJones, settings
from toy_runs import KilledError, Still, calculator, molecular_argon, start

from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.reporters.statistics import PLANES, read_statistics
from hff_ase.dynamics.simulation.checkpoint import load_checkpoint, save_checkpoint, unpack_atoms
from hff_ase.dynamics.simulation.stopping import StopRequest, stop_on_signals
from hff_ase.errors import ConfigError, StoppedError
from hff_ase.units import BAR

ENGINES = ("ase", "torch")

# --- pressure tensor -------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ensemble", ["nve", "nvt", "nvt-nhc", "npt"])
def test_pressure_tensor_is_that_of_the_frames(tmp_path, engine, ensemble):
    options = {"pressure_interval": 3, "trajectory_interval": 3, "statistics_interval": 3}
    start(tmp_path, [f"{ensemble}:0.12ps"], engine=engine, **options).run()
    tensor = read_statistics(tmp_path / "pressure.dat")
    statistics = read_statistics(tmp_path / "statistics.dat")
    rows = np.stack([tensor[f"P{plane}[bar]"] for plane in PLANES], axis=1)
    assert list(tensor["step"]) == list(range(0, 31, 3))
    assert tensor["time[ps]"] == pytest.approx(0.004 * tensor["step"])
    expected = []
    for atoms in read(tmp_path / "trajectory.extxyz", ":"):
        atoms.calc = calculator(engine)
        expected.append(-atoms.get_stress(include_ideal_gas=True) / BAR)
    expected = np.array(expected)
    # the mean of the diagonal is the pressure that is reported, with the kinetic energy of the
    # middle of a step where the ensemble knows one
    means = [table[:, :3].mean(axis=1) for table in (rows, expected)]
    assert means[0] == pytest.approx(statistics["pressure[bar]"], rel=1e-6, abs=1e-4)
    if ensemble == "nve" or engine == "ase":
        assert means[0] == pytest.approx(means[1], abs=2e-3)
    for table, mean in zip((rows, expected), means, strict=True):
        table[:, :3] -= mean[:, None]
    assert rows == pytest.approx(expected, abs=2e-3)
    assert np.abs(expected[:, 3:]).max() > 10  # bar: something was compared


def test_pressure_rows_resume_exactly_on_the_torch_engine(tmp_path):
    stages = ["npt:0.2ps", "nvt:0.2ps"]
    options = {"engine": "torch", "pressure_interval": 1}
    start(tmp_path / "whole", stages, **options).run()
    run = start(tmp_path / "cut", stages, calculator("torch", 70), **options)
    with pytest.raises(KilledError):
        run.run()
    MDRun.resume(tmp_path / "cut", calculator("torch")).run()
    whole, cut = ((tmp_path / name / "pressure.dat").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    assert whole.count(b"\n") == 102  # a header and steps 0 to 100


def test_pressure_needs_a_box_and_a_stress(tmp_path):
    config = settings(str(tmp_path / "run"), ["nvt:0.1ps"], pressure_interval=5)
    alone = molecular_argon()
    alone.pbc = False
    with pytest.raises(ConfigError, match="periodic box for pressure_interval"):
        MDRun.start(config, alone, calculator("ase"))

    class NoStress(ListedLennardJones):
        def calculate(self, *args: Any, **options: Any) -> None:
            super().calculate(*args, **options)
            del self.results["stress"]

    with pytest.raises(ConfigError, match="a stress for pressure_interval, got NoStress"):
        MDRun.start(config, molecular_argon(), NoStress())
    assert not (tmp_path / "run").exists()


# --- time limit ------------------------------------------------------------------------------


def test_time_limit_stops_like_a_signal_and_the_run_goes_on(tmp_path):
    stages = ["npt:0.4ps"]
    start(tmp_path / "whole", stages, minimize=False).run()
    run = start(tmp_path / "cut", stages, minimize=False, max_hours=1e-9)
    with pytest.raises(
        StoppedError, match=r"stopped by max_hours 1e-09 at step 1; .*--res"
    ) as stop:
        run.run()
    assert stop.value.exit_code == 143  # as for SIGTERM
    assert load_checkpoint(tmp_path / "cut" / "checkpoint.npz").step == 1
    with pytest.raises(StoppedError, match="at step 2;"):  # the limit of the sitting before stays
        MDRun.resume(tmp_path / "cut", calculator("ase")).run()
    more = {"max_hours": 1}
    summary = MDRun.resume(tmp_path / "cut", calculator("ase"), settings=more).run()
    assert summary["config"]["max_hours"] == 1
    for name in ("statistics.dat", "trajectory.extxyz", "final.extxyz"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_time_limit_while_minimising(tmp_path):
    with pytest.raises(StoppedError, match=r"stopped by max_hours .* while minimising"):
        start(tmp_path, ["npt:0.4ps"], max_hours=1e-9).run()


def test_a_request_says_what_made_it(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with stop_on_signals(2.0) as stop:
        now[0] += 7199
        assert stop.signal_name is None
        now[0] += 1
        assert stop.signal_name == "SIGTERM"
        assert str(stop.error("here")) == "stopped by max_hours 2 here"
        stop.handle(2, None)
        assert str(stop.error("here")) == "stopped by SIGINT here"
        assert stop.error("here").exit_code == 130
    assert StopRequest().signal_name is None


# --- heavy hydrogens -------------------------------------------------------------------------


def test_heavy_hydrogens_are_kept_and_only_kinetic_energy_feels_them(tmp_path):
    box = build_box("1.0 M LiPF6 in DMC", 100, seed=1)
    rng = np.random.default_rng(5)
    masses = box.get_masses()
    box.set_momenta(rng.normal(size=(len(box), 3)) * np.sqrt(masses)[:, None] * 0.01)
    config = MDConfig(
        output=str(tmp_path), time="8fs", timestep=4, ensemble="nve", minimize=False,
        velocities="file", hydrogen_mass=3, trajectory_interval=1, progress=False, plot=False,
    )  # fmt: skip
    MDRun.start(config, box, Still()).run()
    assert "hydrogen mass: 3 amu" in (tmp_path / "md.log").read_text()
    kept = unpack_atoms(load_checkpoint(tmp_path / "checkpoint.npz").atoms)
    for atoms in (kept, *read(tmp_path / "trajectory.extxyz", ":")):
        heavy = atoms.get_masses()
        assert set(heavy[atoms.numbers == 1]) == {3.0}
        for molecule in np.unique(box.arrays["molecule"]):
            inside = box.arrays["molecule"] == molecule
            assert heavy[inside].sum() == pytest.approx(masses[inside].sum())
    # kinetic energies of atoms, and with them the temperature, are those of the file (but for
    # the momentum of the whole, which is taken out)
    first = read(tmp_path / "trajectory.extxyz", "0")
    assert first.get_kinetic_energy() == pytest.approx(box.get_kinetic_energy(), rel=0.02)
    velocity = box.get_velocities() * np.sqrt(masses / kept.get_masses())[:, None]
    drift = np.diff(first.get_velocities() - velocity, axis=0)
    assert np.abs(drift).max() < 1e-8  # ASE units: the same shift for all
    assert box.get_masses() == pytest.approx(masses)  # the caller's atoms are left alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner_steps": 4}, "expected inner_model or inner_without with inner_steps"),
        ({"inner_model": "a", "inner_without": ["coulomb"]}, "either inner_model or inner_without"),
        ({"hydrogen_mass": 5}, "hydrogen_mass: .*got 5"),
        ({"hydrogen_mass": 0.5}, "hydrogen_mass: .*got 0.5"),
        ({"max_hours": 0}, "max_hours: .*got 0"),
        ({"pressure_interval": 0}, "pressure_interval: .*got 0"),
        ({"trajectory_format": "dcd"}, "trajectory_format: .*got 'dcd'"),
        ({"inner_steps": 0}, "inner_steps: .*got 0"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        MDConfig(time="1ps", **options)


def test_a_run_of_before_there_were_these_settings_goes_on(tmp_path):
    new = ("trajectory_format", "pressure_interval", "max_hours", "hydrogen_mass", "inner_steps")
    run = start(tmp_path, ["nvt:0.4ps"], calculator("ase", 80))
    with pytest.raises(KilledError):
        run.run()
    path = tmp_path / "checkpoint.npz"
    checkpoint = load_checkpoint(path)
    for name in new:
        del checkpoint.config[name]
    save_checkpoint(path, checkpoint)
    assert MDRun.resume(tmp_path, calculator("ase")).run()["steps"] == 100
