"""`hff md` on the batched engine: the same folder, messages and exact restart as with ASE's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read
from killing import kill_again_and_again
from toy_engine import LennardJones, moving, toy_calculator
from toy_md import ListedLennardJones, argon, settings

from hff_ase.calculators import HybridFF
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.engine.interface import choose_engine
from hff_ase.dynamics.engine.torch.torch_engine import TorchEngine
from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.reporters.statistics import read_statistics, stage_averages
from hff_ase.dynamics.simulation.checkpoint import load_checkpoint
from hff_ase.errors import ConfigError, SimulationError
from hff_ase.potential import HybridPotential

COMPARED = ("statistics.dat", "trajectory.extxyz", "final.extxyz")
PROGRAM = Path(__file__).with_name("toy_engine.py")
STAGED = ["npt:0.4ps", "nvt:0.4ps", "nvt-nhc:0.4ps", "nve:0.2ps"]


class KilledError(Exception):
    """Stands in for a power cut."""


class BreaksAt(LennardJones):
    """Goes wrong from one evaluation on."""

    def __init__(self, call: int, how: str) -> None:
        super().__init__()
        self.call, self.how = call, how

    def forward(self, batch, neighbors, fields):
        energies = super().forward(batch, neighbors, fields)
        if self.n_calls < self.call:
            return energies
        if self.how == "kill":
            raise KilledError
        if self.how == "nan":
            return energies * torch.nan
        kick = torch.zeros_like(batch.positions)
        kick[17, 0] = 300.0 if self.how == "kick" else 60.0
        return energies - (kick * batch.positions).sum(-1)


def calculator(term: LennardJones | None = None) -> HybridFF:
    return toy_calculator(term, skin=0.5)


def run(folder: Path, stages: list[str], calc: HybridFF | None = None, **options) -> MDRun:
    config = settings(str(folder), stages, engine="torch", **options)
    return MDRun.start(config, argon(), calc or calculator())


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in COMPARED}


def test_folder_is_that_of_the_other_engine(tmp_path):
    names = {}
    for engine in ("ase", "torch"):
        config = settings(str(tmp_path / engine), STAGED, engine=engine, trajectory_forces=True)
        summary = MDRun.start(config, argon(), calculator()).run()
        assert summary["config"]["engine"] == engine
        table = read_statistics(tmp_path / engine / "statistics.dat")
        frames = read(tmp_path / engine / "trajectory.extxyz", ":")
        names[engine] = (
            sorted(path.name for path in (tmp_path / engine).iterdir()),
            list(table),
            table["step"].tolist(),
            table["stage"].tolist(),
            [frame.info["step"] for frame in frames],
            [sorted(frame.calc.results) for frame in frames],
        )
        last = frames[-2]
        check = last.copy()
        check.calc = calculator()
        assert np.allclose(check.get_forces(), last.get_forces(), atol=1e-6)
        row = int(np.flatnonzero(table["step"] == last.info["step"])[0])
        stress = check.get_stress(voigt=False)
        kinetic = table["kinetic[eV]"][row]
        expected = (2 * kinetic / 3 / last.get_volume() - stress.trace() / 3) / 6.241509e-7
        assert table["pressure[bar]"][row] == pytest.approx(expected, rel=1e-5, abs=0.1)
        assert table["toy[eV]"][row] == pytest.approx(table["potential[eV]"][row])
    assert names["ase"] == names["torch"]
    first = [(tmp_path / engine / "input.extxyz").read_bytes() for engine in names]
    assert first[0] == first[1]
    drift = read_statistics(tmp_path / "torch" / "statistics.dat")
    for stage in range(1, 5):  # Langevin dynamics too: its heat is accounted for
        inside = drift["stage"] == stage
        conserved, kinetic = drift["conserved[eV]"][inside], drift["kinetic[eV]"][inside]
        assert np.ptp(conserved) < 0.05 * np.ptp(kinetic)


def test_every_moment_resumes_exactly(tmp_path):
    run(tmp_path / "whole", STAGED).run()
    expected = outputs(tmp_path / "whole")
    killed = run(tmp_path / "cut", STAGED, calculator(BreaksAt(6, "kill")))
    for calls in (40, 95, 70, 90, 60):
        with pytest.raises(KilledError):
            killed.run()
        killed = MDRun.resume(tmp_path / "cut", calculator(BreaksAt(calls, "kill")))
    MDRun.resume(tmp_path / "cut", calculator()).run()
    assert outputs(tmp_path / "cut") == expected
    often = settings(str(tmp_path / "often"), STAGED, engine="torch", checkpoint_interval=1)
    MDRun.start(often, argon(), calculator()).run()
    assert outputs(tmp_path / "often") == expected


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    stages = "npt:2ps,nvt:2ps"
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROGRAM.parents[1]),
        "NUMBA_NUM_THREADS": "1",
    }

    def launch(folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), stages], env=environment
        )

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert launch(whole).wait() == 0
    hits = kill_again_and_again(lambda: launch(killed), killed, whole, 3)
    assert hits >= 2
    assert outputs(killed) == outputs(whole)


def test_blocks_write_the_same_files(tmp_path, monkeypatch):
    run(tmp_path / "one", STAGED).run()
    made = TorchEngine.__init__
    monkeypatch.setattr(
        TorchEngine, "__init__", lambda self, *arguments: made(self, *arguments, block=9)
    )
    run(tmp_path / "nine", STAGED).run()
    assert outputs(tmp_path / "one") == outputs(tmp_path / "nine")


@pytest.mark.parametrize("block", [1, 9])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", r"run stopped after step \d+: expected a finite energy .*atom 0"),
        ("kick", r"run stopped after step 2\d: atom 17 \(Ar\) moved .* A in one step"),
        ("push", r"run stopped after step 2\d: the temperature is \d+ K .*atom 17 \(Ar\)"),
    ],
)
def test_blow_up_names_the_atom(tmp_path, monkeypatch, how, message, block):
    made = TorchEngine.__init__
    monkeypatch.setattr(
        TorchEngine, "__init__", lambda self, *arguments: made(self, *arguments, block=block)
    )
    options = {"minimize": False, "timestep": 1.0}
    options["max_temperature"] = 200.0 if how == "push" else 1e6
    options["max_displacement"] = 0.05 if how == "kick" else 8.0
    broken = run(tmp_path, ["nve:0.1ps"], calculator(BreaksAt(24, how)), **options)
    with pytest.raises(SimulationError, match=message) as error:
        broken.run()
    assert "\n" not in str(error.value)
    assert len(read(tmp_path / "failed.extxyz")) == 108


def test_barostat_reaches_its_pressure(tmp_path):
    options = {"pressure": 5000, "temperature": 300, "pdamp": 400, "statistics_interval": 1}
    config = settings(str(tmp_path), ["npt:10ps"], engine="torch", **options)
    MDRun.start(config, argon(2), toy_calculator()).run()
    averages = stage_averages(read_statistics(tmp_path / "statistics.dat"), 1)["averages"]
    for name, target in (("pressure[bar]", 5000), ("temperature[K]", 300)):
        mean, error = averages[name]["mean"], averages[name]["error"]
        assert error < 0.12 * target
        assert abs(mean - target) < 4 * error


def test_molecule_in_vacuum(tmp_path):
    atoms = Atoms("Ar4", [[0, 0, 0], [3.8, 0, 0], [0, 3.8, 0], [0, 0, 3.8]])
    config = settings(str(tmp_path), ["nvt:0.2ps"], engine="torch", temperature=20.0)
    MDRun.start(config, atoms, toy_calculator()).run()
    assert "density" not in (tmp_path / "statistics.dat").read_text().splitlines()[0]
    assert not read(tmp_path / "final.extxyz").pbc.any()


def test_engines_are_chosen_by_the_calculator(tmp_path):
    config = MDConfig(time="1ps")
    assert choose_engine(config, toy_calculator()).engine == "torch"
    assert choose_engine(config, ListedLennardJones()).engine == "ase"
    assert choose_engine(MDConfig(time="1ps", seed=2**40), toy_calculator()).engine == "ase"
    wanted = settings(str(tmp_path / "a"), ["nvt:0.1ps"], engine="torch")
    with pytest.raises(ConfigError, match="expected a HybridFF for the torch engine, got Listed"):
        MDRun.start(wanted, argon(), ListedLennardJones())
    with pytest.raises(ConfigError, match=r"seed below 2\^32"):
        MDConfig(time="1ps", engine="torch", seed=2**40)
    with pytest.raises(ConfigError, match=r"engine: .*'gpu'"):
        MDConfig(time="1ps", engine="gpu")


def test_resume_keeps_the_engine(tmp_path):
    broken = run(tmp_path, ["nvt:0.4ps"], calculator(BreaksAt(60, "kill")))
    with pytest.raises(KilledError):
        broken.run()
    with pytest.raises(ConfigError, match="engine 'torch', got 'ase'"):
        MDRun.resume(tmp_path, calculator(), settings={"engine": "ase"})
    with pytest.raises(ConfigError, match="expected a HybridFF"):
        MDRun.resume(tmp_path, ListedLennardJones())
    checkpoint = load_checkpoint(tmp_path / "checkpoint.npz")
    assert {"positions", "cell"} <= set(checkpoint.calculator)
    MDRun.resume(tmp_path, calculator(), settings={"engine": "auto"}).run()


def test_noise_follows_the_seed(tmp_path):
    ends = []
    for seed in (0, 0, 1):
        options = {"velocities": "file", "minimize": False, "seed": seed}
        config = settings(str(tmp_path), ["nvt:0.1ps"], engine="torch", **options)
        MDRun.start(config, moving(argon(), 90), calculator(), force=True).run()
        ends.append(read(tmp_path / "final.extxyz").positions)
    assert np.array_equal(ends[0], ends[1])
    assert not np.allclose(ends[0], ends[2], atol=1e-3)


def test_a_model_without_a_cell_term_still_needs_its_elements():
    calc = HybridFF(HybridPotential({"toy": LennardJones()}, ("H",)))
    with pytest.raises(ValueError, match="model knows H; structure holds Ar"):
        TorchEngine(argon(), settings("md", ["nvt:0.1ps"], engine="torch"), calc, {})
