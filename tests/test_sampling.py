"""Ensembles out of run folders, and the loops of align and calibrate around them."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from test_align import KELVIN, calculator, density, ensemble
from test_reweighting import fluid
from toy_replicas import boxes, config
from toy_replicas import calculator as toy
from typer.testing import CliRunner

from hff_ase.calculators import HybridFF
from hff_ase.calculators.finetune.targets import Target
from hff_ase.checkpoint import ModelInfo
from hff_ase.cli import app
from hff_ase.dynamics.replicas import ReplicaRun
from hff_ase.dynamics.sampling.alignment_run import AlignmentRun
from hff_ase.dynamics.sampling.calibration_run import CalibrationRun
from hff_ase.dynamics.sampling.config import SamplingSettings
from hff_ase.dynamics.sampling.lookup import elements_of, with_reference
from hff_ase.dynamics.sampling.reading import read_ensembles, runs_in
from hff_ase.dynamics.sampling.sampler import states_of
from hff_ase.errors import ConfigError, HFFWarning
from hff_ase.training.fit_config import AlignSettings


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four replicas of argon, 0.08 ps heated at constant volume, then at constant pressure."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = {"temperature": [80], "pressure": [500], "replicas": 4, "trajectory_interval": 5}
    made = config(folder, ["nvt:0.08ps", "npt:0.6ps"], **options)
    named: list[Atoms] = [boxes()[0]]
    named[0].info["molecules"] = ["Ar"] * len(named[0])
    ReplicaRun.start(made, named, toy()).run()
    return folder


def test_ensembles_of_a_run(run_folder: Path) -> None:
    runs = list(runs_in(run_folder))
    assert [run.liquid for run in runs] == ["Ar"] * 4
    assert {(run.temperature, run.pressure) for run in runs} == {(80.0, 500.0)}
    assert runs[0].series["time[ps]"][0] >= 0.08 - 1e-9
    with pytest.raises(ConfigError, match="settled samples of Ar at 80 K"):
        read_ensembles([run_folder])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HFFWarning)
        (found,) = read_ensembles([run_folder], unsettled=True)
    assert found.pressure == 500.0
    assert len(np.unique(found.replica)) == 4
    assert found.interval > 0
    assert np.ptp(found.volumes) > 0
    with pytest.raises(ConfigError, match="folder of a run"):
        list(runs_in(run_folder / "replica-000"))


def test_targets_of_the_package() -> None:
    target = Target("DMC", "density", 298.15, float("nan"), float("nan"))
    (found,) = with_reference([target])
    assert found.value == pytest.approx(1.0636)
    assert found.source
    assert elements_of([target]) == {"DMC": ["C", "H", "O"]}
    with pytest.raises(ConfigError, match="reference data for density of EMC"):
        with_reference([replace(target, liquid="EMC")])
    states = states_of([target, replace(target, quantity="compressibility")])
    assert states == [("DMC", 298.15, 1.0)]
    with pytest.raises(ConfigError, match="unknown setting 'colour'"):
        SamplingSettings.load({"colour": 1})
    with pytest.raises(ConfigError, match="replicas: expected at least 2, got 1"):
        SamplingSettings.load({"replicas": 1})


def test_an_alignment_goes_on_in_its_folder(tmp_path: Path) -> None:
    samples = ensemble("H2O", 8.0)
    target = Target("H2O", "density", KELVIN, 1.003 * density(samples), 0.001)
    training = AlignSettings(steps=3, frames=4)
    run = AlignmentRun(calculator(), [target], tmp_path / "a", training=training,
                       ensembles=[samples])  # fmt: skip
    aligned = run.run()
    run.write(tmp_path / "new.hff")
    assert aligned.info.name == HybridFF.load(tmp_path / "new.hff").info.name == "small-aligned"
    assert "| H2O, 300 K |" in (tmp_path / "new.md").read_text()
    other = replace(target, value=1.01 * target.value)
    with pytest.raises(ConfigError, match=r"values of the alignment in .*got others"):
        AlignmentRun(calculator(), [other], tmp_path / "a", ensembles=[samples])
    foreign = replace(target, liquid="DMC", value=1.0)
    narrow = calculator()
    narrow.potential.elements = ("H", "O")
    with pytest.raises(ConfigError, match=r"elements of small \(H O\), got .*DMC.*holds C"):
        AlignmentRun(narrow, [foreign], tmp_path / "b", ensembles=[samples])


def test_a_calibration_leaves_its_files(tmp_path: Path, run_folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HFFWarning)
        samples = read_ensembles([run_folder], unsettled=True)
    calc = HybridFF(fluid(), ModelInfo("toy"), dtype="float64")
    target = Target("Ar", "density", 80.0, 1.001 * density(samples[0]), 0.01, 500.0)
    run = CalibrationRun(calc, [target], tmp_path, parameters=["attraction.scale"],
                         ensembles=samples)  # fmt: skip
    report = run.run()
    assert json.loads((tmp_path / "calibration.json").read_text())["chi2"] == report.chi2
    assert "attraction.scale" in report.as_dict()["parameters"]
    with pytest.raises(ConfigError, match="where this samples itself, got heat_of_vaporisation"):
        CalibrationRun(calc, [Target("DMC", "heat_of_vaporisation", 300.0, 30.0, 1.0)], tmp_path)


def test_the_commands(tmp_path: Path) -> None:
    for command in ("align", "calibrate", "conditioning"):
        shown = CliRunner().invoke(app, [command, "--help"])
        assert shown.exit_code == 0
        assert "--targets" in shown.output
    missing = tmp_path / "none.csv"
    arguments = ["align", "electrolyte", "--targets", str(missing), "-o", str(tmp_path / "a.hff")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ConfigError)
    assert "got no file" in str(result.exception)
