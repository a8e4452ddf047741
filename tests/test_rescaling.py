"""Stochastic cell rescaling: volumes of known distribution, mean pressure, density beside MTK's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from scipy import integrate, stats
from torch import Tensor
from toy_engine import make_loop, moving, run_steps
from toy_md import argon

from hff_ase.batch import AtomsBatch
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.engine.torch.state import volume
from hff_ase.errors import ConfigError
from hff_ase.neighborhood import Neighborhood
from hff_ase.terms.term import Fields, Term
from hff_ase.units import BAR

N_ATOMS, KELVIN = 6, 600.0
REPLICAS = 16


class Elastic(Term):
    """U = K (V - V0)^2/(2 V0) of the volume alone; without K an ideal gas."""

    kind = "toy_elastic"
    rest = 60.0  # Angstrom^3

    def __init__(self, modulus: float) -> None:
        super().__init__()
        self.modulus = modulus  # eV/Angstrom^3

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        strain = volume(batch.cell) - self.rest
        energy = 0.5 * self.modulus * strain.square() / self.rest / batch.counts
        return energy[batch.system] + 0.0 * batch.positions.sum(-1)


def gas(seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms(f"Ar{N_ATOMS}", rng.random((N_ATOMS, 3)) * 4, cell=[4.0] * 3, pbc=True)
    return moving(atoms, KELVIN, seed)


def distribution(pressure: float, modulus: float) -> tuple[np.ndarray, np.ndarray]:
    """Volumes and the exact cumulative distribution, V^(N - 1) e^(-(P V + U)/kT)."""
    kt, space = units.kB * KELVIN, np.linspace(1e-3, 600, 200001)
    energy = pressure * space + 0.5 * modulus * (space - Elastic.rest) ** 2 / Elastic.rest
    weight = np.exp((N_ATOMS - 1) * np.log(space) - energy / kt - 10)
    total = integrate.cumulative_trapezoid(weight, space, initial=0)
    return space, total / total[-1]


@pytest.mark.parametrize("modulus", [pytest.param(0.0, marks=pytest.mark.slow), 3 * units.GPa])
def test_exact_distribution_of_volumes(modulus):
    """Two pressures in one batch; samples many relaxation times apart."""
    n_replicas, pressure = 120, np.repeat([0.5, 1.0], 60) * units.GPa
    loop = make_loop(
        "npt-scr",
        [gas(seed) for seed in range(n_replicas)],
        Elastic(modulus),
        temperature=KELVIN,
        pressure=pressure.tolist(),
        timestep=4.0,
        friction=20.0,
        pdamp=200.0,
    )
    known = run_steps(loop, 1450)
    volumes = known["volume"][449::250]
    for part, own in ((slice(0, 60), 0.5), (slice(60, 120), 1.0)):
        space, cumulative = distribution(own * units.GPa, modulus)
        found = stats.kstest(volumes[:, part].ravel(), lambda x: np.interp(x, space, cumulative))  # noqa: B023
        assert found.pvalue > 1e-3
        means = known["pressure"][449:, part].mean(0)
        error = means.std(ddof=1) / np.sqrt(60)
        assert abs(means.mean() - own * units.GPa) < 4 * error


def liquid(ensemble: str) -> tuple[np.ndarray, np.ndarray]:
    """Means of density (atoms per nm^3) and pressure (bar) of replicas of a liquid."""
    boxes = [moving(argon(2), 300.0, seed) for seed in range(REPLICAS)]
    options = {"temperature": 300.0, "pressure": 2000.0 * BAR, "timestep": 8.0, "pdamp": 500.0}
    known = run_steps(make_loop(ensemble, boxes, **options), 700)
    return 1000 * 32 / known["volume"][250:].mean(0), known["pressure"][250:].mean(0) / BAR


@pytest.mark.slow  # a minute of dynamics
def test_density_and_pressure_of_a_liquid():
    scr, mtk = liquid("npt-scr"), liquid("npt")
    for density, pressure in (scr, mtk):
        assert abs(pressure.mean() - 2000) < 4 * pressure.std(ddof=1) / np.sqrt(REPLICAS)
        assert density.std(ddof=1) / density.mean() < 0.05
    error = np.hypot(scr[0].std(ddof=1), mtk[0].std(ddof=1)) / np.sqrt(REPLICAS)
    assert error < 0.02 * mtk[0].mean()
    assert abs(scr[0].mean() - mtk[0].mean()) < 4 * error


def test_volume_relaxes_without_oscillation():
    """A box 20 % too wide: in the mean, an exponential of the time constant over K beta."""
    modulus, tau = 4.0 * units.GPa, 400.0
    boxes = [gas(seed) for seed in range(200)]
    for atoms in boxes:
        atoms.set_cell([Elastic.rest ** (1 / 3) * 1.2 ** (1 / 3)] * 3, scale_atoms=True)
    options = {"temperature": 1.0, "pressure": 0.0, "timestep": 1.0, "friction": 50.0}
    for atoms in boxes:
        atoms.set_momenta(0 * atoms.positions)
    loop = make_loop("npt-scr", boxes, Elastic(modulus), pdamp=tau, **options)
    strain = run_steps(loop, 300)["volume"].mean(1) / Elastic.rest - 1
    # dV/dt = beta V (P - P0)/tau with P = -K (V/V0 - 1): x/(1 + x) falls by exp(-4 t/tau)
    time = np.arange(1, 301)
    start = 0.2 / 1.2
    expected = start * np.exp(-4.0 * time / tau)
    assert np.abs(strain / (1 + strain) - expected).max() < 0.01


def test_the_fourth_number_is_the_pistons():
    """A system keeps the noise of its piston in any batch; that of atoms is Langevin's."""
    loop = make_loop("npt-scr", [gas(0), gas(1)], Elastic(0.0), identity=[3, 8])
    run_steps(loop, 1)
    alone = make_loop("npt-scr", [gas(1)], Elastic(0.0), identity=[8])
    run_steps(alone, 1)
    assert torch.equal(loop.state.cell[1], alone.state.cell[0])
    assert not torch.equal(loop.state.cell[0], loop.state.cell[1])


def test_settings():
    MDConfig(stages=["npt-scr:1ps"], pressure=5)
    with pytest.raises(ConfigError, match="pdamp of at least 100 time steps"):
        MDConfig(stages=["npt-scr:1ps"], pdamp=100, timestep=2)
    with pytest.raises(ConfigError, match="no inner steps"):
        MDConfig(stages=["npt-scr:1ps"], inner_steps=2, inner_model="small")
    with pytest.raises(ConfigError, match="only with npt"):
        MDConfig(stages=["nvt:1ps"], pressure=5)
