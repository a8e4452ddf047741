"""Many replicas in one batch: each as it would be elsewhere."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase.io import read, write
from core_models import hybrid
from toy_md import settings
from toy_replicas import boxes, calculator, config, start
from typer.testing import CliRunner

from hff_ase.calculators import HybridFF
from hff_ase.cli import app
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.engine.momenta import temperature
from hff_ase.dynamics.engine.torch import Noise
from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.replicas import ReplicaConfig, ReplicaRun
from hff_ase.dynamics.replicas.config import ReplicaSettings
from hff_ase.dynamics.replicas.replica_engine import Replica, ReplicaEngine
from hff_ase.dynamics.replicas.reporter import allow_open_files
from hff_ase.dynamics.replicas.start import make_replicas
from hff_ase.dynamics.replicas.summary import over_replicas
from hff_ase.dynamics.reporters import read_statistics
from hff_ase.errors import ConfigError, SimulationError
from hff_ase.testing import ionic_box

# what a run is made of


def test_replicas_are_dealt_over_the_combinations():
    made = config("md", ["npt:1ps"], temperature="280,300", pressure=[1, 500, 900], replicas=12)
    told = [(one.temperature, one.pressure) for one in made.replica_configs()]
    assert told[:6] == [(t, p) for t in (280, 300) for p in (1, 500, 900)]
    assert told[6:] == told[:6]
    assert config("md", ["nvt:1ps"], temperature=[280, 300]).n_replicas == 2
    assert ReplicaConfig.load(made.resolved()) == ReplicaConfig.load(
        {**made.resolved(), "replicas": 12}
    )
    assert ReplicaConfig.load(made.resolved()).resolved() == made.resolved()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": [280, 300], "replicas": 5}, "multiple of 2 replicas"),
        ({"temperature": "warm"}, "numbers such as 280,300 for temperature"),
        ({"temperature": [300, 300.0]}, "every temperature once"),
        ({"temperature": []}, "numbers"),
        ({"replicas": 0}, "replicas: expected at least 1, got 0"),
        ({"engine": "ase"}, "engine torch"),
        ({"committee": ["a.hff"]}, "no committee with replicas"),
        ({"temperature": [300, -1]}, "temperature"),
        ({"pressure": [1, 2]}, "only with npt"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        config("md", ["nvt:1ps"], **options)


def test_lists_may_go_side_by_side(tmp_path):
    paired = {"combine": "paired", "structure": ["a.xyz", "b.xyz", "a.xyz"]}
    made = config(tmp_path, ["nvt:10fs"], **paired, temperature=[80, 100, 80], replicas=6)
    where = [(c.structure, c.temperature) for c in made.conditions]
    assert where == [(0, 80.0), (1, 100.0), (2, 80.0)]
    assert [own.temperature for own in made.replica_configs()] == [80, 100, 80] * 2
    assert ReplicaConfig.load(made.resolved()) == made
    with pytest.raises(ConfigError, match=r"as many structures.*or one, to pair, got 3 \| 2 \| 1"):
        config(tmp_path, ["nvt:10fs"], **paired, temperature=[80, 100])
    with pytest.raises(ConfigError, match="a multiple of 3 replicas"):
        config(tmp_path, ["nvt:10fs"], **paired, temperature=80, replicas=4)


def test_a_paired_replica_is_that_of_a_run_at_its_temperature(tmp_path):
    """Noise and momenta depend on seed and number: the first replica is the first of any run."""
    both = {"temperature": "80,120", "combine": "paired"}
    ReplicaRun.start(config(tmp_path / "both", ["nvt:40fs"], **both), boxes(), calculator()).run()
    alone = config(tmp_path / "alone", ["nvt:40fs"], temperature=80, replicas=1)
    ReplicaRun.start(alone, boxes()[:1], calculator()).run()
    own = "replica-000/final.extxyz"
    one, other = (read(tmp_path / name / own) for name in ("both", "alone"))
    np.testing.assert_allclose(one.positions, other.positions, atol=1e-7)
    np.testing.assert_allclose(one.get_momenta(), other.get_momenta(), atol=1e-6)
    summary = yaml.safe_load((tmp_path / "both" / "summary.yaml").read_text())
    kelvins = [(entry["structure"], entry["temperature"]) for entry in summary["conditions"]]
    assert kelvins == [(1, 80.0), (2, 120.0)]


def test_replicas_begin_alike_in_place_and_apart_in_motion():
    made = config("md", ["nvt:1ps"], temperature=[50, 200], replicas=40)
    replicas = make_replicas(boxes()[:1], made)
    momenta = np.stack([one.atoms.get_momenta() for one in replicas])
    assert np.abs(momenta.sum(axis=1)).max() < 1e-10
    found = [temperature(one.atoms.get_kinetic_energy(), one.atoms) for one in replicas]
    for first, wanted in ((0, 50), (1, 200)):
        mean = np.mean(found[first::2])
        # 2/(3N - 3) relative variance of one, 20 of them
        assert abs(mean / wanted - 1) < 4 * np.sqrt(2 / 93 / 20)
    few = make_replicas(boxes()[:1], config("md", ["nvt:1ps"], temperature=[50, 200], replicas=2))
    assert np.array_equal(few[1].atoms.get_momenta(), momenta[1])


# a replica does not know what else is in the batch


def liquid(n_replicas: int) -> tuple[list[Replica], HybridFF]:
    """Replicas of a box of ions under a network with electrostatics and dispersion."""
    atoms = ionic_box(seed=1)
    calc = HybridFF(hybrid(), dtype="float64", skin=0.5)
    made = ReplicaConfig.load(
        {"time": "1ps", "timestep": 0.25, "temperature": [200, 300], "replicas": n_replicas}
    )
    return make_replicas([atoms], made), calc


def test_forces_in_any_batch():
    replicas, calc = liquid(4)
    rng = np.random.default_rng(0)
    for one in replicas:
        one.atoms.positions += rng.normal(0, 0.02, one.atoms.positions.shape)
    together = ReplicaEngine(replicas, calc).all_results()
    for place, one in enumerate(replicas):
        alone = ReplicaEngine([one], calc).all_results()[0]
        scale = np.abs(alone["forces"]).max()
        assert np.abs(alone["forces"] - together[place]["forces"]).max() < 1e-12 * scale
        assert alone["energy"] == pytest.approx(together[place]["energy"], rel=1e-13)


def test_noise_is_that_of_the_number():
    replicas, calc = liquid(4)
    noise = {}
    for name, chosen in {"all": replicas, "last": replicas[3:], "two": replicas[2:]}.items():
        loop = ReplicaEngine(chosen, calc).loop
        assert isinstance(loop._noise, Noise)
        noise[name] = loop._noise.steps(17, 5)[:, -len(replicas[3].atoms) :]
    assert torch.equal(noise["all"], noise["last"])
    assert torch.equal(noise["all"], noise["two"])
    assert noise["all"].std() == pytest.approx(1.0, abs=0.1)


def positions_after(engine: ReplicaEngine, n_steps: int) -> dict[int, np.ndarray]:
    while engine.loop.step < n_steps:
        engine.advance(n_steps - engine.loop.step)
    found = engine.all_atoms()
    return {one.index: found[k].positions for k, one in enumerate(engine.replicas)}


def test_inner_steps_in_any_batch():
    """Multiple time steps go with replicas, each system's own."""
    replicas, calc = liquid(4)
    inner = {"inner_without": ("coulomb", "dispersion"), "inner_steps": 2}
    chosen = [replace(one, config=one.config.model_copy(update=inner)) for one in replicas]
    together = positions_after(ReplicaEngine(chosen, calc), 6)
    alone = positions_after(ReplicaEngine(chosen[2:], calc), 6)
    plain = positions_after(ReplicaEngine(replicas[2:], calc), 6)
    assert np.abs(together[2] - alone[2]).max() < 1e-10
    assert np.abs(plain[2] - alone[2]).max() > 1e-6


