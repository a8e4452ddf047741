"""``hff properties``: all stages, killed anywhere and resumed; plans; fits over temperatures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_sweep import workers_below
from toy_equilibration import calculator
from toy_properties import builder, request, resume, start

from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.observables.topology import topology_of
from hff_ase.dynamics.properties import on_workers
from hff_ase.dynamics.properties.expectations import Sizes, expect, expect_again
from hff_ase.dynamics.properties.fits import GAS, arrhenius, fits_of, vogel
from hff_ase.dynamics.properties.on_workers import run_on_workers
from hff_ase.dynamics.properties.planning import (
    RunPlan,
    expectations,
    lengths_of,
    measure_speed,
    table,
)
from hff_ase.dynamics.properties.property_run import PropertyRun
from hff_ase.dynamics.properties.reading import Reading, states_of
from hff_ase.dynamics.properties.request import Request, at_concentrations, read_request
from hff_ase.dynamics.properties.stages import at_density
from hff_ase.dynamics.properties.table import read_properties
from hff_ase.dynamics.reporters.statistics import read_statistics
from hff_ase.errors import (
    ConfigError,
    HFFError,
    OutsideDomainError,
    SimulationError,
)
from hff_ase.settings import parse_time

PROGRAM = Path(__file__).with_name("toy_properties.py")
POINT = "argon-95K"


def numbers(folder: Path) -> dict[str, bytes]:
    """What the runs wrote, by name."""
    kept = ("statistics.dat", "pressure.dat")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.name in kept
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("properties") / "run"
    start(folder).run()
    return folder


def test_every_stage_leaves_a_run_and_the_folder_a_page(whole):
    for stage in ("equilibrate", "npt", "nvt"):
        assert (whole / POINT / stage / "summary.yaml").is_file(), stage
    content = read_properties(whole)
    (state,) = content["states"]
    assert state["name"] == "argon, 95 K"
    assert state["replicas"] == 2
    assert set(state["quantities"]) >= {"density", "viscosity", "self_diffusion/Ar"}
    assert any("not settled" in note for note in state["notes"])  # 3 ps are too few, and it says so
    assert "<html" in (whole / "report.html").read_text(encoding="utf-8")
    # at constant volume: the mean density of the second half at constant pressure
    rows = [read_statistics(p) for p in sorted(whole.glob(f"{POINT}/npt/replica-*/statistics.dat"))]
    mean = np.mean([one["density[g/cm^3]"][len(one["step"]) // 2 :].mean() for one in rows])
    held = read_statistics(whole / POINT / "nvt" / "replica-001" / "statistics.dat")
    np.testing.assert_allclose(held["density[g/cm^3]"], mean, rtol=1e-6)
    assert [one.name for one in states_of(whole, Reading())] == ["argon, 95 K"]
    with pytest.raises(SimulationError, match="--resume"):
        start(whole)


def test_killed_in_any_stage_and_resumed_it_is_the_same_run(whole, tmp_path):
    folder, root = tmp_path / "run", PROGRAM.parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    hits = 0
    for stage in ("equilibrate", "nvt"):
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder)], env=environment, cwd=root
        )
        rows = folder / POINT / stage / "replica-001" / "statistics.dat"
        while process.poll() is None and not (rows.exists() and rows.stat().st_size > 3000):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        hits += process.wait() == -signal.SIGKILL
    assert hits
    resume(folder).run()
    assert numbers(folder) == numbers(whole)
    a, b = (read_properties(place)["states"][0]["quantities"] for place in (folder, whole))
    assert a == b


def test_a_finished_run_goes_on_where_more_is_asked(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    before = numbers(folder)
    resume(folder).run()
    assert numbers(folder) == before
    resume(folder, nvt="2ps", property=("density", "diffusion")).run()
    after = numbers(folder)
    longer = f"{POINT}/nvt/replica-000/pressure.dat"
    assert after[longer].startswith(before[longer])
    assert len(after[longer]) > len(before[longer])
    assert (
        after[f"{POINT}/npt/replica-000/statistics.dat"]
        == (before[f"{POINT}/npt/replica-000/statistics.dat"])
    )
    assert read_request(folder).nvt == "2ps"
    with pytest.raises(ConfigError, match="another replicas"):
        resume(folder, replicas=3)


def test_a_signal_names_the_command_that_goes_on(whole, tmp_path):
    """Stopped in its last stage; then the budget ends there, and what is there is analysed."""
    folder, root = tmp_path / "run", PROGRAM.parents[1]
    shutil.copytree(whole, folder)
    rows = folder / POINT / "nvt" / "replica-001" / "statistics.dat"
    size = rows.stat().st_size
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder), "100ns"],
        env={**os.environ, "PYTHONPATH": str(root)}, cwd=root, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and rows.stat().st_size <= size:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143
    assert (
        f"stopped by SIGTERM at argon, 95 K; continue with hff properties --resume {folder}" in said
    )
    size = rows.stat().st_size
    assert resume(folder, nvt="100ns", budget="1s").run().results
    assert rows.stat().st_size > size


def test_state_points_on_workers_give_what_one_process_gives(whole, tmp_path, monkeypatch):
    """One of two fails at first: the other is on the page, and --resume runs what is missing."""
    folder, kept, begun = tmp_path / "run", ("density",), []
    run = start(folder, temperature=(95.0, 100.0), nvt=None, property=kept)
    alone = start(tmp_path / "alone", nvt=None, property=kept)
    alone.run()

    def fake(function, jobs, **settings):
        assert (settings["workers"], settings["threads"]) == (2, 1)
        for key, arguments in jobs.items():
            begun.append(key)
            failed = key == "argon, 100 K" and len(begun) < 3
            if not failed:
                function(*arguments)
            yield key, KeyError("killed") if failed else None

    monkeypatch.setattr(on_workers, "as_finished", fake)
    toy = SimpleNamespace(resume=lambda place, console: resume(place))
    monkeypatch.setattr(on_workers, "PropertyRun", toy)
    says = "1 of 2 state points failed, the first argon, 100 K: KeyError: 'killed'; repeat them"
    with pytest.raises(SimulationError, match=says):
        run_on_workers(run, 2)
    assert [state["name"] for state in read_properties(folder)["states"]] == ["argon, 95 K"]
    first = numbers(folder)
    assert first == numbers(tmp_path / "alone")
    found = run_on_workers(resume(folder), 2)
    assert [one.state.name for one in found.results] == ["argon, 95 K", "argon, 100 K"]
    assert begun == ["argon, 95 K", "argon, 100 K"] * 2
    after = numbers(folder)
    assert {name: after[name] for name in first} == first
    assert len(after) == 2 * len(first)


@pytest.mark.slow
def test_recipes_on_two_workers_one_of_which_is_killed(tmp_path):
    """Nothing lost, nothing twice; the same again does nothing."""
    (tmp_path / "short.yaml").write_text(
        "equilibration: {hot: 40fs, hot_max: 80fs, cool: 40fs, soft: 40fs, check: 40fs, "
        "least: 40fs, max_time: 120fs, checkpoint_interval: 10}\n"
        "production: {checkpoint_interval: 10}\n"
    )
    recipes = ["DMC", "EC", "EC:DMC 1:1 v/v", "EMC"]
    line = [sys.executable, "-m", "hff_ase", "properties"]
    asked = ["--model", "electrolyte", "--atoms", "60", "--replicas", "1", "--property", "density"]
    asked += ["--npt", "400fs", "--config", "short.yaml", "--output", "run"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = False
    with subprocess.Popen(
        [*line, *recipes, *asked, "--workers", "2"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while process.poll() is None:
            if not killed and len(list(tmp_path.glob("run/*/npt/checkpoint.npz"))) >= 2:
                os.kill(workers_below(process.pid)[0], signal.SIGKILL)
                killed = True
            time.sleep(0.05)
        said, errors = process.communicate()
    assert killed
    assert process.returncode == 0, errors
    assert "4 of 4 state points finished, 0 failed" in said
    assert len(read_properties(tmp_path / "run")["states"]) == 4
    for rows in tmp_path.glob("run/*/npt/**/statistics.dat"):
        steps = read_statistics(rows)["step"].tolist()
        assert steps == list(range(0, 201, 10))  # 2 fs: each once
    before = numbers(tmp_path / "run")
    assert len(before) == 8  # equilibrate and npt of each
    again = subprocess.run(
        [*line, "--resume", "run", "--workers", "2"], cwd=tmp_path, env=environment
    )
    assert again.returncode == 0
    assert numbers(tmp_path / "run") == before


def test_a_budget_becomes_lengths_that_cost_it(tmp_path):
    asked = request(npt=None, nvt=None, budget="2h")
    lengths = lengths_of(asked, 2.0, 0.01)
    npt, nvt = parse_time(lengths.npt), parse_time(lengths.nvt)
    assert lengths.settle is not None
    settled = parse_time(lengths.settle) + parse_time("1.4ps")  # hot and cool before
    cost = 0.01 * ((npt + settled) / 8.0 + nvt / 4.0)
    assert cost == pytest.approx(7200.0, rel=0.02)
    box = builder("argon", 32, 0)
    assert measure_speed(calculator(), [box, box]) > 0
    found = expectations(asked, box, lengths)
    assert [one.quantity for one in found] == ["density", "viscosity", "diffusion"]
    text = "\n".join(table(RunPlan(asked, 32, 0.01, lengths, tuple(found))))
    assert "takes" in text
    assert lengths.nvt in text
    for wrong in ({"temperature": (300.0, 300.0)}, {"budget": "-1h"}, {"property": ("colour",)}):
        with pytest.raises(ConfigError):
            request(**wrong)
    with pytest.raises(ConfigError, match="expected a budget such as 3h"):
        start(tmp_path / "run", npt=None)


def test_expected_errors_fall_with_the_root_of_the_time():
    def error(name: str, nvt: float, replicas: int = 4) -> float:
        sizes = Sizes(3000.0, 300.0, {"DMC": 20}, 0, replicas, 500.0, nvt)
        found = expect(name, 0.05, "volume", sizes)
        assert found is not None
        return found.error

    assert error("viscosity", 4000.0) == pytest.approx(error("viscosity", 1000.0) / 2)
    assert error("viscosity", 1000.0, 16) == pytest.approx(error("viscosity", 1000.0) / 2)
    assert np.isnan(error("diffusion", 10.0))
    entry = {"value": 2.0, "error": 0.2, "length[ps]": 100.0, "target": 0.05}
    again = expect_again("conductivity", entry, 400.0)
    assert again is not None
    assert again.error == pytest.approx(0.05)
    assert again.factor == pytest.approx(1.0)


def test_density_is_changed_without_touching_molecules():
    from hff_ase.dynamics.build import build_box

    box = build_box("acetone", 120, seed=1)
    denser = at_density(box, 0.9)
    assert denser.get_masses().sum() / denser.get_volume() * 1.66053907 == pytest.approx(0.9)
    molecule = topology_of(box).molecule
    for number in range(3):
        own = molecule == number
        before, after = (one.positions[own] - one.positions[own][0] for one in (box, denser))
        np.testing.assert_allclose(after, before, atol=1e-9)


def test_arrhenius_and_vogel_give_back_what_was_put_in():
    t = np.array([280.0, 300.0, 320.0, 340.0, 360.0])
    rng, energy = np.random.default_rng(0), 15.0

    def measured(values: np.ndarray) -> list[Observable]:
        noisy = values * np.exp(rng.normal(0, 0.01, len(values)))
        return [Observable(float(v), 0.01 * v, "mS/cm", "", 100.0) for v in noisy]

    found = arrhenius(t, measured(5.0 * np.exp(-energy / (GAS * t))))
    low, high = found.interval(0.99)
    assert low < energy < high
    assert found.error < 1.0
    curve = vogel(t, measured(0.05 * np.exp(500.0 / (t - 180.0))))
    for name, value in (("B", 500.0), ("T0", 180.0)):
        low, high = curve[name].interval(0.99)
        assert low < value < high
    assert vogel(t[:3], measured(t[:3]))["B"].refused
    coverage = []
    for _ in range(200):
        low, high = arrhenius(t, measured(np.exp(-energy / (GAS * t)))).interval(0.68)
        coverage.append(low < energy < high)
    assert 0.55 < np.mean(coverage) < 0.85


def test_fits_are_made_over_the_temperatures_of_a_recipe(whole):
    states = []
    for kelvin, value in ((300.0, 1.0), (320.0, 1.5), (340.0, 2.1)):
        entry = {"value": value, "error": 0.02, "unit": "mS/cm", "samples": 50, "dof": 49}
        entry |= {"experiment": None}
        states.append(
            {"recipe": "X", "temperature[K]": kelvin, "quantities": {"conductivity": entry}}
        )
    (fit,) = fits_of(states)
    assert fit.parameters["activation energy"].value == pytest.approx(
        -GAS * np.polyfit([1 / 300, 1 / 320, 1 / 340], np.log([1.0, 1.5, 2.1]), 1)[0], rel=0.05
    )
    assert json.dumps(fit.as_dict())
    assert fits_of(states[:1]) == []


def test_concentrations_change_the_salt_alone():
    recipes = at_concentrations("1.0 M LiPF6 in EC:DMC 1:1 w/w", [0.5, 2.0])
    assert recipes == ["0.5 M LiPF6 in EC:DMC 1:1 w/w", "2 M LiPF6 in EC:DMC 1:1 w/w"]
    with pytest.raises(ConfigError, match="one salt"):
        at_concentrations("DMC", [1.0])


def test_the_command_plans_without_running(small_model_path, tmp_path):
    from typer.testing import CliRunner

    from hff_ase.cli import app

    arguments = ["properties", "DMC", "--model", str(small_model_path), "--atoms", "60"]
    arguments += ["--replicas", "2", "--budget", "30min", "--plan", "-o", str(tmp_path / "run")]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "ms per step of 2 boxes" in done.output
    for name in ("density", "viscosity", "diffusion"):
        assert name in done.output
    assert "conductivity" not in done.output  # no ions
    assert not (tmp_path / "run").exists()
    for wrong, message in (
        (["properties", "DMC"], "expected a model"),
        (["properties", "--resume", str(tmp_path)], "expected a run of hff properties"),
        ([*arguments[:4], "--budget", "3"], "--budget: expected a time on the clock"),
    ):
        with pytest.raises(ConfigError, match=message):
            CliRunner().invoke(app, wrong, catch_exceptions=False)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"recipe": ["1 M LiTFSI in sulfolane"]}, OutsideDomainError, "not trained on .*sulfolane"),
        ({"max_settling": "0.4ps"}, ConfigError, "above soft .*max_time is --max-settling"),
        ({"recipe": ["0.1 M LiPF6 in EC"], "atoms": 60}, HFFError, "atoms"),
    ],
)
def test_what_is_refused_leaves_no_folder(settings, error, says, tmp_path):
    asked = {"recipe": ["DMC"], "model": "electrolyte", "temperature": [298.15], "budget": "1h"}
    with pytest.raises(error, match=says):
        PropertyRun.start(tmp_path / "run", Request.load({**asked, **settings}))
    assert not (tmp_path / "run").exists()
    allowed = {"recipe": ["TEP"], "outside_domain": True}
    PropertyRun.start(tmp_path / "other", Request.load({**asked, **allowed}))
    assert (tmp_path / "other" / "request.yaml").is_file()
