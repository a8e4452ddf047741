"""Liquids that a cosine acceleration shears, and their viscosity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from scipy.integrate import cumulative_trapezoid
from torch import Tensor
from toy_engine import make_loop, moving, run_steps, toy_calculator
from toy_md import argon, settings
from toy_runs import KilledError, calculator

from hff_ase.batch import AtomsBatch
from hff_ase.dynamics.engine.torch import SHEARED
from hff_ase.dynamics.engine.torch.integrators.sheared import Sheared
from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.observables.driven import MPA_S, at_rest, driven_viscosity
from hff_ase.dynamics.properties.analysis import analyse
from hff_ase.dynamics.properties.folders import read_folder
from hff_ase.dynamics.reporters.statistics import read_statistics
from hff_ase.errors import ConfigError
from hff_ase.neighborhood import Neighborhood
from hff_ase.terms.term import Fields, Term

SHEAR = 2.0  # A/ps^2
STAGES = ["nvt-nhc:6.4ps"]
OPTIONS = {"shear": 4.0, "temperature": 120.0, "timestep": 8.0, "statistics_interval": 2,
           "trajectory_interval": 100, "checkpoint_interval": 250}  # fmt: skip


class Nothing(Term):
    """Atoms that do not see each other."""

    kind = "toy_nothing"

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        return batch.positions.sum(-1) * 0.0


PER_PS = 1000 * units.fs  # A/ps of an ASE velocity


def ideal_gas(n: int, kelvin: float, seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms("Ar" * n, rng.random((n, 3)) * [10.0, 12.0, 30.0], cell=[10, 12, 30], pbc=True)
    return moving(atoms, kelvin, seed)


def liquid(kelvin: float, seed: int = 0) -> Atoms:
    """108 atoms of argon, disordered and less dense than the crystal."""
    atoms = argon(3)
    atoms.set_cell(atoms.cell * 1.08, scale_atoms=True)
    atoms.positions += np.random.default_rng(seed).normal(0, 0.25, atoms.positions.shape)
    return moving(atoms, kelvin, seed)


def test_an_ideal_gas_flows_as_its_kinetic_theory_says() -> None:
    r"""v(t) = a int_0^t exp(-k^2 kT s^2 / 2 m) ds: what was pushed flies out of phase."""
    kelvin, n_steps, timestep = 90.0, 75, 40.0
    gas = ideal_gas(10000, kelvin, 0)
    loop = make_loop(
        "nvt-nhc", [gas], Nothing(), shear=SHEAR, temperature=kelvin, timestep=timestep, tdamp=1e5
    )
    found = run_steps(loop, n_steps)["flow"][:, 0] * PER_PS
    time = 1e-3 * timestep * np.arange(n_steps + 1)
    width = (2 * np.pi / 30.0) ** 2 * units.kB * kelvin / gas.get_masses()[0]
    width *= PER_PS**2
    expected = SHEAR * cumulative_trapezoid(np.exp(-0.5 * width * time**2), time, initial=0)
    noise = np.sqrt(2 * units.kB * kelvin / gas.get_masses().sum()) * PER_PS
    # to begin with the flow is that of random velocities, which dies out as the integrand does
    assert np.abs(found - expected[1:]).max() < 4 * noise
    assert noise < 0.03 * expected[-1]


def test_the_work_of_the_acceleration_is_accounted_for() -> None:
    """Energy comes in and leaves by the chain; what is conserved wanders by far less."""
    loop = make_loop(
        "nvt-nhc", [liquid(90, 0), liquid(90, 1)], temperature=90.0, timestep=4.0, shear=10.0
    )
    conserved = run_steps(loop, 400)["conserved"]
    assert (loop.state.heat > 20 * torch.as_tensor(conserved.std(axis=0))).all()
    total = loop.integrator.conditions.sum(loop.state.momenta)
    assert float(total.abs().max()) < 1e-9


def test_the_rest_of_the_momenta_is_orthogonal_to_the_flow_and_has_the_temperature() -> None:
    atoms = liquid(120, 2)
    loop = make_loop("nvt-nhc", [atoms], temperature=120.0, shear=4.0, timestep=8.0, tdamp=100.0)
    found = run_steps(loop, 700)
    expected = 0.5 * (3 * len(atoms) - 4) * units.kB * 120.0
    assert found["kinetic"][200:].mean() == pytest.approx(expected, rel=0.01)
    assert found["flow"][200:].mean() * PER_PS > 0.1
    own: Sheared = loop.integrator
    state = loop.state
    flowing = own.conditions.kinetic(state.momenta) - own.conditions.kinetic(
        state.momenta - own.conditions.masses * _profile(own, state)
    )
    amplitude = own.flow(state)
    cosine = own._cosine(state)
    exact = 0.5 * amplitude**2 * own.conditions.sum(own.conditions.masses[:, 0] * cosine**2)
    assert float(flowing) == pytest.approx(float(exact), rel=1e-9)


def _profile(own: Sheared, state: Any) -> Tensor:
    flow = own.conditions.spread(own.flow(state))[:, 0] * own._cosine(state)
    return torch.stack([flow, 0 * flow, 0 * flow], dim=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of argon under a strong shear, cut and continued."""
    folder = tmp_path_factory.mktemp("shear") / "run"
    MDRun.start(settings(str(folder), STAGES, **OPTIONS), liquid(120), calculator("torch")).run()
    return folder