@pytest.mark.parametrize("ensemble", ["nvt", pytest.param("npt", marks=pytest.mark.slow)])
def test_trajectories_in_any_batch(ensemble):
    made = config("md", [f"{ensemble}:4ps"], temperature=[60, 90], replicas=8)
    replicas = make_replicas(boxes(), made.for_structures(2))
    calc = calculator()
    together = positions_after(ReplicaEngine(replicas, calc), 500)
    apart = positions_after(ReplicaEngine(replicas[3:5], calc), 500)
    moved = [np.abs(apart[k] - replicas[k].atoms.positions).max() for k in apart]
    assert min(moved) > 0.3
    for index, positions in apart.items():
        assert np.abs(positions - together[index]).max() < 1e-8


def test_a_replica_is_a_run_of_its_own(tmp_path):
    """The first one, started with the velocities of a single run, moves as that run."""
    made = config(tmp_path / "many", ["nvt:0.2ps"], temperature=90, replicas=3, minimize=False)
    ReplicaRun.start(made, boxes()[:1], calculator()).run()
    first = make_replicas(boxes()[:1], made.for_structures(1))[0].atoms
    alone = settings(
        str(tmp_path / "one"), ["nvt:0.2ps"], minimize=False, velocities="file", engine="torch"
    )
    MDRun.start(alone, first, calculator()).run()
    many = read_statistics(tmp_path / "many" / "replica-000" / "statistics.dat")
    one = read_statistics(tmp_path / "one" / "statistics.dat")
    assert list(many) == list(one)
    assert all(np.allclose(many[name], one[name], rtol=1e-9, atol=1e-9) for name in one)


