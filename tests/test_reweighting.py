"""Reweighting: MBAR against pymbar, derivatives against exact answers and re-simulation."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from torch import Tensor, nn
from toy_md import CUTOFF, EPSILON, SIGMA, argon

from hff_ase.batch import AtomsBatch
from hff_ase.calculators.finetune import estimators, mbar
from hff_ase.calculators.finetune.energies import evaluate
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.pool import Pool
from hff_ase.calculators.finetune.quantities import predict
from hff_ase.calculators.finetune.targets import Target
from hff_ase.declared import Declared
from hff_ase.dynamics.engine.limits import Limits
from hff_ase.dynamics.engine.momenta import random_momenta
from hff_ase.dynamics.engine.torch import (
    INTEGRATORS,
    Conditions,
    Noise,
    StepLoop,
    begin,
    with_forces,
)
from hff_ase.errors import ConfigError
from hff_ase.evaluator import Evaluator
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest
from hff_ase.parameter_vector import ParameterVector
from hff_ase.potential import HybridPotential
from hff_ase.terms.pairwise import share_pairs, switch_off
from hff_ase.terms.term import Fields, Term
from hff_ase.units import BAR

KELVIN, PRESSURE = 500.0, 2000.0
HOT, HIGH = 900.0, 5000.0  # a fluid that forgets quickly, far from freezing


class Attraction(Term):
    """The attractive part of Lennard-Jones, of a size of its own."""

    kind = "toy_attraction"
    pair_request = PairRequest(CUTOFF, "half")

    def __init__(self, sigma: float = SIGMA) -> None:
        super().__init__()
        self.sigma = sigma

    def config(self) -> dict[str, Any]:
        return {"sigma": self.sigma}

    def declared(self) -> dict[str, Declared]:
        return {"sigma": Declared("A", "log", 0.02, "size")}

    def constants(self) -> dict[str, str]:
        return {"sigma": "sigma"}

    def requests(self) -> tuple[PairRequest, ...]:
        return (self.pair_request,)

    def pair(self, r: Tensor) -> Tensor:
        return -4 * EPSILON * (self.sigma / r) ** 6

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        pairs = neighbors.pairs(self.pair_request)
        energy = self.pair(pairs.distance) * switch_off(pairs.distance, 4.0, CUTOFF)
        return share_pairs(energy, pairs, batch.n_atoms)


class Repulsion(Attraction):
    """The repulsive part."""

    kind = "toy_repulsion"

    def pair(self, r: Tensor) -> Tensor:
        return 4 * EPSILON * (self.sigma / r) ** 12


class Network(Attraction):
    """A small network of the distance, between the two."""

    kind = "toy_network"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 1)).double()

    def declared(self) -> dict[str, Declared]:
        return {}

    def constants(self) -> dict[str, str]:
        return {}

    def pair(self, r: Tensor) -> Tensor:
        return EPSILON * self.layers(r[:, None])[:, 0]


def fluid() -> HybridPotential:
    terms = {"repulsion": Repulsion(), "attraction": Attraction(), "network": Network()}
    return HybridPotential(terms).requires_grad_(False).eval()


def sampled(
    potential: HybridPotential, n_replicas: int = 16, n_steps: int = 30000, seed: int = 0
) -> Ensemble:
    """NPT of boxes of 32 argon atoms at 900 K and 5 kbar, one sample every 200 fs."""
    boxes = []
    for k in range(n_replicas):
        atoms = argon(2)
        atoms.set_cell(atoms.cell * 1.06, scale_atoms=True)
        atoms.set_momenta(random_momenta(atoms, HOT, np.random.default_rng(seed + k)))
        boxes.append(atoms)
    batch = AtomsBatch.from_atoms(boxes)
    ones = batch.cell.new_ones(batch.n_systems)
    masses = np.concatenate([atoms.get_masses() for atoms in boxes])
    conditions = Conditions(
        batch=batch,
        masses=torch.as_tensor(masses)[:, None],
        temperature=HOT * ones,
        pressure=HIGH * BAR * ones,
        timestep=5.0 * units.fs,
        friction=5.0 / (1000 * units.fs),
        tdamp=100.0 * units.fs,
        pdamp=300.0 * units.fs,
    )
    forces = Evaluator(potential, 1.0)
    result = forces.evaluate(batch)
    integrator = INTEGRATORS["npt"](conditions)
    momenta = torch.as_tensor(np.concatenate([atoms.get_momenta() for atoms in boxes]))
    state = begin(conditions, batch.positions, momenta, batch.cell)
    state = with_forces(state, conditions, result.energy, result.forces, result.stress)
    noise = Noise(seed, batch, None) if integrator.draws_noise else None
    limits = Limits(displacement=10.0, temperature=1e5)
    loop = StepLoop(integrator, forces, integrator.start(state), 0, limits, noise, 1)
    runs: list[list[Atoms]] = [[] for _ in boxes]
    for done in range(0, n_steps, 40):
        loop.advance(40)
        if done < 8000:  # the density of the lattice takes 20 ps to be forgotten
            continue
        places, cells = loop.state.positions.numpy(), loop.state.cell.numpy()
        for k, atoms in enumerate(boxes):
            now = atoms.copy()
            now.set_cell(cells[k])
            now.positions = places[k * len(atoms) : (k + 1) * len(atoms)]
            now.set_array("molecule", np.arange(len(atoms)))
            runs[k].append(now)
    return Ensemble.of(runs, "argon", HOT, HIGH, interval=0.2)


def test_mbar_is_that_of_pymbar() -> None:
    pymbar = pytest.importorskip("pymbar")
    rng = np.random.default_rng(3)
    stiffness, centre, counts = (
        np.array([1.0, 2.5, 0.7]),
        np.array([0.0, 0.6, -0.4]),
        [300, 150, 80],
    )
    x = np.concatenate(
        [rng.normal(c, k**-0.5, n) for k, c, n in zip(stiffness, centre, counts, strict=True)]
    )
    reduced = 0.5 * stiffness[:, None] * (x - centre[:, None]) ** 2 + np.array([[0.0], [3.0], [-2]])
    theirs = pymbar.MBAR(reduced, counts, solver_protocol="robust")
    ours = mbar.free_energies(reduced, counts)
    np.testing.assert_allclose(ours, theirs.f_k - theirs.f_k[0], atol=1e-7)
    mixture = mbar.log_mixture(reduced, counts)
    target = 0.5 * 1.6 * (x - 0.2) ** 2
    found = mbar.weights(target, mixture)
    expected = theirs.compute_perturbed_free_energies(np.stack([reduced[0], target]))["Delta_f"]
    free = -np.log(np.exp(-target - mixture).sum()) + np.log(np.exp(-reduced[0] - mixture).sum())
    assert free == pytest.approx(expected[0, 1], abs=1e-7)
    assert found.sum() == pytest.approx(1.0)
    mean = theirs.compute_expectations(x, u_kn=target)["mu"][0]
    assert found @ x == pytest.approx(mean, abs=1e-8)


def test_one_state_is_plain_reweighting() -> None:
    rng = np.random.default_rng(0)
    u0, u1 = rng.normal(size=50), rng.normal(size=50)
    found = mbar.weights(u1, mbar.log_mixture(u0[None], [50]))
    expected = np.exp(u0 - u1)
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-12)
    assert mbar.effective_samples(np.full(50, 0.02)) == pytest.approx(50.0)
    steps = [mbar.effective_samples(mbar.weights(u0 + s * u1, mbar.log_mixture(u0[None], [50])))
             for s in (0.0, 0.3, 1.0, 3.0)]  # fmt: skip
    assert steps[0] == pytest.approx(50.0)
    assert all(after < before for before, after in pairwise(steps))


def test_the_derivative_of_a_harmonic_oscillator_is_exact() -> None:
    """<x^2> = 1/(beta k): its derivative in ln k is -1/(beta k), with an error bar that holds."""
    beta, k = 2.0, 1.5
    rng = np.random.default_rng(5)
    errors = []
    for _ in range(20):
        x = rng.normal(0.0, (beta * k) ** -0.5, 4000)
        values, gradients = x[:, None] ** 2, 0.5 * k * x[:, None] ** 2
        weight = np.full(len(x), 1.0 / len(x))
        label = estimators.blocks(np.repeat(np.arange(4), 1000), 10)

        def estimate(times: np.ndarray, weight: np.ndarray = weight, values: np.ndarray = values,
                     gradients: np.ndarray = gradients) -> np.ndarray:  # fmt: skip
            w = estimators.counted(weight, times)
            return estimators.derivative(values, gradients, beta, w)[0, 0]

        found = float(estimate(np.ones(len(x))))
        spread = float(estimators.bootstrap(label, estimate, 100).std(ddof=1))
        errors.append((found + 1.0 / (beta * k)) / spread)
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.5


def fluid_samples(n: int = 24) -> Ensemble:
    rng = np.random.default_rng(0)
    runs = []
    for _ in range(2):
        run = []
        for _ in range(n // 2):
            atoms = argon(2)
            atoms.set_cell(atoms.cell * rng.uniform(1.0, 1.1), scale_atoms=True)
            atoms.positions += 0.2 * rng.normal(size=atoms.positions.shape)
            atoms.set_array("molecule", np.arange(len(atoms)) // 2)
            run.append(atoms)
        runs.append(run)
    return Ensemble.of(runs, "argon", KELVIN, PRESSURE)


def test_pressures_and_their_derivatives() -> None:
    ensemble, potential = fluid_samples(), fluid()
    theta = ParameterVector(potential, ["attraction.*", "network.layers.2.*"])
    found = evaluate(potential, ensemble, theta, pressure=True, samples=range(4))
    assert found.gradient is not None
    assert found.pressure is not None
    assert found.pressure_gradient is not None
    start, ends = theta.get(), []
    direction = np.random.default_rng(0).normal(size=len(start))
    for sign in (1.0, -1.0):
        theta.set(start + sign * 1e-4 * direction)
        ends.append(evaluate(potential, ensemble, pressure=True, samples=range(4)))
    theta.set(start)
    for name in ("total", "pressure"):
        difference = (getattr(ends[0], name) - getattr(ends[1], name)) / 2e-4
        gradient = found.gradient if name == "total" else found.pressure_gradient
        np.testing.assert_allclose(gradient @ direction, difference, rtol=1e-5)
    assert sum(found.terms.values()) == pytest.approx(found.total)
    # the pressure by volumes that grow with molecules as they are
    volumes = ensemble.volumes[:4]
    energies = []
    for factor in (1.0001, 0.9999):
        moved = [ensemble.atoms(k) for k in range(4)]
        for atoms in moved:
            centre = atoms.positions.reshape(-1, 2, 3).mean(1).repeat(2, axis=0)
            atoms.set_cell(atoms.cell * factor)
            atoms.positions += (factor - 1.0) * centre
        batch = AtomsBatch.from_atoms(moved)
        energies.append(Evaluator(potential, trajectory=False).evaluate(batch).energy.numpy())
    virial = -(energies[0] - energies[1]) / (2e-4 * 3.0 * volumes)
    ideal = ensemble.n_molecules / ensemble.beta / volumes
    np.testing.assert_allclose(found.pressure, (ideal + virial) / BAR, rtol=1e-5)


def test_ensembles_are_kept(tmp_path: Any) -> None:
    ensemble = fluid_samples()
    ensemble.save(tmp_path / "kept.npz")
    again = Ensemble.load(tmp_path / "kept.npz")
    np.testing.assert_array_equal(again.positions, ensemble.positions)
    assert (again.liquid, again.pressure, len(again)) == ("argon", PRESSURE, 24)
    assert len(again.joined([ensemble])) == 48
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(ConfigError, match="expected an ensemble"):
        Ensemble.load(tmp_path / "damaged.npz")
    with pytest.raises(ConfigError, match="at least 20 samples of argon at 500 K, got 10"):
        fluid_samples(10)


def test_a_target_without_samples_is_refused() -> None:
    pool = Pool.of([fluid_samples()], [fluid()]).with_model(fluid())
    with pytest.raises(ConfigError, match=r"within 15 K for density of argon, 300 K.*argon 500 K"):
        predict(Target("argon", "density", 300.0, 1.0, 0.01), [pool])
    with pytest.raises(ConfigError, match="molecule alone"):
        predict(Target("argon", "heat_of_vaporisation", 500.0, 10.0, 0.1), [pool])
    rdf = Target("argon", "rdf", 500.0, 1.0, 0.1, pair="Ar-Kr", distance=3.0)
    with pytest.raises(ConfigError, match=r"pair of elements of argon \(Ar\), got 'Ar-Kr'"):
        predict(rdf, [pool])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attraction.scale", "repulsion.sigma", "network.layers.2.weight"])
def test_derivatives_are_those_of_simulations(name: str) -> None:
    """Density and g(r) of a liquid that is simulated again with changed parameters."""
    potential = fluid()
    theta = ParameterVector(potential, [name])
    start = theta.get()
    here = sampled(potential)
    pool = Pool.of([here], [potential]).with_model(potential, theta)
    targets = [
        Target("argon", "density", HOT, 1.0, 0.01, HIGH),
        Target("argon", "rdf", HOT, 1.0, 0.01, HIGH, pair="Ar-Ar", distance=3.6),
    ]
    # along the steepest way, as far as changes the energies of samples by kT or so
    direction = predict(targets[0], [pool]).gradient
    assert direction is not None
    direction = direction * 0.8 / (here.beta * (pool.known.gradient @ direction).std())
    ends = []
    for seed, sign in ((100, 1.0), (200, -1.0)):
        theta.set(start + sign * direction)
        again = sampled(potential, seed=seed + 1000 * len(name))
        there = Pool.of([again], [potential]).with_model(potential)
        ends.append([predict(target, [there]) for target in targets])
        # the first samples, reweighted to that model
        moved = pool.with_model(potential)
        for target, expected in zip(targets, ends[-1], strict=True):
            found = predict(target, [moved])
            assert found.n_eff < len(here)
            told = f"{found.value:.4f} +- {found.error:.4f}, N_eff {found.n_eff:.0f}"
            told += f"; simulated {expected.value:.4f} +- {expected.error:.4f}"
            print(f"{name} {sign:+g}, {target}: reweighted {told}")
            apart = abs(found.value - expected.value)
            assert apart < 4.0 * np.hypot(found.error, expected.error), (name, str(target))
    theta.set(start)
    for k, target in enumerate(targets):
        found = predict(target, [pool])
        assert found.gradient is not None
        assert found.gradient_draws is not None
        slope = float(found.gradient @ direction)
        error = float((found.gradient_draws @ direction).std(ddof=1))
        up, down = ends[0][k], ends[1][k]
        expected = 0.5 * (up.value - down.value)
        spread = 0.5 * np.hypot(up.error, down.error)
        print(
            f"{name} {target}: {slope:.5f} +- {error:.5f}, simulated {expected:.5f} +- {spread:.5f}"
        )
        assert abs(slope - expected) < 3.5 * np.hypot(error, spread)
        assert abs(slope) > 3.0 * np.hypot(error, spread) or target.quantity == "rdf"
