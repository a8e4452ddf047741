"""Transport as targets: lines through runs at several values of a few scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_reweighting import fluid

from hff_ase.calculators import HybridFF
from hff_ase.calculators.finetune.calibrate import calibrate
from hff_ase.calculators.finetune.conditioning import conditioning
from hff_ase.calculators.finetune.responses import Response, read_responses
from hff_ase.calculators.finetune.targets import Target, target_of
from hff_ase.checkpoint import ModelInfo
from hff_ase.dynamics.sampling.config import ResponseSettings
from hff_ase.dynamics.sampling.response_run import ResponseRun
from hff_ase.errors import ConfigError
from hff_ase.parameter_vector import ParameterVector
from hff_ase.training.fit_config import CalibrateSettings

SCALES = ["repulsion.scale", "attraction.scale"]  # in the order of the potential
FACTORS = (0.85, 0.925, 1.0, 1.075, 1.15)
TRUE = np.array([np.log(0.58), 2.4, -1.1])  # ln viscosity at scales of 1, and its slopes
VISCOSITY = Target("argon", "viscosity", 298.15, 0.6, 0.001)


def scans() -> np.ndarray:
    """One scale at a time: ln of both [9, 2]."""
    each = np.log(FACTORS)
    first = np.stack([each, np.zeros(5)], axis=1)
    return np.concatenate([first, first[[0, 1, 3, 4]][:, ::-1]])


def truth(theta: np.ndarray) -> np.ndarray:
    return np.exp(TRUE[0] + theta @ TRUE[1:])


def response(noise: float = 0.03, seed: int = 0) -> Response:
    theta = scans()
    values = truth(theta) * (1.0 + noise * np.random.default_rng(seed).normal(size=len(theta)))
    return Response.fit(VISCOSITY, SCALES, theta, values, 0.03 * values)


def vector(calc: HybridFF | None = None) -> ParameterVector:
    return ParameterVector(fluid() if calc is None else calc.potential, SCALES)


def test_errors_of_slopes_and_values_are_honest() -> None:
    """Over 300 sets of runs: deviations from the truth in units of the error have variance 1."""
    theta, z = vector(), []
    for seed in range(300):
        found = response(seed=seed)
        one = found.predict(VISCOSITY, theta, 50, seed)
        slopes = np.sqrt(np.diag(found.covariance))[1:]
        z.append(
            [(one.value - np.exp(TRUE[0])) / one.error, *((found.coefficients - TRUE)[1:] / slopes)]
        )
    # errors that are widened by chi^2 alone are a little larger than needed on average
    assert np.sqrt(np.mean(np.square(z), axis=0)) == pytest.approx(np.full(3, 0.9), abs=0.12)
    assert np.abs(np.mean(z, axis=0)).max() < 0.2


def test_runs_that_scatter_more_than_their_errors_widen_them() -> None:
    tight, wide = response(noise=0.03, seed=1), response(noise=0.15, seed=1)
    assert wide.chi2 > 5.0
    ratio = np.diag(wide.covariance) / np.diag(tight.covariance)
    assert np.all(ratio > 4.0)


def test_a_prediction_is_that_of_the_line_with_its_derivatives() -> None:
    found, theta = response(noise=0.0), vector()
    at = np.array([0.05, -0.03])
    theta.set(at)
    one = found.predict(VISCOSITY, theta, 400, 0)
    assert one.value == pytest.approx(float(truth(at[None])[0]), rel=1e-9)
    ends = [truth((at + sign * 1e-5 * np.eye(2)[k])[None])[0] for k in (0, 1) for sign in (1, -1)]
    slopes = [(ends[0] - ends[1]) / 2e-5, (ends[2] - ends[3]) / 2e-5]
    np.testing.assert_allclose(one.gradient, slopes, rtol=1e-6)
    assert one.draws.std() == pytest.approx(one.error, rel=0.15)


def test_a_viscosity_is_met_by_the_scale_that_has_it() -> None:
    calc = HybridFF(fluid(), ModelInfo("toy", "a toy"), dtype="float64")
    wanted = float(truth(np.array([[0.06, 0.0]]))[0])
    target = replace(VISCOSITY, value=wanted, uncertainty=1e-4)
    theta = np.log(np.array(FACTORS))[:, None]
    exact = truth(np.hstack([theta, np.zeros_like(theta)]))
    line = Response.fit(VISCOSITY, SCALES[:1], theta, exact, 1e-3 * exact)
    settings = CalibrateSettings(n_draws=20, prior=100.0)
    made, report = calibrate(calc, [], [target], SCALES[:1], settings=settings, responses=[line])
    assert ParameterVector(made.potential, SCALES[:1]).get()[0] == pytest.approx(0.06, abs=2e-3)
    assert report.after[0].value == pytest.approx(wanted, rel=1e-3)
    assert not report.needs_samples
    far = replace(target, value=2.0)  # half a unit of theta away: no run was there
    made, report = calibrate(calc, [], [far], SCALES[:1], settings=settings, responses=[line])
    assert report.needs_samples
    assert 0.0 < ParameterVector(made.potential, SCALES[:1]).get()[0] < 0.25
    about = conditioning(calc, [], [target], SCALES[:1], responses=[line], n_draws=20)
    assert about.jacobian[0, 0] == pytest.approx(
        0.1 * 2.4 * about.values[0] / np.hypot(1e-4, about.errors[0]), rel=1e-6
    )


def test_a_table_of_runs_is_read_with_its_units(tmp_path: Path) -> None:
    path = tmp_path / "responses.csv"
    rows = ["liquid,quantity,temperature,unit,attraction.scale,repulsion.scale,value,error"]
    for at, value in zip(np.exp(scans()), truth(scans()), strict=True):
        rows.append(f"argon,viscosity,298.15,Pa s,{at[0]},{at[1]},{1e-3 * value},{3e-5 * value}")
    path.write_text("\n".join(rows) + "\n")
    (found,) = read_responses(path, vector())
    np.testing.assert_allclose(found.coefficients[1:], TRUE[1:], rtol=1e-6)
    assert set(found.names) == set(SCALES)
    assert found.is_of(VISCOSITY)
    assert not found.is_of(replace(VISCOSITY, temperature=310.0))


def test_runs_change_one_scale_at_a_time_and_their_table_gives_the_line(tmp_path: Path) -> None:
    """With a model's own scales as what is measured: the line comes back exactly."""
    calc, names = HybridFF.load("electrolyte"), ["coulomb.scale", "dispersion.scale"]
    seen: list[Path] = []

    def measure(
        place: Path, model: Path, targets: Sequence[Target], settings: ResponseSettings
    ) -> list[tuple[float, float]]:
        seen.append(place)
        at = ParameterVector(HybridFF.load(model).potential, names).get()
        value = float(np.exp(0.3 - 1.5 * at[0] + 2.0 * at[1]))
        return [(value, 0.02 * value) for _ in targets]

    targets = [
        Target("DMC", "viscosity", 298.15, 0.6, 0.01),
        Target("DMC", "density", 298.15, 1.0636, 0.001),
    ]
    run = ResponseRun(calc, targets, tmp_path, names, measure=measure)
    table = tmp_path / "responses.csv"
    run.write(table, run.run())
    assert len(seen) == len(set(seen)) == 9
    (line,) = read_responses(table, ParameterVector(calc.potential, names))
    slopes = dict(zip(line.names, line.coefficients[1:], strict=True))
    assert slopes == pytest.approx({"coulomb.scale": -1.5, "dispersion.scale": 2.0}, rel=1e-6)
    assert line.is_of(targets[0])
    assert ParameterVector(calc.potential, names).values() == [1.0, 1.0]  # the model is left alone
    with pytest.raises(ConfigError, match="targets of transport"):
        ResponseRun(calc, targets[1:], tmp_path, names)
    with pytest.raises(ConfigError, match="5 positive factors or more"):
        ResponseSettings(values=(0.9, 1.0, 1.1))