def test_a_run_has_its_flow_and_its_viscosity(run: Path) -> None:
    rows = read_statistics(run / "statistics.dat")
    flow = rows["flow[A/ps]"]
    assert flow[len(flow) // 2 :].mean() > 0.1
    (state,) = read_folder(run)
    found = analyse([state], ["driven-viscosity"]).results[0].quantities["driven_viscosity"].found
    k = 2 * np.pi / liquid(120).cell[2, 2]
    density = rows["density[g/cm^3]"][0]
    mean = found.details["shear_rate"] / k  # once it is steady, which a short run hardly is
    assert 0.7 * flow[len(flow) // 4 :].mean() < mean < flow.max()
    assert found.value == pytest.approx(MPA_S * density * 4.0 / (k**2 * mean), rel=1e-6)
    assert any("sheared" in note for note in state.notes)


def test_a_run_resumes_exactly(run: Path, tmp_path: Path) -> None:
    config = settings(str(tmp_path / "cut"), STAGES, **OPTIONS)
    with pytest.raises(KilledError):
        MDRun.start(config, liquid(120), calculator("torch", 300)).run()
    MDRun.resume(tmp_path / "cut", calculator("torch")).run()
    for name in ("statistics.dat", "trajectory.extxyz"):
        assert (tmp_path / "cut" / name).read_bytes() == (run / name).read_bytes()


def test_viscosity_of_a_steady_flow() -> None:
    rng = np.random.default_rng(0)
    flows = [0.9 + 0.05 * rng.normal(size=2000) for _ in range(3)]
    found = driven_viscosity(flows, 1.0, 60.0, 1.0)
    exact = 1e-2 / ((2 * np.pi / 60.0) ** 2 * 0.9)  # rho a / (k^2 v) in SI units, by hand
    assert abs(found.value - exact) < 4 * found.error
    assert found.relative_error < 0.01
    assert found.details["shear_rate"] == pytest.approx(0.9 * 2 * np.pi / 60.0, rel=0.01)
    noise = driven_viscosity([rng.normal(size=2000)], 1.0, 60.0, 1.0)
    assert noise.refused
    assert "noise" in noise.reason
    with pytest.raises(ConfigError, match="positive wavelength"):
        driven_viscosity(flows, 1.0, 0.0, 1.0)


def test_extrapolation_finds_the_viscosity_at_rest() -> None:
    """Of runs with known answer and noise; the 68 % interval holds it about as often."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(50):
        runs = []
        for edge in (40.0, 60.0, 90.0):
            for rate in (0.02, 0.05, 0.1):
                k = 2 * np.pi / edge
                eta = 2.0 * (1 - 3.0 * k**2 - 10.0 * rate**2)
                error = 0.03
                one = driven_viscosity([rate / k + 1e-9 * rng.normal(size=100)], 1.0, edge, 1.0)
                value = eta + error * rng.normal()
                runs.append(type(one)(value, error, "mPa s", "", 100.0, details=one.details))
        found = at_rest(runs)
        held += abs(found.value - 2.0) < found.error
        assert found.value == pytest.approx(2.0, abs=6 * found.error)
    assert 26 <= held <= 43
    with pytest.raises(ConfigError, match="at least 3"):
        at_rest([runs[0], runs[4]])


def test_what_shear_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nvt-nhc with shear, got nvt"):
        settings(str(tmp_path), ["nvt:1ps"], shear=1.0)
    with pytest.raises(ConfigError, match="torch engine"):
        settings(str(tmp_path), ["nvt-nhc:1ps"], shear=1.0, engine="ase")
    skewed = argon(2)
    skew = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0, 0]])
    skewed.set_cell(skewed.cell.array + skew)
    config = settings(str(tmp_path), ["nvt-nhc:1ps"], shear=1.0)
    with pytest.raises(ConfigError, match="right-angled"):
        MDRun.start(config, skewed, toy_calculator())
    assert set(SHEARED) == {"nvt-nhc"}