# folders


def test_folder_and_table(tmp_path):
    summary = start(tmp_path / "md").run()
    names = {path.name for path in (tmp_path / "md").iterdir()}
    assert names == {
        "checkpoint.npz", "config.yaml", "md.log", "summary.yaml",
        *(f"replica-{k:03d}" for k in range(8)),
    }  # fmt: skip
    assert yaml.safe_load((tmp_path / "md" / "summary.yaml").read_text()) == summary
    assert [one["replicas"] for one in summary["conditions"]] == [1] * 8
    for index in (0, 4):
        own = tmp_path / "md" / f"replica-{index:03d}"
        last = read(own / "final.extxyz")
        assert len(last) == (32 if index < 4 else 30)
        told = yaml.safe_load((own / "summary.yaml").read_text())
        assert told["steps"] == 100
        assert told["replica"] == index
        frames = read(own / "trajectory.extxyz", ":")
        assert [entry.info["step"] for entry in frames] == [0, 20, 40, 60, 80, 100]
        pressure = read_statistics(own / "pressure.dat")
        assert pressure["step"].tolist() == list(range(0, 100, 3))
    # the barostats hold different pressures: 500 bar are smaller
    volume = [
        read_statistics(tmp_path / "md" / f"replica-00{k}" / "statistics.dat")["volume[A^3]"][8]
        for k in range(4)
    ]
    assert volume[1] < volume[0]
    assert volume[3] < volume[2]
    assert ReplicaRun.resume(tmp_path / "md").run() == summary
    with pytest.raises(SimulationError, match="--force"):
        start(tmp_path / "md")


