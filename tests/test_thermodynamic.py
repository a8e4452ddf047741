"""Fluctuation formulas on samples drawn from ensembles whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import units
from synthetic import series_of

from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.observables.thermodynamic import (
    box_dipole,
    compressibility,
    density,
    expansion,
    expansion_of_densities,
    heat_of_vaporisation,
    permittivity,
)
from hff_ase.errors import ConfigError

T, V0 = 300.0, 10_000.0


def noise(n: int, m: int, seed: int = 0) -> np.ndarray:
    """Correlated unit normal series [m, n]: two times, 3 and 20 samples."""
    rng = np.random.default_rng(seed)
    return series_of(lambda t: 0.8 * np.exp(-t / 3) + 0.2 * np.exp(-t / 20), n, m, rng)


def share(found: list[Observable], truth: float, level: float) -> float:
    """How often the interval holds the truth."""
    ends = np.array([one.interval(level) for one in found])
    return float(np.mean((ends[:, 0] < truth) & (ends[:, 1] > truth)))


def test_density_and_compressibility_hold_the_truth():
    kappa = 0.8  # 1/GPa
    sigma = math.sqrt(kappa / units.GPa * units.kB * T * V0)
    volumes = V0 + sigma * noise(2000, 200)
    mass = 1.2 * V0 / 1e24 * units.mol
    densities = [density(one, mass) for one in volumes]
    # <1/V> = (1 + sigma^2/V^2)/<V>
    assert 0.60 < share(densities, 1.2 * (1 + (sigma / V0) ** 2), 0.6827) < 0.76
    assert 0.90 < share(densities, 1.2 * (1 + (sigma / V0) ** 2), 0.95) < 0.99
    found = [compressibility(one, T) for one in volumes]
    assert found[0].unit == "1/GPa"
    assert np.mean([one.value for one in found]) == pytest.approx(kappa, rel=0.02)
    assert 0.58 < share(found, kappa, 0.6827) < 0.78
    assert 0.88 < share(found, kappa, 0.95) < 0.99


def test_expansion_from_fluctuations_and_from_a_line():
    alpha, rng = 1.2e-3, np.random.default_rng(1)
    v, other = noise(4000, 2, 1)
    sigma_v, heat = 30.0, 2.0
    # <dV dH> = alpha k T^2 V
    covariance = alpha * units.kB * T**2 * V0
    h = heat * other + covariance / sigma_v * v
    found = expansion(V0 + sigma_v * v, h, T)
    assert abs(found.value - 1.2) < 3 * found.error
    assert found.relative_error < 0.5
    temperatures = np.array([280.0, 300.0, 320.0])
    exact = 1.1 * np.exp(-alpha * (temperatures - 300))
    errors = [0.001, 0.002, 0.001]
    lines = []
    for _ in range(200):
        values = [
            Observable(float(d + e * rng.normal()), e, "g/cm^3", "", 50.0)
            for d, e in zip(exact, errors, strict=True)
        ]
        lines.append(expansion_of_densities(values, temperatures))
    assert 0.58 < share(lines, 1.2, 0.6827) < 0.78


def test_heat_of_vaporisation():
    liquid = Observable(-100.0, 0.5, "eV", "", 50.0)
    gas = Observable(-0.5, 0.01, "eV", "", 50.0)
    found = heat_of_vaporisation(liquid, gas, 250, 298.15)
    in_kj = 96.4853
    assert found.value == pytest.approx((-0.5 + 0.4) * in_kj + 8.314462e-3 * 298.15, rel=1e-5)
    assert found.error == pytest.approx(math.hypot(0.01, 0.002) * in_kj, rel=1e-4)
    with pytest.raises(ConfigError, match="expected energies in eV"):
        heat_of_vaporisation(liquid.scaled(1.0, "kJ"), gas, 250, 298.15)


def test_permittivity_of_a_known_dipole():
    # SI, written out: eps - 1 = <M^2>/(3 eps0 V k T)
    debye_sigma = 12.0  # e Angstrom of one component
    square = 3 * (debye_sigma * 1.602176634e-19 * 1e-10) ** 2
    exact = 1 + square / (3 * 8.8541878128e-12 * V0 * 1e-30 * 1.380649e-23 * T)
    runs = noise(3000, 600, 2).reshape(200, 3, 3000).transpose(0, 2, 1) * debye_sigma
    found = [permittivity(run, V0, T) for run in runs]
    assert np.mean([one.value for one in found]) == pytest.approx(exact, rel=0.01)
    assert 0.60 < share(found, exact, 0.6827) < 0.76
    assert 0.90 < share(found, exact, 0.95) < 0.99
    both = permittivity(list(runs[:4]), V0, T, infinite=1.9)
    assert both.value == pytest.approx(np.mean([one.value for one in found[:4]]) + 0.9, rel=1e-9)
    with pytest.raises(ConfigError, match="liquid without ions"):
        permittivity(runs[0], V0, T, charges=[0, 1, -1])
    with pytest.raises(ConfigError, match=r"expected dipoles \[n, 3\]"):
        permittivity(np.zeros((5, 4)), V0, T)


def test_dipole_does_not_depend_on_images():
    rng = np.random.default_rng(3)
    molecule = np.array([0, 0, 0, 1, 1, 1])
    positions = rng.normal(size=(4, 6, 3))
    charges = rng.normal(size=(4, 6))  # charge flows: molecules are not neutral
    formal = np.zeros(2)
    here = box_dipole(positions, charges, molecule, formal)
    moved = positions.copy()
    moved[:, 3:] += [20.0, 0.0, -20.0]
    np.testing.assert_allclose(box_dipole(moved, charges, molecule, formal), here, atol=1e-12)
    neutral = charges.copy()
    for k in (0, 1):
        neutral[:, molecule == k] -= charges[:, molecule == k].mean(axis=1, keepdims=True)
    expected = (neutral[:, :, None] * positions).sum(axis=1)
    np.testing.assert_allclose(here, expected, atol=1e-12)
