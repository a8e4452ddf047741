"""Currents and polarisations in a field, of series whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units

from hff_ase.dynamics.observables.conductivity import MS_PER_CM
from hff_ase.dynamics.observables.driven import driven_conductivity, driven_permittivity
from hff_ase.dynamics.observables.thermodynamic import permittivity
from hff_ase.dynamics.observables.topology import make_topology
from hff_ase.dynamics.observables.trajectory import Trajectory
from hff_ase.errors import ConfigError

T, EDGE, FIELD = 300.0, 30.0, np.array([0.0, 0.006, 0.008])


def test_current_of_driven_walkers_is_einsteins():
    """Ions that walk with D and drift with QDF/kT have the conductivity of Nernst and Einstein."""
    rng, n, steps, interval, diffusion = np.random.default_rng(0), 20, 3000, 0.5, 0.1
    kt = units.kB * T
    charges = np.repeat([1.0, -1.0], n)
    drift = diffusion / kt * charges[:, None] * FIELD * interval
    runs = []
    kinds = ["Li"] * n + ["Cl"] * n
    topology = make_topology(kinds, np.arange(2 * n), kinds, [7.0] * n + [35.0] * n, charges)
    for _ in range(3):
        walk = drift + rng.normal(0, np.sqrt(2 * diffusion * interval), (steps, 2 * n, 3))
        cells = np.repeat(EDGE * np.eye(3)[None], steps, axis=0)
        times = interval * np.arange(steps)
        runs.append(Trajectory(np.cumsum(walk, axis=0), cells, times, topology))
    found = driven_conductivity(runs, FIELD)
    exact = MS_PER_CM * 2 * n * diffusion / (EDGE**3 * kt)
    assert abs(found.value - exact) < 4 * found.error
    assert found.relative_error < 0.15
    with pytest.raises(ConfigError, match="three components"):
        driven_conductivity(runs, [0, 0, 0])


def test_polarisation_is_what_the_fluctuations_say():
    """A Gaussian dipole of variance s^2 has the mean s^2 F/kT in a field: one permittivity."""
    rng, volume, kt, spread, n = np.random.default_rng(1), 2e4, units.kB * T, 6.0, 4000
    resting = rng.normal(0, spread, (n, 3))
    driven = rng.normal(0, spread, (n, 3)) + spread**2 * FIELD / kt
    a = permittivity(resting, volume, T)
    b = driven_permittivity([driven], FIELD, volume)
    assert abs(a.value - b.value) < 4 * np.hypot(a.error, b.error)
    assert b.relative_error < 0.05
