"""Transport coefficients against exact answers and other packages."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import units
from synthetic import series_of

from hff_ase.dynamics.observables.conductivity import conductivity, ionicity, nernst_einstein
from hff_ase.dynamics.observables.diffusion import (
    cubic_edge,
    diffusion_of_curves,
    self_diffusion,
    yeh_hummer,
)
from hff_ase.dynamics.observables.msd import cross_displacements, squared_displacements
from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.observables.onsager import Onsager, onsager_matrix
from hff_ase.dynamics.observables.topology import Topology, make_topology
from hff_ase.dynamics.observables.trajectory import Trajectory
from hff_ase.dynamics.observables.transference import (
    frame_weights,
    in_frame,
    stefan_maxwell,
    transference,
)
from hff_ase.dynamics.observables.viscosity import spectral_viscosity
from hff_ase.errors import ConfigError
from hff_ase.units import BAR

T, EDGE = 300.0, 1000.0
CARRIER = 0.1  # 1e-9 m^2/s in A^2/ps


def system(n: int, kinds: dict[str, tuple[float, float]]) -> Topology:
    """n sites of each kind: name -> (mass, charge)."""
    species = [kind for kind in kinds for _ in range(n)]
    masses, charges = ([kinds[kind][k] for kind in species] for k in (0, 1))
    return make_topology(species, np.arange(len(species)), species, masses, charges)


def trajectory(positions: np.ndarray, topology: Topology, interval: float = 1.0) -> Trajectory:
    n = len(positions)
    cells = np.repeat(EDGE * np.eye(3)[None], n, axis=0)
    return Trajectory(positions, cells, interval * np.arange(n), topology)


def langevin(n_frames: int, n_sites: int, rng: np.random.Generator) -> np.ndarray:
    """Paths [n_frames, n_sites, 3] of free Langevin particles, sampled velocities summed."""
    velocities = series_of(lambda t: np.exp(-t / 3.0), n_frames, 3 * n_sites, rng)
    return np.cumsum(velocities, axis=1).reshape(n_sites, 3, n_frames).transpose(2, 0, 1)


LANGEVIN_D = 0.5 * (1 + np.exp(-1 / 3)) / (1 - np.exp(-1 / 3)) * 10.0  # 1e-9 m^2/s


def share(found: list[Observable], truth: float, level: float) -> float:
    ends = np.array([one.interval(level) for one in found if not one.refused])
    return float(np.mean((ends[:, 0] < truth) & (ends[:, 1] > truth)))


def test_mean_squared_displacements_are_those_of_the_definition():
    path = np.cumsum(np.random.default_rng(0).normal(size=(40, 3, 3)), axis=0) + 50
    fast = squared_displacements(path)
    slow = [np.mean(np.sum((path[m:] - path[: 40 - m]) ** 2, -1), axis=0) for m in range(40)]
    np.testing.assert_allclose(fast, slow, atol=1e-9)
    a, b = path[:, :1], path[:, 1:2]
    cross = cross_displacements(a, b, 10)
    exact = [
        np.mean(np.sum((a[m:] - a[: 40 - m]) * (b[m:] - b[: 40 - m]), -1), axis=0)
        for m in range(10)
    ]
    np.testing.assert_allclose(cross, exact, atol=1e-9)


def test_mean_squared_displacement_agrees_with_mdanalysis():
    mda = pytest.importorskip("MDAnalysis")
    from MDAnalysis.analysis.msd import EinsteinMSD

    path = np.cumsum(np.random.default_rng(1).normal(size=(60, 5, 3)), axis=0)
    universe = mda.Universe.empty(5, trajectory=True)
    universe.load_new(path.astype(np.float32))
    theirs = EinsteinMSD(universe, select="all", fft=False).run().results.timeseries
    np.testing.assert_allclose(squared_displacements(path).mean(1), theirs, rtol=1e-4, atol=1e-4)


def test_diffusion_of_langevin_particles_and_its_error():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(100):
        msd = squared_displacements(langevin(600, 20, rng), 180)
        found.append(diffusion_of_curves(msd, 1.0, 600.0))
    kept = [one for one in found if not one.refused]
    assert len(kept) > 80
    assert np.mean([one.value for one in kept]) == pytest.approx(LANGEVIN_D, rel=0.03)
    assert 0.55 < share(found, LANGEVIN_D, 0.6827) < 0.85  # a hundred runs: +- 0.14
    assert share(found, LANGEVIN_D, 0.95) > 0.88
    start, end = kept[0].details["window"]
    assert 3.0 < start < end


def test_diffusion_of_a_species_does_not_see_a_drift():
    rng = np.random.default_rng(3)
    topology = system(15, {"A": (1.0, 0.0), "B": (4.0, 0.0)})
    path = langevin(800, 30, rng)
    drift = np.linspace(0, 300, 800)[:, None, None]
    still = self_diffusion(trajectory(path, topology), "A")
    moved = self_diffusion(trajectory(path + drift, topology), "A")
    assert moved.value == pytest.approx(still.value, rel=1e-6)
    assert abs(still.value - LANGEVIN_D) < 3 * still.error
    pooled = self_diffusion([trajectory(langevin(800, 30, rng), topology) for _ in range(4)], "A")
    assert pooled.error < still.error
    few = self_diffusion(trajectory(path[:12], topology), "A")
    assert few.refused
    with pytest.raises(ConfigError, match="expected one of A, B"):
        self_diffusion(trajectory(path, topology), "C")


def test_yeh_hummer_in_si_units():
    d = Observable(1.0, 0.05, "1e-9 m^2/s", "", 50.0)
    eta = Observable(0.6, 0.03, "mPa s", "", 50.0)
    found = yeh_hummer(d, eta, 298.15, 30.0)
    correction = 2.837297 * 1.380649e-23 * 298.15 / (6 * math.pi * 0.6e-3 * 30e-10) * 1e9
    assert found.value == pytest.approx(1.0 + correction, rel=1e-6)
    assert found.error == pytest.approx(math.hypot(0.05, correction * 0.05), rel=0.01)
    with pytest.raises(ConfigError, match="cubic cell"):
        cubic_edge(np.diag([30.0, 30.0, 40.0]))
    with pytest.raises(ConfigError, match="mPa s"):
        yeh_hummer(d, d, 298.15, 30.0)


def test_free_ions_conduct_as_nernst_and_einstein_say():
    rng, n = np.random.default_rng(4), 5
    topology = system(n, {"Li": (7.0, 1.0), "X": (20.0, -1.0)})
    exact = 1e23 * units._e * 2 * n * (LANGEVIN_D * CARRIER) / (EDGE**3 * units.kB * T)
    runs = [trajectory(langevin(1500, 2 * n, rng), topology) for _ in range(60)]
    found = [conductivity(onsager_matrix(run, T, "laboratory")) for run in runs]
    kept = [one for one in found if not one.refused]
    assert len(kept) > 30
    mean = np.mean([one.value for one in kept])
    spread = np.std([one.value for one in kept]) / math.sqrt(len(kept))
    assert abs(mean - exact) < 3.5 * spread
    assert share(found, exact, 0.95) > 0.8
    diffusion = {kind: self_diffusion(runs[0], kind, drift=False) for kind in ("Li", "X")}
    numbers, charges = {"Li": n, "X": n}, {"Li": 1.0, "X": -1.0}
    independent = nernst_einstein(diffusion, charges, numbers, EDGE**3, T)
    assert abs(independent.value - exact) < 3.5 * independent.error


def test_pairs_tied_together_do_not_conduct():
    rng, n = np.random.default_rng(5), 6
    topology = system(n, {"Li": (7.0, 1.0), "X": (20.0, -1.0), "S": (90.0, 0.0)})
    path, solvent = langevin(4000, n, rng), langevin(4000, n, rng)
    jitter = rng.normal(0, 0.5, (4000, n, 3))
    tied = trajectory(np.concatenate([path, path + jitter, solvent], axis=1), topology)
    sigma = conductivity(onsager_matrix(tied, T))
    numbers, charges = {"Li": n, "X": n}, {"Li": 1.0, "X": -1.0}
    diffusion = {kind: self_diffusion(tied, kind) for kind in ("Li", "X")}
    found = ionicity(sigma, nernst_einstein(diffusion, charges, numbers, EDGE**3, T))
    assert abs(found.value) < 0.02
    assert not found.refused
    assert found.error < 0.02


def exact_onsager(matrix: np.ndarray, charges: list[float], masses: list[float]) -> Onsager:
    n = len(matrix)
    kinds = ("Li", "X", "S", "P")[:n]
    numbers = np.array([10.0, 10.0, 80.0, 30.0][:n])
    return Onsager(
        kinds, np.array(charges), numbers, np.array(masses), matrix, 4000.0, 1e5, T, 1e4, 0.01
    )


def test_transference_numbers_of_an_analytic_case():
    """Independent ions at infinite dilution: t = z^2 N D/sum in every frame that stands still."""
    d = np.array([1.0, 2.0, 3.0])
    numbers = np.array([10.0, 10.0, 80.0])
    free = exact_onsager(np.diag(numbers * d), [1.0, -1.0, 0.0], [7.0, 20.0, 100.0])
    z, m = free.charges, free.masses
    for frame, weights in (
        ("solvent", np.array([0.0, 0.0, 1 / 80])),
        ("mass", m / (numbers @ m)),
        ("volume", np.array([1.0, 3.0, 5.0]) / (numbers @ [1.0, 3.0, 5.0])),
    ):
        found = transference(free, "Li", frame, {"Li": 1.0, "X": 3.0, "S": 5.0})
        # written out: current of Li in the frame, with displacement of Li less N_Li U
        current = sum(z[k] ** 2 * numbers[k] * d[k] for k in range(3))
        drag = sum(weights[k] * z[k] * numbers[k] * d[k] for k in range(3))
        assert found.value == pytest.approx((numbers[0] * d[0] - numbers[0] * drag) / current)
        other = transference(free, "X", frame, {"Li": 1.0, "X": 3.0, "S": 5.0})
        assert found.value + other.value == pytest.approx(1.0)
        moved = in_frame(
            free.matrix, numbers, frame_weights(free, frame, {"Li": 1.0, "X": 3.0, "S": 5.0})
        )
        assert z @ moved @ z == pytest.approx(z @ free.matrix @ z)  # conductivity has no frame
    assert found.error < 0.05
    with pytest.raises(ConfigError, match="partial molar volumes of Li, X, S"):
        transference(free, "Li", "volume")
    with pytest.raises(ConfigError, match="expected an ion"):
        transference(free, "S")
    with pytest.raises(ConfigError, match="expected a frame"):
        transference(free, "Li", "sun")


def test_stefan_maxwell_gives_back_what_the_matrix_was_made_from():
    numbers = np.array([10.0, 10.0, 80.0, 30.0])
    rng = np.random.default_rng(6)
    d = rng.uniform(0.5, 2.0, (4, 4))
    d = (d + d.T) / 2  # A^2/ps
    k = np.outer(numbers, numbers) / (numbers.sum() * d)
    friction = k - np.diag(np.diag(k))
    friction -= np.diag(friction.sum(axis=1))
    # N_i(v_i - v_S) = -(l grad mu)_i with M = -N l^-1 N in the frame of S
    kept = [0, 1, 3]
    inner = (
        -np.diag(numbers[kept])
        @ np.linalg.inv(friction[np.ix_(kept, kept)])
        @ np.diag(numbers[kept])
    )
    matrix = np.zeros((4, 4))
    matrix[np.ix_(kept, kept)] = inner
    onsager = exact_onsager(matrix, [1.0, -1.0, 0.0, 0.0], [7.0, 20.0, 90.0, 60.0])
    mass = in_frame(matrix, numbers, frame_weights(onsager, "mass"))
    for given in (matrix, mass):  # from whatever frame the matrix is in
        for reference in ("S", "P"):
            found = stefan_maxwell(
                exact_onsager(given, [1.0, -1.0, 0.0, 0.0], [7.0, 20.0, 90.0, 60.0]), reference
            )
            for (one, other), entry in found.items():
                i, j = onsager.kinds.index(one), onsager.kinds.index(other)
                assert entry.value == pytest.approx(10.0 * d[i, j], rel=1e-6)
    assert all(math.isfinite(entry.error) for entry in found.values())


def test_draws_scatter_as_runs_do():
    matrix = np.array([[4.0, 1.0, -1.5], [1.0, 3.0, -0.5], [-1.5, -0.5, 2.0]])
    onsager = exact_onsager(matrix, [1.0, -1.0, 0.0], [7.0, 20.0, 90.0])
    drawn = onsager.draws()
    np.testing.assert_allclose(drawn.mean(axis=0), matrix, atol=0.02)
    exact = np.sqrt((np.outer(np.diag(matrix), np.diag(matrix)) + matrix**2) / onsager.dof)
    np.testing.assert_allclose(drawn.std(axis=0), exact, rtol=0.06)


def stress(n: int, rng: np.random.Generator) -> np.ndarray:
    """Isotropic stress [n, 6], bar, with two relaxation times."""
    five = 500.0 * series_of(lambda t: 0.7 * np.exp(-t / 5) + 0.3 * np.exp(-t / 25), n, 6, rng)
    scale = np.array([2**0.5] * 3 + [1.0] * 3)[:, None]
    return (five * scale).T


def test_spectral_viscosity_of_a_made_up_stress():
    interval, volume = 0.01, 8000.0
    tau = interval * (
        0.5 * 0.7 * (1 + np.exp(-1 / 5)) / (1 - np.exp(-1 / 5))
        + 0.5 * 0.3 * (1 + np.exp(-1 / 25)) / (1 - np.exp(-1 / 25))
    )
    exact = 1e3 * volume * 1e-30 / (1.380649e-23 * T) * (500e5) ** 2 * tau * 1e-12
    rng = np.random.default_rng(7)
    found = [spectral_viscosity(stress(8000, rng), interval, volume, T) for _ in range(60)]
    kept = [one for one in found if not one.refused]
    assert len(kept) > 55
    assert np.mean([one.value for one in kept]) == pytest.approx(exact, rel=0.06)
    assert share(found, exact, 0.6827) > 0.52
    assert share(found, exact, 0.95) > 0.85
    short = spectral_viscosity(stress(400, rng), interval, volume, T)
    assert short.refused
    assert short.needs > 1


def test_spectral_viscosity_agrees_with_stacie():
    stacie = pytest.importorskip("stacie")
    interval, volume = 0.01, 8000.0
    rng = np.random.default_rng(8)
    series = stress(40_000, rng)
    ours = spectral_viscosity(series, interval, volume, T)
    from hff_ase.dynamics.observables.viscosity import shear_series

    factor = volume * BAR / (units.kB * T) * 1e-4
    spectrum = stacie.compute_spectrum(
        shear_series(series), prefactors=factor, timestep=interval, include_zero_freq=True
    )
    theirs = stacie.estimate_acint(spectrum, stacie.ExpPolyModel([0, 1, 2]))
    assert abs(ours.value - theirs.acint) < 2.5 * math.hypot(ours.error, theirs.acint_std)
    assert 0.3 < ours.error / theirs.acint_std < 3.5
