"""Calibration by reweighting and what targets say of parameters, on a liquid of toy atoms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from test_reweighting import KELVIN, PRESSURE, fluid, fluid_samples

from hff_ase.calculators import HybridFF
from hff_ase.calculators.finetune.ab_initio import LabelledForces
from hff_ase.calculators.finetune.calibrate import calibrate, pareto
from hff_ase.calculators.finetune.conditioning import conditioning
from hff_ase.calculators.finetune.conditioning_plot import plot_conditioning
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.gauss_newton import Problem, basis_of
from hff_ase.calculators.finetune.pool import Pool
from hff_ase.calculators.finetune.quantities import predict
from hff_ase.calculators.finetune.targets import Target
from hff_ase.checkpoint import ModelInfo
from hff_ase.errors import ConfigError
from hff_ase.parameter_vector import ParameterVector
from hff_ase.training.fit_config import CalibrateSettings
from hff_ase.units import GRAM_PER_CM3

PARAMETERS = ["attraction.*", "repulsion.scale"]
DENSITY = Target("argon", "density", KELVIN, 1.0, 0.003, PRESSURE)


def calculator() -> HybridFF:
    return HybridFF(fluid(), ModelInfo("toy", "a toy"), dtype="float64")


@pytest.fixture(scope="module")
def samples() -> Ensemble:
    """No run, but structures of differing volumes: weights do not ask where samples are from."""
    return fluid_samples(200)


@pytest.fixture(scope="module")
def wanted(samples: Ensemble) -> list[Target]:
    """What another model says of the same samples: known to be within reach."""
    potential = fluid()
    theta = ParameterVector(potential, PARAMETERS)
    own = Pool.of([samples], [fluid()])
    theta.set(theta.get() + np.array([0.02, 0.002, -0.01]))
    targets = [DENSITY, Target("argon", "coordination", KELVIN, 1.0, 0.05, PRESSURE,
                               pair="Ar-Ar", distance=4.2)]  # fmt: skip
    pool = own.with_model(potential)
    return [replace(target, value=predict(target, [pool]).value) for target in targets]


@pytest.mark.slow
def test_targets_are_met_where_another_model_meets_them(
    samples: Ensemble, wanted: list[Target]
) -> None:
    calc = calculator()
    before = ParameterVector(calc.potential, PARAMETERS).get()
    settings = CalibrateSettings(n_draws=20, prior=10.0, converged=1e-4)
    new, report = calibrate(calc, [samples], wanted, PARAMETERS, settings=settings)
    np.testing.assert_array_equal(ParameterVector(calc.potential, PARAMETERS).get(), before)
    np.testing.assert_allclose(ParameterVector(new.potential, PARAMETERS).get(), report.theta)
    assert report.chi2[-1] < 0.05 * report.chi2[0]
    assert all(b < a for a, b in zip(report.chi2[:-1], report.chi2[1:], strict=True))
    assert (report.posterior < report.width).all()
    assert "coordination Ar-Ar 4.2 A of argon" in report.markdown()
    assert new.info.details["calibration"]["chi2"] == report.chi2
    # what is kept out does not pull
    out = [replace(target, kept_out=True) for target in wanted]
    _, alone = calibrate(calc, [samples], [wanted[0], out[1]], PARAMETERS, settings=settings)
    assert alone.after[1].target.kept_out
    assert abs(alone.after[0].deviation) < abs(alone.before[0].deviation)
    assert not np.allclose(alone.theta, report.theta)


def test_steps_end_where_samples_do(samples: Ensemble, wanted: list[Target]) -> None:
    densest = samples.mass / samples.volumes.min() / GRAM_PER_CM3
    far = [replace(wanted[0], value=0.999 * densest)]
    settings = CalibrateSettings(n_draws=10, prior=100.0, least=0.5)
    _, report = calibrate(calculator(), [samples], far, PARAMETERS, settings=settings)
    assert report.needs_samples
    assert report.after[0].n_eff > 0.3 * len(samples)


@pytest.mark.slow
def test_forces_hold_parameters_back(samples: Ensemble, wanted: list[Target]) -> None:
    calc = calculator()
    frames = [samples.atoms(k) for k in range(4)]
    rng = np.random.default_rng(0)
    for atoms in frames:
        atoms.calc = calc
        forces = atoms.get_forces() + 0.01 * rng.normal(size=(len(atoms), 3))
        atoms.calc = SinglePointCalculator(atoms, forces=forces, energy=0.0)
    settings = CalibrateSettings(n_draws=10, prior=10.0)
    front = pareto(calc, [samples], wanted, PARAMETERS, frames, [0.0, 1e2, 1e5], settings)
    rmse = [report.force_rmse[1] for _, report in front]
    chi2 = [report.chi2[-1] for _, report in front]
    assert rmse[0] > rmse[1] > rmse[2] - 1e-9
    assert chi2[0] <= chi2[1] <= chi2[2]
    assert rmse[2] == pytest.approx(0.01, rel=0.1)
    labelled, theta = LabelledForces(frames, calc.potential), None
    theta = ParameterVector(calc.potential, PARAMETERS)
    slopes, start = labelled.along(theta, np.eye(3)), theta.get()
    theta.set(start + np.array([1e-3, 0.0, 0.0]))
    moved = labelled.forces(calc.potential)
    theta.set(start)
    difference = (moved - labelled.forces(calc.potential)).reshape(-1) / 1e-3
    np.testing.assert_allclose(slopes[:, 0], difference, rtol=1e-2, atol=1e-3)


def test_conditioning_finds_what_cannot_be_told_apart(
    samples: Ensemble, wanted: list[Target], tmp_path: Path
) -> None:
    """The attraction's strength and the sixth power of its size are one thing."""
    found = conditioning(calculator(), [samples], wanted, ["attraction.*"], n_draws=20)
    assert found.jacobian.shape == (2, 2)
    ratio = found.jacobian[:, 1] / found.jacobian[:, 0]  # d/dln sigma = 6 d/dln scale
    np.testing.assert_allclose(ratio, 6.0 * 0.02 / 0.1, rtol=1e-5)
    assert found.singular[1] < 1e-5 * found.singular[0]
    assert found.dimension == pytest.approx(
        float((found.singular**2 / (1 + found.singular**2)).sum())
    )
    assert np.isnan(found.condition)
    assert found.left[0] == pytest.approx(1.0)
    assert found.left[-1] < 1.0
    assert "attraction.sigma" in found.leading(0)
    assert "fewer than two" in found.markdown()
    plot_conditioning(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_what_other_liquids_say_of_a_target(samples: Ensemble, wanted: list[Target]) -> None:
    """The same samples under two names: each follows the other as far as the prior lets it."""
    both = [samples, replace(samples, liquid="krypton")]
    targets = [wanted[0], replace(wanted[0], liquid="krypton")]
    found = conditioning(calculator(), both, targets, ["attraction.scale"], n_draws=20)
    determined = found.jacobian[:, 0] ** 2 / (1.0 + found.jacobian[:, 0] ** 2)
    measured = np.array([target.value for target in targets])
    expected = found.values - (found.values - measured) * determined
    np.testing.assert_allclose(found.left_out, expected, rtol=1e-9)
    assert (np.abs(found.left_out - measured) < np.abs(found.values - measured)).all()
    assert 0.0 < found.scatter < 2.0
    alone = conditioning(calculator(), [samples], wanted, ["attraction.scale"], n_draws=5)
    assert np.isnan(alone.left_out).all()
    assert alone.as_dict()["fitted_to_other_liquids"] == [None, None]


def test_a_step_is_the_minimum_of_a_linear_problem() -> None:
    rng = np.random.default_rng(2)
    residuals, jacobian, width = (
        rng.normal(size=4),
        rng.normal(size=(4, 150)),
        rng.uniform(1, 2, 150),
    )
    offset = np.zeros(150)
    problem = Problem(residuals, jacobian, offset, width, basis_of(jacobian, width))
    assert problem.basis.shape == (150, 4)
    hessian = jacobian.T @ jacobian + np.diag(width**-2)
    exact = -np.linalg.solve(hessian, jacobian.T @ residuals)
    np.testing.assert_allclose(problem.step(), exact, atol=1e-10)
    assert np.linalg.norm(problem.step(1e3)) < 0.1 * np.linalg.norm(exact)


def test_what_a_calibration_refuses(samples: Ensemble) -> None:
    calc = calculator()
    with pytest.raises(ConfigError, match="expected targets to calibrate to"):
        calibrate(calc, [samples], [replace(DENSITY, kept_out=True)], PARAMETERS)
    with pytest.raises(ConfigError, match="labelled frames with a weight"):
        calibrate(calc, [samples], [DENSITY], PARAMETERS, settings=CalibrateSettings(weight=1.0))
    with pytest.raises(ConfigError, match="trust: expected more than 0"):
        calibrate(calc, [samples], [DENSITY], PARAMETERS, settings={"trust": 0.0})
    with pytest.raises(ConfigError, match="unknown setting 'thrust'; did you mean trust"):
        calibrate(calc, [samples], [DENSITY], PARAMETERS, settings={"thrust": 0.5})
    with pytest.raises(ConfigError, match="physical, heads, lora or names"):
        calibrate(calc, [samples], [DENSITY], ["spam"])
    with pytest.raises(ConfigError, match="targets for a conditioning report"):
        conditioning(calc, [samples], [])
    with pytest.raises(ConfigError, match="frames with forces, got frame 0 without"):
        LabelledForces([samples.atoms(0)], calc.potential)
