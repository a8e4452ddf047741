"""Equilibration: what the protocol does, when it ends, and what it says."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from ase import Atoms
from ase.io import read
from killing import kill_again_and_again
from synthetic import series_of
from toy_equilibration import boxes, calculator, ions, start
from toy_replicas import DiesAt, KilledError
from typer.testing import CliRunner

from hff_ase.cli.equilibrate import equilibrate
from hff_ase.dynamics.build import build_box, compose, parse_recipe
from hff_ase.dynamics.equilibration import (
    EquilibrationConfig,
    EquilibrationRun,
    UnsettledError,
    corridor,
    judge,
    shells,
)
from hff_ase.dynamics.equilibration.equilibration_run import real_masses
from hff_ase.dynamics.equilibration.groups import expected_density, measured_density
from hff_ase.dynamics.equilibration.verdict import DENSITY, POTENTIAL
from hff_ase.dynamics.replicas import ReplicaConfig, ReplicaRun
from hff_ase.dynamics.reporters import read_statistics
from hff_ase.dynamics.start.masses import repartition
from hff_ase.errors import ConfigError, HFFWarning, SimulationError
from hff_ase.structures import mass_density

PROGRAM = Path(__file__).with_name("toy_equilibration.py")


def kept_files(folder: Path) -> dict[str, bytes]:
    names = ("statistics.dat", "trajectory.extxyz", "final.extxyz")
    found = {str(path.relative_to(folder)): path for path in folder.glob("replica-*/*")}
    found = {name: path for name, path in found.items() if path.name in names}
    return {
        name: path.read_bytes() for name, path in found.items() | {("v", folder / "verdict.yaml")}
    }


# --- whole runs ----------------------------------------------------------------------------


def test_two_starts_come_to_one_density(tmp_path):
    run = start(tmp_path / "run")
    summary = run.run()
    (state,) = summary["states"].values()
    assert state["settled"]
    first, second = state["densities_of_boxes[g/cm^3]"]
    assert abs(first / second - 1) < 0.02
    assert abs(mass_density(boxes()[1]) / first - 1) > 0.05  # far from where it began
    for k in (0, 1):
        rows = read_statistics(tmp_path / f"run/replica-00{k}/statistics.dat")
        hot = rows["temperature[K]"][(rows["stage"] == 1) & (rows["time[ps]"] > 0.3)]
        assert 105 < hot.mean() < 165  # half as hot again as 90 K
        volume = rows["volume[A^3]"]
        held = rows["stage"] <= 4
        assert np.ptp(volume[held]) < 1e-6 * volume[0]
        assert np.ptp(volume[~held]) > 0
    run.write_ready(tmp_path / "ready.extxyz")
    ready = read(tmp_path / "ready.extxyz", ":")
    assert [len(one) for one in ready] == [32, 32]
    assert ready[0].has("momenta")


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    start(tmp_path / "whole").run()

    def launch() -> subprocess.Popen[bytes]:
        root = PROGRAM.parents[1]
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(PROGRAM), str(tmp_path / "killed")]
        return subprocess.Popen(command, env=environment, cwd=root)

    assert kill_again_and_again(launch, tmp_path / "killed", tmp_path / "whole", 1) == 1
    assert kept_files(tmp_path / "killed") == kept_files(tmp_path / "whole")


def test_cut_in_every_phase(tmp_path):
    """It dies minimising, hot, cooling and under pressure, after so many evaluations each."""
    start(tmp_path / "whole").run()
    run = start(tmp_path / "cut", calc=calculator(DiesAt(4)))
    for call in (60, 120, 150, 150, None):
        with pytest.raises(KilledError):
            run.run()
        run = EquilibrationRun.resume(tmp_path / "cut", calculator(call and DiesAt(call)))
    run.run()
    assert kept_files(tmp_path / "cut") == kept_files(tmp_path / "whole")


def test_unsettled_says_how_much_longer_and_goes_on(tmp_path):
    with pytest.raises(
        UnsettledError, match=r"settled after 0.6ps.*likely needs .* --max-time"
    ) as told:
        start(tmp_path / "run", soft="0.4ps", max_time="0.6ps").run()
    # a run that this is a stage of has another command to go on with
    assert "hff equilibrate" not in told.value.why
    assert str(told.value).endswith(f"--max-time {told.value.longer}")
    assert UnsettledError.exit_code == 3
    with pytest.raises(ConfigError, match="got temperature"):
        EquilibrationRun.resume(tmp_path / "run", calculator(), settings={"temperature": 1})
    longer = EquilibrationRun.resume(tmp_path / "run", calculator(), settings={"max_time": "80ps"})
    assert longer.run()["states"]
    start(tmp_path / "whole", soft="0.4ps").run()
    assert kept_files(tmp_path / "run") == kept_files(tmp_path / "whole")


def test_a_boiling_box_is_left_behind_and_the_cause_named(tmp_path):
    """One box at a temperature where the toy is a gas; the other goes on."""
    options = {"temperature": [90.0, 400.0], "pressure": 1.0, "hot": "0.4ps", "hot_max": "0.4ps"}
    run = start(tmp_path / "run", boxes()[:1], heat=1.0, soft_pdamp=800.0, **options)
    with pytest.warns(HFFWarning, match=r"replica 1 .*it (boils at 400 K|explodes)"):
        summary = run.run()
    assert [name.endswith("90 K") for name in summary["states"]] == [True]
    assert (
        "left" in yaml.safe_load((tmp_path / "run/replica-001/summary.yaml").read_text())["reason"]
    )


def test_the_hot_phase_waits_for_the_shells(tmp_path, monkeypatch):
    monkeypatch.setitem(shells.REACH, "Li", 4.3)
    cold = {"temperature": 10.0, "heat": 1.0, "max_time": "2.6ps", "hot": "0.8ps"}
    cold["hot_max"] = "2.4ps"
    with pytest.raises(UnsettledError, match="first shell: O"):
        start(tmp_path / "solid", [ions()], **cold).run()
    rows = read_statistics(tmp_path / "solid/replica-000/statistics.dat")
    assert rows["time[ps]"][rows["stage"] == 1].max() == pytest.approx(2.4)
    warm = cold | {"temperature": 200.0, "heat": 3.0, "hot_max": "16ps", "cool": "2ps"}
    with contextlib.suppress(UnsettledError):
        start(tmp_path / "hot", [ions()], **warm, pressure=3000.0).run()
    rows = read_statistics(tmp_path / "hot/replica-000/statistics.dat")
    assert rows["time[ps]"][rows["stage"] == 1].max() < 16


def test_boxes_with_cations_are_made_hotter(tmp_path):
    for name, box, heat in (("ions", ions(), 2.0), ("argon", boxes()[0], 1.5)):
        start(tmp_path / name, [box])
        again = EquilibrationRun.resume(tmp_path / name, calculator())
        assert again.config.protocol.heat == heat
        assert again.config.protocol.phases[0].heat == heat


# --- its parts -----------------------------------------------------------------------------


def test_settings_round_trip():
    config = EquilibrationConfig.load(
        {"structure": ["a.xyz", "b.xyz"], "model": "m", "hot": "4ps", "replicas": 4}
    )
    again = EquilibrationConfig.load(config.resolved())
    assert again.resolved() | {"pressure": 1.0} == config.resolved()
    assert again.protocol == config.protocol
    assert config.replicas.shared.hydrogen_mass == 3.0
    for wrong, message in (
        ({"ensemble": "nvt"}, "no ensemble for an equilibration"),
        ({"heat": 0.5}, "heat: expected at least 1"),
        ({"hot": "150ps"}, "hot_max of at least 150ps"),
        ({"soft": "300ps"}, "max_time above soft"),
        ({"lowest": 1.1}, "lowest: expected less than 1"),
        ({"soft_pdamp": 50.0}, "pdamp of at least"),
    ):
        with pytest.raises(ConfigError, match=message):
            EquilibrationConfig.load({"model": "m", **wrong})


def test_shells_of_a_box_made_by_hand():
    """Four O around Li, one of them across the boundary, and F of an anion out of reach."""
    around = [[2, 0, 0], [-2, 0, 0], [0, 2.7, 0], [0, 0, 2.0], [0, 0, -2.9], [0, 3.5, 3.5]]
    atoms = Atoms("LiO4OF", positions=[[0, 0, 0], *around], cell=[10] * 3, pbc=True)
    atoms.positions += 1.0
    atoms.wrap()
    atoms.set_array("molecule", np.array([0, 1, 2, 2, 3, 4, 5]))
    assert shells.composition(atoms) == {"F": 0.0, "O": 4.0}
    atoms.info["molecules"] = ["Li", "EC", "DMC", "EC", "EC", "PF6"]
    assert shells.composition(atoms) == {"DMC": 2.0, "EC": 2.0, "PF6": 0.0}
    (shell,) = shells.members(atoms)
    assert shell == {1, 2, 3}
    assert shells.kept([[1, 2, 4]], [shell]) == pytest.approx(2 / 3)


def test_judge_on_synthetic_boxes():
    rng = np.random.default_rng(0)
    n, interval = 12000, 0.02
    still = list(1.2 + 0.01 * series_of(lambda t: np.exp(-t / 20.0), n, 2, rng))
    energy = list(-5.0 + 0.1 * series_of(lambda t: np.exp(-t / 5.0), n, 2, rng))
    relaxing = [one - 0.1 * np.exp(-np.arange(n) / 200) for one in still]
    good = judge({DENSITY: relaxing, POTENTIAL: energy}, interval)
    assert good.settled
    assert 2.0 < good.start < 120.0
    assert abs(good.density.value - 1.2) < 4 * good.density.error
    shifted = [still[0], still[1] + 0.02]
    bad = judge({DENSITY: shifted, POTENTIAL: energy}, interval)
    assert not bad.settled
    assert bad.needs > bad.length
    assert list(bad.reasons) == [f"{DENSITY}: {bad.found[DENSITY].reason}"]
    drifting = [one + 0.05 * np.arange(n) / n for one in still]
    assert not judge({DENSITY: drifting, POTENTIAL: energy}, interval).settled
    short = judge({DENSITY: relaxing, POTENTIAL: energy}, interval, least=good.length)
    assert not short.settled
    assert f"{good.length:g} ps are asked for" in short.reasons[0]
    assert short.needs == pytest.approx(short.start + short.length)
    packed = judge({DENSITY: still, POTENTIAL: energy}, interval, packed=0.75)
    assert not packed.settled
    assert packed.needs == pytest.approx(packed.length * np.log(0.5) / np.log(0.75))
    assert (
        judge({DENSITY: still, "first shell: F": [still[0] * 0, still[1] * 0 + 1]}, interval).needs
        == np.inf
    )
    seldom = [one[::10] for one in still]
    assert judge({DENSITY: still, "first shell: EC": seldom}, interval).settled


def test_the_cause_of_leaving_the_corridor():
    calm = {"temperature[K]": 300.0, "pressure[bar]": 20.0}
    ask = {"limits": (0.9, 1.5), "asked": (300.0, 1.0)}
    for density, recent, n_broken, word in (
        (0.8, calm, 0, "boils at 300 K and 1 bar"),
        (0.8, {**calm, "pressure[bar]": 4000.0}, 0, "explodes, driven by 4000 bar"),
        (0.8, {**calm, "temperature[K]": 900.0}, 0, "runs hot, 900 K for 300 K"),
        (0.8, calm, 3, "3 bonds are broken"),
        (1.6, calm, 0, "collapses"),
    ):
        assert word in corridor.cause(density, recent=recent, n_broken=n_broken, **ask)


def test_broken_bonds():
    box = build_box("DMC", 60, seed=1)
    bonds = corridor.bonds_of(box)
    n_molecules = box.info["composition"]["DMC"]
    assert len(bonds[0]) == 11 * n_molecules  # of twelve atoms, no ring
    assert corridor.broken(box, bonds) == 0
    box.positions[np.flatnonzero(box.numbers == 1)[0]] += 2.0
    assert corridor.broken(box, bonds) == 1


def test_densities_to_compare_with():
    box = build_box("DMC", 60, density=0.9, seed=1)
    assert expected_density(box) == compose(parse_recipe("DMC"), len(box)).density
    del box.info["recipe"]
    assert expected_density(box) == pytest.approx(0.9)
    density, source = measured_density(box, 298.0) or (0.0, "")
    assert (density, "ByteFF" in source) == (1.0636, True)
    assert measured_density(box, 330.0) is None


def test_masses_are_real_again():
    box = build_box("DMC", 60, seed=1)
    heavy = box.copy()
    heavy.set_masses(repartition(heavy, 3.0))
    rng = np.random.default_rng(0)
    heavy.set_momenta(rng.normal(size=(len(box), 3)) * np.sqrt(heavy.get_masses())[:, None])
    light = real_masses(heavy)
    assert np.allclose(light.get_masses(), box.get_masses())
    assert np.abs(light.get_momenta().sum(axis=0)).max() < 1e-10
    assert light.get_kinetic_energy() == pytest.approx(heavy.get_kinetic_energy(), rel=0.05)


def test_command_line(tmp_path, small_model_path):
    app = typer.Typer()
    app.command()(equilibrate)
    runner = CliRunner()
    for arguments, message in (
        ([], "expected a packed box"),
        (["--resume", "x", "--force"], "without structures and --force"),
        (["--resume", str(tmp_path)], "expected a run in"),
        (["a.xyz", "-o", "b.txt"], "ends in .extxyz"),
    ):
        result = runner.invoke(app, arguments)
        assert isinstance(result.exception, ConfigError | SimulationError)
        assert message in str(result.exception)
    result = runner.invoke(app, ["--help"], env={"COLUMNS": "120"})
    assert "--hot-max" in result.output


@pytest.mark.slow
def test_packed_boxes_do_not_expand(tmp_path):
    """The shipped model, four packings of DMC: denser than under a barostat from the start."""
    packed = [build_box("DMC", 96, seed=seed) for seed in range(1, 5)]
    shared = {"model": "electrolyte", "temperature": 298.15, "progress": False}
    phases = {"hot": "2ps", "hot_max": "2ps", "cool": "1.5ps", "soft": "2ps", "max_time": "3ps"}
    run = EquilibrationRun.start(
        EquilibrationConfig.load({**shared, **phases, "output": str(tmp_path / "run")}),
        packed,
    )
    with pytest.raises(UnsettledError, match="likely needs"):
        run.run()
    plain = {"output": str(tmp_path / "plain"), "time": "1.2ps", "ensemble": "npt"}
    ReplicaRun.start(ReplicaConfig.load({**shared, **plain}), packed).run()
    gentle, at_once = [], []
    for k in range(4):
        rows = read_statistics(tmp_path / f"run/replica-00{k}/statistics.dat")
        under = rows["stage"] >= 5
        gentle.append(rows[DENSITY][under].mean())
        assert rows["temperature[K]"][under].mean() == pytest.approx(298, abs=25)
        rows = read_statistics(tmp_path / f"plain/replica-00{k}/statistics.dat")
        at_once.append(rows[DENSITY][rows["time[ps]"] > 0.6].mean())
    print(f"densities, equilibrated: {gentle}, under a barostat at once: {at_once}")
    assert np.mean(gentle) > np.mean(at_once)
    assert abs(np.mean(gentle) / 1.0636 - 1) < 0.08
