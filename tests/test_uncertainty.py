"""Estimates of the error of forces during a run, by a model and its companion."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase.io import read
from conftest import make_potential, salt_box, water

from hff_ase import HybridFF
from hff_ase.checkpoint import ModelInfo, save_model
from hff_ase.domain import Companion, Domain, domain_of
from hff_ase.domain_json import domain_from_dict, domain_to_dict
from hff_ase.dynamics.build import find_solvent
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.replicas import ReplicaConfig, ReplicaRun
from hff_ase.errors import ConfigError, HFFWarning, OutsideDomainWarning
from hff_ase.model_file import write_domain

EVERY, FACTOR = 4, 1.7
KNOWN = domain_of([salt_box()])


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with other weights."""
    path = tmp_path_factory.mktemp("companion") / "other.hff"
    potential = make_potential(1)
    save_model(path, potential, ModelInfo("other"), [water(), salt_box()])
    return path


def with_companion(folder: Path, small: Path, name: str, threshold: float = 1e-6) -> Path:
    """A copy of the small model whose domain names a companion."""
    path = folder / f"with-{Path(name).stem}.hff"
    shutil.copyfile(small, path)
    companion = Companion(name, FACTOR, threshold)
    write_domain(path, Domain(KNOWN.molecules, companion=companion))
    return path


def settings(model: Path, folder: Path, **more: Any) -> dict[str, Any]:
    quiet = {"minimize": False, "plot": False, "progress": False, "bond_watch": "off"}
    often = {"timestep": 0.02, "uncertainty_interval": EVERY, "trajectory_interval": EVERY}
    often |= {"trajectory_forces": True, "temperature": 20.0}
    often |= {"max_temperature": 1e9, "max_displacement": 10.0}  # weights are random
    return {**quiet, **often, "model": str(model), "output": str(folder), **more}


def single(model: Path, folder: Path, time: str = "0.4fs", **more: Any) -> MDRun:
    return MDRun.start(MDConfig(**settings(model, folder, time=time, **more)), salt_box())