def test_room_for_open_files():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
        allow_open_files(1)
        enough = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        allow_open_files(100)
        more = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        allow_open_files(1)
        assert (200 < enough < more) or enough == limits[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (more, limits[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_means_and_errors_over_replicas():
    entries = [{"mean": mean, "error": 0.1} for mean in (1.0, 2.0, 6.0)]
    assert over_replicas(entries) == {"mean": 3.0, "error": pytest.approx(np.sqrt(7 / 3))}
    assert over_replicas(entries[:1]) == {"mean": 1.0, "error": 0.1}
    assert over_replicas([{"mean": None, "error": None}])["mean"] is None


# temperatures


@pytest.mark.parametrize("ensemble", ["nvt", pytest.param("nvt-nhc", marks=pytest.mark.slow)])
def test_every_replica_has_its_temperature(tmp_path, ensemble):
    made = config(
        tmp_path / "md", [f"{ensemble}:3ps"], temperature=[40, 120], replicas=16, timestep=8.0,
        friction=10.0, statistics_interval=2, trajectory_interval=10**6, minimize_steps=20,
    )  # fmt: skip
    summary = ReplicaRun.start(made, boxes()[:1], calculator()).run()
    for entry, wanted in zip(summary["conditions"], (40, 120), strict=True):
        found = entry["averages"]["temperature[K]"]
        assert entry["replicas"] == 8
        assert abs(found["mean"] - wanted) < 4.5 * found["error"] + 0.01 * wanted
        assert found["error"] < 0.05 * wanted


# the command line


@pytest.fixture
def model(tmp_path: Path) -> Path:
    calc = HybridFF(hybrid(), dtype="float32")
    path = tmp_path / "small.hff"
    box = ionic_box(seed=1)
    calc.save(path, [box])
    write(tmp_path / "a.extxyz", box)
    write(tmp_path / "b.extxyz", ionic_box(spacing=2.3, seed=2))
    return path


def hff(*words: object) -> None:
    result = CliRunner().invoke(app, ["md", *map(str, words)])
    if result.exception is not None:
        raise result.exception


def test_command_line(tmp_path, model):
    a, b, out = tmp_path / "a.extxyz", tmp_path / "b.extxyz", tmp_path / "md"
    common = [
        "--model", model, "--time", "2fs", "--timestep", "0.25", "--no-progress",
        "--minimize-steps", 2, "--statistics-interval", 2,
    ]  # fmt: skip
    hff(a, b, "--replicas", 4, "--temperature", "100,200", *common, "-o", out)
    summary = yaml.safe_load((out / "summary.yaml").read_text())
    assert [(one["structure"], one["temperature"]) for one in summary["conditions"]] == [
        (file, kelvin) for file in ("a.extxyz", "b.extxyz") for kelvin in (100.0, 200.0)
    ]
    hff("--resume", out)
    with pytest.raises(ConfigError, match="temperature"):
        hff("--resume", out, "--temperature", "100,300")
    with pytest.raises(ConfigError, match="multiple of 4"):
        hff(a, b, "--replicas", 6, "--temperature", "100,200", *common, "-o", tmp_path / "x")
    hff(a, "--temperature", "100,200", *common, "-o", out, "--force")
    assert sorted(path.name for path in out.glob("replica-*")) == ["replica-000", "replica-001"]
    hff(a, "--temperature", "100", *common, "-o", tmp_path / "one")  # one run, as ever
    assert (tmp_path / "one" / "trajectory.extxyz").exists()
    with pytest.raises(ConfigError, match="settings of replicas"):
        hff("--resume", tmp_path / "one", "--temperature", "100,200")


def test_settings_file(tmp_path, model):
    text = f"structure: {tmp_path / 'a.extxyz'}\nmodel: {model}\ntime: 1fs\nreplicas: 2\n"
    (tmp_path / "md.yaml").write_text(text + "temperature: [100, 200]\nprogress: false\n")
    made = ReplicaConfig.load(tmp_path / "md.yaml", {"timestep": 0.5})
    assert made.temperatures == (100.0, 200.0)
    hff("--config", tmp_path / "md.yaml", "--minimize-steps", 1, "-o", tmp_path / "md")
    assert (tmp_path / "md" / "replica-001" / "final.extxyz").exists()


def test_every_setting_has_an_option():
    import inspect

    from hff_ase.cli.md import md

    options = set(inspect.signature(md).parameters)
    fields = {*MDConfig.model_fields, *ReplicaSettings.names()}
    assert options - fields == {"config", "extend", "resume", "force"}
    assert fields <= options


def test_packings_of_one_recipe_are_averaged_together(tmp_path):
    """Two boxes of one composition are two conditions, and one state with an error over both."""
    one, other = boxes()[0], boxes()[0]
    other.rattle(0.05, seed=3)
    options = {"temperature": [80, 100], "replicas": 4, "minimize": False, "plot": False}
    settings_of_run = config(tmp_path, ["npt:0.1ps"], pressure=500, **options)
    summary = ReplicaRun.start(settings_of_run, [one, other], calculator()).run()
    assert len(summary["conditions"]) == 4
    cold, hot = summary["states"]
    for state, kelvin in ((cold, 80.0), (hot, 100.0)):
        own = [entry for entry in summary["conditions"] if entry["temperature"] == kelvin]
        assert (state["structure"], state["temperature"]) == ("Ar32", kelvin)
        assert (state["pressure"], state["replicas"]) == (500, 2)
        means = [entry["averages"]["density[g/cm^3]"]["mean"] for entry in own]
        found = state["averages"]["density[g/cm^3]"]
        assert found["mean"] == pytest.approx(np.mean(means))
        assert found["error"] == pytest.approx(np.std(means, ddof=1) / np.sqrt(2))
    log = (tmp_path / "md.log").read_text()
    assert log.count("Ar32") == 2
    assert "states" not in start(tmp_path / "different").run()  # 32 and 30 atoms
