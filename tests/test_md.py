"""Molecular dynamics: ensembles, settings, what stops a run, and what it leaves behind."""

from __future__ import annotations

import numpy as np
import pytest
import typer
import yaml
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read, write
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from conftest import salt_box
from toy_md import ListedLennardJones, argon, settings
from typer.testing import CliRunner

from hff_ase.cli.md import md
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.engine.ase.ase_integrator import ASEIntegrator
from hff_ase.dynamics.engine.ase.ase_internals import refuse_other_ase
from hff_ase.dynamics.engine.momenta import random_momenta, temperature
from hff_ase.dynamics.guards.checks import check_contacts
from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.observables.block_average import block_average
from hff_ase.dynamics.reporters.statistics import read_statistics, stage_averages
from hff_ase.errors import ConfigError, SimulationError, StructureError
from hff_ase.settings import parse_time
from hff_ase.structures import mass_density
from hff_ase.units import BAR


class Springs(Calculator):
    """Every atom on its own spring (eV/A^2), pulled back in pairs so that momentum is conserved."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, sites: np.ndarray, stiffness: float = 2.0) -> None:
        super().__init__()
        self.sites, self.stiffness = sites, stiffness

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        offset = atoms.positions - self.sites
        offset = offset - offset.mean(axis=0)
        self.results = {
            "energy": 0.5 * self.stiffness * float(np.sum(offset**2)),
            "forces": -self.stiffness * offset,
        }


class BreaksAt(ListedLennardJones):
    """Goes wrong at one evaluation."""

    def __init__(self, call: int, how: str) -> None:
        super().__init__()
        self.call, self.how = call, how

    def calculate(self, *args, **options) -> None:
        super().calculate(*args, **options)
        if self.n_calls == self.call:
            if self.how == "nan":
                self.results["forces"][17, 1] = np.nan
            elif self.how == "energy":
                self.results["energy"] = np.inf
            else:
                self.results["forces"][17] += [300, 0, 0]


def run(config: MDConfig, calc: Calculator | None = None, atoms: Atoms | None = None) -> dict:
    calc = calc or ListedLennardJones()
    return MDRun.start(config, atoms or argon(), calc).run()


# --- ensembles -----------------------------------------------------------------------------


def propagate(ensemble: str, atoms: Atoms, n_steps: int, **options: float) -> np.ndarray:
    """Kinetic energy, potential energy, conserved energy and volume at every step."""
    config = MDConfig(ensemble=ensemble, time="1ps", **options)
    rng = np.random.default_rng(11)
    atoms.set_momenta(random_momenta(atoms, config.temperature, rng))
    integrator = ASEIntegrator(ensemble, atoms, config, rng)
    atoms.get_forces()
    rows = []
    for _ in range(n_steps):
        integrator.step()
        kinetic, potential = atoms.get_kinetic_energy(), atoms.calc.results["energy"]
        conserved = integrator.conserved_energy(potential, kinetic)
        volume = atoms.get_volume() if atoms.pbc.all() else 1.0
        rows.append((kinetic, potential, conserved, volume))
    return np.array(rows)


def test_another_ase_is_refused_before_the_first_step():
    atoms = argon()
    dynamics = NoseHooverChainNVT(atoms, 1.0, 300.0, 100.0)
    refuse_other_ase(dynamics, "nvt-nhc")
    del dynamics._thermostat  # as a version without it
    with pytest.raises(SimulationError, match=r"expected ASE 3\.25 to .*no _thermostat\._eta"):
        refuse_other_ase(dynamics, "nvt-nhc")


@pytest.mark.parametrize("ensemble", ["nvt", "nvt-nhc"])
def test_equipartition(ensemble):
    """Kinetic and potential energy of springs: kT/2 for each of 3N - 3 modes, 4 atoms only."""
    rng = np.random.default_rng(1)
    atoms = Atoms("OHCF", positions=rng.random((4, 3)) * 5)
    calc = Springs(atoms.positions.copy())
    # different frequencies keep the chain ergodic
    atoms.calc = calc
    rows = propagate(ensemble, atoms, 12000, temperature=400, timestep=2.0, friction=10, tdamp=30)
    expected = 0.5 * 9 * units.kB * 400
    for series in rows[2000:, 0], rows[2000:, 1]:
        mean, error = block_average(series)
        assert error < 0.08 * expected
        assert abs(mean - expected) < 4 * error
    momentum = atoms.get_momenta().sum(axis=0)
    assert np.abs(momentum).max() < 1e-10


@pytest.mark.slow
def test_kinetic_energy_fluctuates_canonically():
    """Variance of the kinetic energy under Langevin: (3N - 3)/2 (kT)^2."""
    atoms = Atoms("OHCF", positions=np.random.default_rng(1).random((4, 3)) * 5)
    atoms.calc = Springs(atoms.positions.copy())
    rows = propagate("nvt", atoms, 12000, temperature=400, timestep=2.0, friction=20)
    variance = rows[1000:, 0].var()
    assert variance == pytest.approx(4.5 * (units.kB * 400) ** 2, rel=0.15)


@pytest.mark.parametrize(("ensemble", "order"), [("nve", 2), ("nvt-nhc", 2), ("npt", 2)])
def test_conserved_energy_drifts_less_with_a_smaller_step(ensemble, order):
    spread = []
    for timestep in (4.0, 2.0):
        atoms = argon()
        atoms.calc = ListedLennardJones()
        options = {"temperature": 60, "timestep": timestep, "pdamp": 500}
        rows = propagate(ensemble, atoms, round(400 / timestep), **options)
        spread.append(np.ptp(rows[:, 2]))
        assert spread[-1] < 0.05 * np.ptp(rows[:, 0])
    assert spread[0] / spread[1] > 0.6 * 2**order


@pytest.mark.slow  # ASE's; that of our engine is tested by default
def test_barostat_reaches_its_pressure(tmp_path):
    config = settings(
        str(tmp_path),
        ["npt:8ps"],
        pressure=5000,
        temperature=60,
        pdamp=400,
        statistics_interval=1,
        checkpoint_interval=10**6,
    )
    run(config, atoms=argon(2))
    statistics = read_statistics(tmp_path / "statistics.dat")
    averages = stage_averages(statistics, 1)["averages"]
    mean, error = averages["pressure[bar]"]["mean"], averages["pressure[bar]"]["error"]
    assert error < 500
    assert abs(mean - 5000) < 4 * error
    assert np.ptp(statistics["volume[A^3]"]) > 10


def test_random_momenta():
    atoms = argon(4)
    momenta = random_momenta(atoms, 300, np.random.default_rng(0))
    atoms.set_momenta(momenta)
    assert np.abs(momenta.sum(axis=0)).max() < 1e-10
    assert temperature(atoms.get_kinetic_energy(), atoms) == pytest.approx(300, rel=0.1)
    again = random_momenta(atoms, 300, np.random.default_rng(0))
    other = random_momenta(atoms, 300, np.random.default_rng(1))
    assert np.array_equal(momenta, again)
    assert not np.allclose(momenta, other)


# --- what a run leaves behind --------------------------------------------------------------


def test_folder(tmp_path):
    stages = ["npt:0.2ps", "nvt-nhc:0.2ps"]
    config = settings(str(tmp_path / "a"), stages, plot=True, trajectory_forces=True)
    atoms, calc = argon(), ListedLennardJones()
    atoms.info["charge"] = 1
    before = atoms.positions.copy()
    summary = run(config, calc, atoms)
    assert np.array_equal(atoms.positions, before)
    assert not atoms.has("momenta")
    names = "checkpoint.npz config.yaml final.extxyz input.extxyz md.log md.png statistics.dat"
    names += " summary.yaml trajectory.extxyz"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names.split()
    assert yaml.safe_load((tmp_path / "a/summary.yaml").read_text()) == summary
    assert [stage["steps"] for stage in summary["stages"]] == [50, 50]
    assert MDConfig(**summary["config"]) == MDConfig.load(tmp_path / "a/config.yaml")

    frames = read(tmp_path / "a/trajectory.extxyz", ":")
    assert [frame.info["step"] for frame in frames] == [0, 20, 40, 60, 80, 100]
    final = read(tmp_path / "a/final.extxyz")
    assert final.info["charge"] == 1
    check = final.copy()
    check.calc = ListedLennardJones()
    assert np.allclose(check.get_forces(), frames[-1].get_forces(), atol=1e-6)
    assert np.allclose(frames[-1].calc.results["charges"], np.tanh(check.get_forces()[:, 0]))
    assert np.allclose(frames[-1].get_momenta(), final.get_momenta())

    table = read_statistics(tmp_path / "a/statistics.dat")
    assert "repulsion[eV]" in table
    assert table["step"].tolist() == list(range(0, 101, 5))
    assert table["time[ps]"][-1] == pytest.approx(0.4)
    assert set(table["stage"]) == {1, 2}
    assert table["density[g/cm^3]"][-1] == pytest.approx(mass_density(final), rel=1e-7)
    assert table["potential[eV]"][-1] == pytest.approx(check.get_potential_energy(), abs=1e-6)
    virial = check.get_stress(voigt=False, include_ideal_gas=True).trace() / 3
    assert table["pressure[bar]"][-1] == pytest.approx(-virial / BAR, rel=1e-5)


def test_nothing_is_computed_twice(tmp_path):
    calc = ListedLennardJones()
    config = settings(str(tmp_path), ["npt:0.2ps", "nvt:0.2ps"], minimize=False)
    config = config.model_copy(update={"statistics_interval": 1, "trajectory_interval": 1})
    run(config, calc)
    assert calc.n_calls == 100 + 2  # the start is checked before the folder is made


def test_trajectory_is_not_wrapped(tmp_path):
    atoms = argon()
    atoms.positions[0] -= atoms.cell.sum(axis=0)
    run(settings(str(tmp_path), ["nve:0.1ps"], minimize=False), atoms=atoms)
    last = read(tmp_path / "trajectory.extxyz")
    assert np.linalg.norm(last.positions[0] + atoms.cell.sum(axis=0)) < 2


def test_molecule_in_vacuum(tmp_path):
    atoms = Atoms("OHCF", positions=np.random.default_rng(1).random((4, 3)) * 5)
    run(settings(str(tmp_path), ["nvt:0.2ps"]), Springs(atoms.positions.copy()), atoms)
    names = (tmp_path / "statistics.dat").read_text().splitlines()[0]
    assert "density" not in names
    with pytest.raises(ConfigError, match="periodic box for npt"):
        run(settings(str(tmp_path / "b"), ["npt:0.2ps"]), Springs(atoms.positions), atoms)


def test_momenta_from_the_file(tmp_path):
    atoms = argon()
    momenta = random_momenta(atoms, 50, np.random.default_rng(9))
    config = settings(str(tmp_path), ["nve:0.1ps"], velocities="file", minimize=False)
    with pytest.raises(ConfigError, match="expected momenta"):
        run(config)
    atoms.set_momenta(momenta)
    run(config, atoms=atoms)
    first = read(tmp_path / "trajectory.extxyz", 0)
    assert np.allclose(first.get_momenta(), momenta, atol=1e-7)


def test_minimisation_lowers_energy_and_forces(tmp_path):
    for minimizer in ("fire", "lbfgs"):
        config = settings(
            str(tmp_path / minimizer),
            ["nve:0.04ps"],
            minimizer=minimizer,
            minimize_steps=300,
            fmax=0.005,
        )
        done = run(config)["minimization"]
        assert done["converged"]
        assert done["energy_after_eV"] < done["energy_before_eV"] - 0.05


def test_occupied_folder(tmp_path):
    config = settings(str(tmp_path), ["nve:0.04ps"])
    run(config)
    with pytest.raises(SimulationError, match="--force"):
        run(config)
    MDRun.start(config, argon(), ListedLennardJones(), force=True).run()
    (tmp_path / "file").write_text("")
    with pytest.raises(SimulationError, match="cannot write"):
        run(settings(str(tmp_path / "file"), ["nve:0.04ps"]))


# --- what stops a run ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", r"force on atom 17 \(Ar\)"),
        ("energy", "energy is inf"),
        ("kick", r"atom 17 \(Ar\) moved .* A in one step"),
    ],
)
def test_blow_up_names_the_atom(tmp_path, how, message):
    config = settings(str(tmp_path), ["nve:0.8ps"], minimize=False)
    with pytest.raises(SimulationError, match=message) as error:
        run(config, BreaksAt(30, how))
    assert "\n" not in str(error.value)
    assert "step 2" in str(error.value) or "step 3" in str(error.value)
    assert len(read(tmp_path / "failed.extxyz")) == 108


def test_contacts(tmp_path):
    atoms = argon()
    atoms.positions[5] = atoms.positions[40] + [0.2, 0, 0] - atoms.cell[0]
    with pytest.raises(SimulationError, match=r"atom 5 .* atom 40 .* 0\.200 A apart|atom 40 .* 5"):
        run(settings(str(tmp_path), ["nve:0.8ps"]), atoms=atoms)
    assert not (tmp_path / "checkpoint.npz").exists()
    molecule = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.3]])
    with pytest.raises(SimulationError, match=r"0\.300 A apart"):
        check_contacts(molecule, 0.5)
    check_contacts(molecule, 0.2)


def test_contact_during_a_run(tmp_path):
    """Two atoms that attract without limit end on top of each other."""

    class Collapse(Calculator):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012

        def calculate(self, atoms=None, properties=(), system_changes=all_changes) -> None:
            super().calculate(atoms, properties, system_changes)
            vector = atoms.positions[1] - atoms.positions[0]
            pull = 0.3 * vector / np.linalg.norm(vector)
            energy = 0.3 * float(np.linalg.norm(vector))
            self.results = {"energy": energy, "forces": np.array([pull, -pull])}

    atoms = Atoms("LiF", positions=[[0, 0, 0], [0, 0, 2.0]])
    atoms.set_momenta(np.zeros((2, 3)))
    options = {"velocities": "file", "minimize": False, "timestep": 0.1, "max_displacement": 5}
    with pytest.raises(SimulationError, match=r"atom 0 \(Li\) and atom 1 \(F\) are"):
        run(settings(str(tmp_path), ["nve:0.5ps"], **options), Collapse(), atoms)


def test_too_hot(tmp_path):
    config = settings(str(tmp_path), ["nvt:0.8ps"], max_temperature=181.0, friction=5, seed=1)
    atoms = argon()
    atoms.set_momenta(random_momenta(atoms, 260, np.random.default_rng(0)))
    config = config.model_copy(update={"velocities": "file"})
    with pytest.raises(SimulationError, match=r"temperature is \d+ K .*atom \d+ \(Ar\)"):
        run(config, atoms=atoms)


def test_structures_that_cannot_run(tmp_path):
    from ase.constraints import FixAtoms

    config = settings(str(tmp_path), ["nvt:0.1ps"])
    fixed = argon()
    fixed.set_constraint(FixAtoms([0]))
    slab = argon()
    slab.pbc = [True, True, False]
    for atoms, message in (
        (Atoms("Ar"), "at least two atoms"),
        (fixed, "FixAtoms"),
        (slab, "all three directions or in none"),
    ):
        with pytest.raises(StructureError, match=message):
            run(config, atoms=atoms)


# --- settings ------------------------------------------------------------------------------


def test_times_of_the_integrator_may_have_units():
    from hff_ase.dynamics.pimd.config import PIMDConfig

    made = MDConfig(time="1ps", timestep="0.0005ps", tdamp="0.2ps", pdamp="2 ps")
    assert (made.timestep, made.tdamp, made.pdamp) == (0.5, 200.0, 2000.0)
    assert MDConfig(time="1ps", timestep="2").timestep == 2.0
    given = {"structure": __file__, "model": "electrolyte"}
    assert PIMDConfig.load({**given, "timestep": "0.25fs", "tdamp": "0.1ps"}).tdamp == 100.0
    for name in ("timestep", "tdamp", "pdamp"):
        with pytest.raises(ConfigError, match=rf"{name}: .*write 0.001ps|{name}: .*0.001 fs"):
            PIMDConfig.load({**given, name: 0.001})


def test_times():
    assert parse_time("50ps") == 50_000
    assert parse_time("0.5 ns") == 500_000
    assert parse_time("200fs") == 200
    assert parse_time("1e2ps") == 100_000
    for bad in ("fifty ps", "50", 50, "-5ps", "0ps", "5 s", "ps", "", None, "1e999ps"):
        with pytest.raises(ConfigError, match="with its unit"):
            parse_time(bad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -5}, "temperature: .*got -5"),
        ({"temperature": float("nan")}, "temperature: .*finite"),
        ({"temperature": 0}, "above 0 K"),
        ({"timestep": 20}, "timestep: .*10"),
        ({"timestep": 0}, "timestep"),
        ({"timestep": 0.001}, r"from 0.01 to 10 fs, got 0.001 fs \(in ps\? write 0.001ps\)"),
        ({"timestep": "0.5ns"}, "timestep: .* got 500000 fs"),
        ({"timestep": "half a fs"}, "a positive time with its unit"),
        ({"tdamp": 0.1}, r"tdamp: .*write 0.1ps"),
        ({"pdamp": 0.5}, r"pdamp: .*write 0.5ps"),
        ({"time": "fifty ps"}, "time: .*'fifty ps'"),
        ({"time": 50}, "time: .*unit"),
        ({"time": None}, "expected a length"),
        ({"time": "0.1fs"}, "at least one step"),
        ({"ensemble": "nvtt"}, "ensemble: .*'nvtt'"),
        ({"pressure": 1.0}, "only with npt"),
        ({"stages": ["npt:1ps"]}, "either stages or"),
        ({"stages": ["hot:1ps"], "time": None}, "ENSEMBLE:TIME .*'hot:1ps'"),
        ({"stages": "npt:1ps", "time": None}, "expected a list"),
        ({"seed": 1.5}, "seed"),
        ({"max_temperature": 400}, "more than twice"),
        ({"temprature": 300}, "unknown setting 'temprature'; did you mean temperature"),
        ({"time-step": 1}, "did you mean timestep"),
        ({"trajectory_interval": 0}, "trajectory_interval"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        MDConfig(**{"time": "1ps", **options})
    assert "\n" not in str(error.value)


def test_settings_round_trip(tmp_path):
    config = MDConfig(ensemble="npt", time="20ps", seed=0, without=["dispersion"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.resolved()))
    again = MDConfig.load(path)
    assert again.resolved() == config.resolved()
    assert again.pressure == 1.0
    assert again.plan == config.plan
    for text, message in (("a: [", r"\.yaml:\d+: expected yaml"), ("- 1", "setting: value")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            MDConfig.load(path)
    with pytest.raises(ConfigError, match="cannot read"):
        MDConfig.load(tmp_path / "missing.yaml")


def test_command_line_replaces_the_file():
    file = {"stages": ["npt:20ps"], "seed": 4}
    shorter = MDConfig.load(file, {"time": "5ps"})
    assert (shorter.stages, shorter.time, shorter.seed) == ((), "5ps", 4)
    staged = MDConfig.load({"ensemble": "npt", "time": "5ps"}, {"stages": ["nve:1ps"]})
    assert (staged.stages, staged.ensemble, staged.time) == (("nve:1ps",), None, None)
    assert MDConfig.load(file, {"seed": 0}).seed == 0


def test_command_line(tmp_path, small_model_path):
    app = typer.Typer()
    app.command()(md)
    runner = CliRunner()
    help_text = runner.invoke(app, ["--help"], env={"COLUMNS": "120"}).output
    for panel in ("Dynamics", "System and model", "What stops a run", "--trajectory-interval"):
        assert panel in help_text
    box, folder = tmp_path / "box.extxyz", tmp_path / "run"
    write(box, salt_box())
    (tmp_path / "md.yaml").write_text("ensemble: npt\ntime: 1ns\ntemperature: 60\ntimestep: 0.1\n")
    arguments = [str(box), "--config", str(tmp_path / "md.yaml"), "--stages", "npt:1fs"]
    arguments += ["--stages", "nvt:1fs", "--no-plot", "--minimize-steps", "2", "--pressure", "10"]
    arguments += ["--model", str(small_model_path), "--max-temperature", "1e6"]
    for _ in range(2):  # starts it, then finds it finished
        result = runner.invoke(app, [*arguments, "--resume", str(folder)])
        assert result.exit_code == 0, result.output
    assert "finished" in result.output
    resolved = yaml.safe_load((folder / "config.yaml").read_text())
    assert resolved["stages"] == ["npt:1fs", "nvt:1fs"]
    assert (resolved["temperature"], resolved["pressure"]) == (60, 10)
    result = runner.invoke(app, ["--resume", str(tmp_path / "none")])
    assert isinstance(result.exception, SimulationError)
    result = runner.invoke(app, [str(tmp_path / "none.xyz"), "--model", "toy", "--time", "1ps"])
    assert isinstance(result.exception, StructureError)


# --- averages ------------------------------------------------------------------------------


def test_block_average_of_a_correlated_series():
    """x_t = a x_(t-1) + noise: variance of the mean is sigma^2/n (1 + a)/(1 - a)."""
    rng, a, n = np.random.default_rng(0), 0.9, 2**15
    noise = rng.standard_normal(n)
    series = np.empty(n)
    value = 0.0
    for index in range(n):
        value = a * value + noise[index]
        series[index] = value
    expected = np.sqrt(1 / (1 - a**2) / n * (1 + a) / (1 - a))
    mean, error = block_average(series + 5)
    assert mean == pytest.approx(5, abs=4 * expected)
    assert expected * 0.8 < error < expected * 1.8
    assert np.isnan(block_average([1.0, 2.0])[1])


def test_density_of_water():
    atoms = Atoms("OH2", positions=np.eye(3), cell=[3.104] * 3, pbc=True)
    assert mass_density(atoms) == pytest.approx(1.0, abs=2e-3)
    atoms.pbc = False
    with pytest.raises(StructureError):
        mass_density(atoms)