def test_rows_are_the_factor_times_the_spread(
    tmp_path: Path, small_model_path: Path, other: Path
) -> None:
    model = with_companion(tmp_path, small_model_path, str(other))
    summary = single(model, tmp_path / "run").run()
    frames = read(tmp_path / "run" / "trajectory.extxyz", ":")[1:]
    companion = HybridFF.load(other)
    expected = []
    for atoms in frames:
        forces = companion.evaluate([atoms])[0]["forces"]
        expected.append(FACTOR * np.linalg.norm(atoms.get_forces() - forces, axis=1) / 2)
    rows = np.loadtxt(tmp_path / "run" / "uncertainty.dat")
    assert rows[:, 0].tolist() == [4, 8, 12, 16, 20]
    np.testing.assert_allclose(rows[:, 3], [e.mean() for e in expected], rtol=1e-4)
    np.testing.assert_allclose(rows[:, 4], [e.max() for e in expected], rtol=1e-4)
    assert rows[:, 5].tolist() == [e.argmax() for e in expected]
    told = summary["uncertainty"]
    assert told["force_error[eV/A]"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert (told["looks"], told["above_threshold"]) == (5, 5)
    assert yaml.safe_load((tmp_path / "run" / "summary.yaml").read_text())["uncertainty"] == told
    log = (tmp_path / "run" / "md.log").read_text()
    assert log.count("the forces are uncertain by") == 1  # said once


def test_below_the_threshold_nothing_is_told(
    tmp_path: Path, small_model_path: Path, other: Path
) -> None:
    model = with_companion(tmp_path, small_model_path, str(other), threshold=1e6)
    summary = single(model, tmp_path / "run").run()
    assert summary["uncertainty"]["above_threshold"] == 0
    assert "uncertain" not in (tmp_path / "run" / "md.log").read_text()


def test_a_run_made_longer_has_the_rows_of_the_long_one(
    tmp_path: Path, small_model_path: Path, other: Path
) -> None:
    model = with_companion(tmp_path, small_model_path, str(other))
    single(model, tmp_path / "grown", "0.2fs").run()
    grown = MDRun.resume(tmp_path / "grown", settings={"extend": "0.2fs"}).run()
    whole = single(model, tmp_path / "whole", "0.4fs").run()
    name = "uncertainty.dat"
    assert (tmp_path / "grown" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert grown["uncertainty"] == whole["uncertainty"]


def test_the_trajectory_does_not_depend_on_it(
    tmp_path: Path, small_model_path: Path, other: Path
) -> None:
    model = with_companion(tmp_path, small_model_path, str(other))
    single(model, tmp_path / "with").run()
    summary = single(model, tmp_path / "without", uncertainty_interval=0).run()
    assert "uncertainty" not in summary
    assert not (tmp_path / "without" / "uncertainty.dat").exists()
    for name in ("trajectory.extxyz", "statistics.dat"):
        one, two = (tmp_path / folder / name for folder in ("with", "without"))
        assert one.read_bytes() == two.read_bytes()


def test_every_replica_has_its_rows(tmp_path: Path, small_model_path: Path, other: Path) -> None:
    model = with_companion(tmp_path, small_model_path, str(other))
    config = ReplicaConfig.load(settings(model, tmp_path / "run", time="0.2fs", replicas=3))
    summary = ReplicaRun.start(config, [salt_box()]).run()
    rows = np.loadtxt(tmp_path / "run" / "uncertainty.dat")
    assert rows[:, 2].tolist() == [0, 1, 2] * 2
    assert len(set(rows[:3, 3])) == 3  # other momenta, other forces
    assert summary["uncertainty"]["looks"] == 6
    config = settings(model, tmp_path / "long", time="0.4fs", replicas=3)
    ReplicaRun.start(ReplicaConfig.load(config), [salt_box()]).run()
    ReplicaRun.resume(tmp_path / "run", settings={"extend": "0.2fs"}).run()
    one, two = (tmp_path / folder / "uncertainty.dat" for folder in ("run", "long"))
    assert one.read_bytes() == two.read_bytes()


def test_a_companion_that_is_not_there_is_said(tmp_path: Path, small_model_path: Path) -> None:
    model = with_companion(tmp_path, small_model_path, "no-such-model")
    summary = single(model, tmp_path / "run").run()
    assert "uncertainty" not in summary
    assert "no estimate of the error of forces" in (tmp_path / "run" / "md.log").read_text()


def test_a_model_without_a_term_is_not_compared(
    tmp_path: Path, small_model_path: Path, other: Path
) -> None:
    model = with_companion(tmp_path, small_model_path, str(other))
    with pytest.warns(HFFWarning, match="left out coulomb"):
        run = single(model, tmp_path / "run", without=("coulomb",))
    assert "uncertainty" not in run.run()


def test_companions_in_files() -> None:
    domain = Domain(KNOWN.molecules, companion=Companion("other", 1.5, 0.1))
    assert domain_from_dict(domain_to_dict(domain)).companion == domain.companion
    assert domain_from_dict(domain_to_dict(KNOWN)).companion is None
    assert domain.joined(KNOWN).companion is None
    for change in ({"factor": -1.0}, {"threshold": "much"}, {"model": None}):
        content = domain_to_dict(domain)
        content["companion"] |= change
        with pytest.raises(ConfigError, match="model, factor and threshold of a companion"):
            domain_from_dict(content)


def test_the_shipped_companion_tells_taught_molecules_from_others() -> None:
    """Single molecules: the estimate is below the threshold for what was taught, else above."""
    model = HybridFF.load("electrolyte")
    about = model.info.domain.companion if model.info.domain else None
    assert about is not None
    companion = HybridFF.load(about.model)
    taught = ("EC", "PC", "DMC", "EMC", "DEC", "EA", "ethanol", "acetone")
    others = ("DME", "GBL", "sulfolane", "TEP", "acetonitrile", "water", "DOL")
    structures = [find_solvent(name).atoms() for name in (*taught, *others)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideDomainWarning)
        both = [calc.evaluate(structures) for calc in (model, companion)]
    for name, one, other in zip((*taught, *others), *both, strict=True):
        error = about.factor * np.linalg.norm(one["forces"] - other["forces"], axis=1).mean() / 2
        assert (error < about.threshold) == (name in taught), (name, error)
