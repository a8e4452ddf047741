"""A run that is made longer is, bit for bit, the run that was that long from the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import salt_box
from toy_engine import toy_calculator
from toy_md import ListedLennardJones, argon, settings
from toy_replicas import boxes, calculator
from toy_replicas import config as replica_config
from toy_replicas import outputs as replica_outputs

from hff_ase.cli import app
from hff_ase.dynamics.config import ENSEMBLES
from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.replicas import ReplicaRun
from hff_ase.dynamics.simulation.checkpoint import load_checkpoint, save_checkpoint
from hff_ase.dynamics.simulation.resume import extend_stages, goes_on
from hff_ase.errors import ConfigError, SimulationError

FILES = ("statistics.dat", "trajectory.extxyz", "final.extxyz", "pressure.dat")


def make(engine: str, last_call: int | None = None) -> Any:
    if engine == "torch":
        return toy_calculator()
    return ListedLennardJones() if last_call is None else FailsAtCall(last_call)


class KilledError(Exception):
    """Stands in for a power cut."""


class FailsAtCall(ListedLennardJones):
    def __init__(self, last_call: int) -> None:
        super().__init__()
        self.last_call = last_call

    def calculate(self, *args: Any, **options: Any) -> None:
        if self.n_calls >= self.last_call:
            raise KilledError
        super().calculate(*args, **options)


def start(folder: Path, engine: str, stages: list[str], **options: Any) -> dict[str, Any]:
    config = settings(str(folder), stages, engine=engine, pressure_interval=7, **options)
    return MDRun.start(config, argon(2), make(engine)).run()


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.mark.parametrize(
    ("engine", "ensemble"),
    [
        *[("ase", ensemble) for ensemble in ("nve", "nvt", "nvt-nhc", "npt")],
        *[("torch", ensemble) for ensemble in ENSEMBLES],
    ],
)
def test_so_much_longer_is_the_longer_run(tmp_path: Path, engine: str, ensemble: str) -> None:
    start(tmp_path / "whole", engine, [f"{ensemble}:0.4ps"])
    # not a multiple of any interval, and lengthened twice
    start(tmp_path / "grown", engine, [f"{ensemble}:0.132ps"])
    run = MDRun.resume(tmp_path / "grown", make(engine), settings={"extend": "0.068ps"})
    assert run.run()["steps"] == 50
    run = MDRun.resume(tmp_path / "grown", make(engine), settings={"time": "0.4ps"})
    summary = run.run()
    assert files(tmp_path / "grown") == files(tmp_path / "whole")
    assert summary["steps"] == 100
    assert summary["config"]["stages"] == [f"{ensemble}:0.4ps"]
    written = yaml.safe_load((tmp_path / "grown/config.yaml").read_text())
    assert written["stages"] == [f"{ensemble}:0.4ps"]


@pytest.mark.parametrize("engine", ["ase", "torch"])
def test_further_stages_are_those_of_the_longer_run(tmp_path: Path, engine: str) -> None:
    stages = ["nvt-nhc:0.12ps", "npt:0.16ps", "nvt:0.08ps"]
    start(tmp_path / "whole", engine, stages)
    start(tmp_path / "grown", engine, stages[:1])
    for stage in stages[1:]:
        MDRun.resume(tmp_path / "grown", make(engine), settings={"extend": stage}).run()
    assert files(tmp_path / "grown") == files(tmp_path / "whole")


def test_longer_and_further_at_once_on_the_command_line(
    tmp_path: Path, small_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    salt_box().write("box.extxyz")
    quiet = ["--timestep", "0.01", "--no-minimize", "--no-plot", "--no-progress", "--temperature",
             "10", "--model", str(small_model_path)]  # fmt: skip
    first = ["--stages", "nvt:0.05fs"]
    stages = ["--stages", "nvt:0.1fs", "--stages", "nve:0.1fs"]

    def hff(*arguments: str) -> Any:
        result = CliRunner().invoke(app, ["md", *arguments])
        assert result.exit_code == 0, (result.output, result.exception)

    hff("box.extxyz", *quiet, *stages, "-o", "whole")
    hff("box.extxyz", *quiet, *first, "-o", "grown")
    hff("--resume", "grown", *stages)
    for name in FILES[:3]:
        assert (tmp_path / "grown" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    result = CliRunner().invoke(app, ["md", "box.extxyz", *quiet, "--extend", "1ps"])
    assert isinstance(result.exception, ConfigError)
    assert "expected --resume FOLDER with --extend" in str(result.exception)


def test_killed_while_it_goes_on_it_is_the_same(tmp_path: Path) -> None:
    start(tmp_path / "whole", "ase", ["npt:0.8ps"])
    start(tmp_path / "grown", "ase", ["npt:0.3ps"])
    run = MDRun.resume(tmp_path / "grown", make("ase", 60), settings={"extend": "500fs"})
    with pytest.raises(KilledError):
        run.run()
    MDRun.resume(tmp_path / "grown", make("ase")).run()  # it knows how long it is
    assert files(tmp_path / "grown") == files(tmp_path / "whole")


def test_replicas_are_extended_alike(tmp_path: Path) -> None:
    options: dict[str, Any] = {"temperature": [80, 100], "replicas": 4, "pressure_interval": 3}
    for name, stages in (("whole", ["nvt:0.06ps", "npt:0.12ps"]), ("grown", ["nvt:0.06ps"])):
        made = replica_config(tmp_path / name, stages, **options)
        ReplicaRun.start(made, boxes()[:1], calculator()).run()
    for by in ("npt:0.08ps", "40fs"):
        ReplicaRun.resume(tmp_path / "grown", calculator(), settings={"extend": by}).run()
    assert replica_outputs(tmp_path / "grown") == replica_outputs(tmp_path / "whole")


def test_what_was_edited_in_config_yaml_is_asked_for(tmp_path: Path) -> None:
    start(tmp_path / "whole", "ase", ["nvt:0.2ps"])
    start(tmp_path / "run", "ase", ["nvt:0.1ps"])
    config = tmp_path / "run/config.yaml"
    text = config.read_text()
    config.write_text(text.replace("temperature: 90.0", "temperature: 600.0"))
    with pytest.raises(ConfigError, match=r"temperature 90\.0, got 600\.0"):
        MDRun.resume(tmp_path / "run", make("ase"))
    config.write_text(text.replace("nvt:0.1ps", "nvt:200fs"))
    MDRun.resume(tmp_path / "run", make("ase")).run()
    assert files(tmp_path / "run") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"time": "1ps"}, r"expected stages of the run \(npt:0.1ps, nvt:0.1ps; .*--extend"),
        ({"ensemble": "nve"}, r"expected stages of the run"),
        ({"stages": ["npt:0.2ps", "nvt:0.1ps"]}, r"stages \['npt:0.1ps'.*got \['npt:0.2ps'"),
        ({"stages": ["npt:0.1ps", "nvt:0.05ps"]}, "stages"),
        ({"stages": ["npt:0.1ps"]}, "stages"),
        ({"extend": "10"}, "a positive time with its unit"),
        ({"extend": "nvtt:1ps"}, "ENSEMBLE:TIME"),
        ({"extend": "1ps", "time": "2ps"}, "either extend or other lengths"),
    ],
)
def test_what_no_run_can_become(tmp_path: Path, asked: dict[str, Any], message: str) -> None:
    start(tmp_path, "ase", ["npt:0.1ps", "nvt:0.1ps"])
    with pytest.raises(ConfigError, match=message):
        MDRun.resume(tmp_path, make("ase"), settings=asked)


def test_a_run_of_an_older_version_says_what_it_lacks(tmp_path: Path) -> None:
    start(tmp_path, "ase", ["npt:0.1ps"])
    checkpoint = load_checkpoint(tmp_path / "checkpoint.npz")
    checkpoint.integrator = {}
    save_checkpoint(tmp_path / "checkpoint.npz", checkpoint)
    with pytest.raises(SimulationError, match="add a stage, such as --extend nvt:10ps"):
        MDRun.resume(tmp_path, make("ase"), settings={"extend": "1ps"}).run()
    assert MDRun.resume(tmp_path, make("ase"), settings={"extend": "nvt:40fs"}).run()["steps"] == 35


def test_stages_of_other_spellings() -> None:
    assert extend_stages(["npt:1ps", "nvt:0.5ps"], "0.5 ps") == ["npt:1ps", "nvt:1000fs"]
    assert goes_on(["npt:1ps", "nvt:500fs"], ["npt:1000fs", "nvt:0.5ps", "nve:1ps"], 0.5)
    assert not goes_on(["npt:1ps"], [], 0.5)
    assert not goes_on(["npt:1ps"], ["nvt:1ps"], 0.5)