def test_what_a_response_refuses(tmp_path: Path) -> None:
    theta, value = scans(), truth(scans())
    with pytest.raises(ConfigError, match=r"5 values of repulsion\.scale or more"):
        Response.fit(VISCOSITY, SCALES, theta[:4], value[:4], 0.1 * value[:4])
    together = np.repeat(theta[:5, :1], 2, axis=1)
    with pytest.raises(ConfigError, match="change together"):
        Response.fit(VISCOSITY, SCALES, together, value[:5], 0.1 * value[:5])
    line, more = response(), ParameterVector(fluid(), [*SCALES, "network.scale"])
    with pytest.raises(ConfigError, match="not for network"):
        line.predict(VISCOSITY, more, 5, 0)
    fewer = ParameterVector(fluid(), SCALES[:1])
    with pytest.raises(ConfigError, match=r"attraction\.scale among the fitted parameters"):
        line.predict(VISCOSITY, fewer, 5, 0)
    calc = HybridFF(fluid(), ModelInfo("toy", "a toy"), dtype="float64")
    with pytest.raises(ConfigError, match="no average over structures"):
        calibrate(calc, [], [VISCOSITY], SCALES)
    with pytest.raises(ConfigError, match="species for self_diffusion"):
        target_of({"liquid": "DMC", "quantity": "self_diffusion", "temperature": 298, "value": 1,
                   "uncertainty": 0.1})  # fmt: skip
    path = tmp_path / "responses.csv"
    path.write_text("liquid,quantity,temperature,value,error\nDMC,viscosity,298,0.6,0.02\n")
    with pytest.raises(ConfigError, match="columns of fitted parameters"):
        read_responses(path, vector())
    path.write_text(
        "liquid,quantity,temperature,attraction.scale,value,error\nDMC,viscosity,298,no,0.6,0.02\n"
    )
    with pytest.raises(ConfigError, match=r"run 1: expected numbers for attraction\.scale"):
        read_responses(path, vector())
