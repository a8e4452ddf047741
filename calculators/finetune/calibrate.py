"""Calibration: parameters changed until reweighted averages agree with experiment."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from hff_ase.calculators.finetune.ab_initio import LabelledForces
from hff_ase.calculators.finetune.align import pools_of
from hff_ase.calculators.finetune.calibration import MANY, Calibration
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.gauss_newton import Problem, basis_of
from hff_ase.calculators.finetune.mbar import effective_samples
from hff_ase.calculators.finetune.pool import Pool
from hff_ase.calculators.finetune.quantities import Prediction
from hff_ase.calculators.finetune.responses import Response, predicted
from hff_ase.calculators.finetune.targets import Target
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.errors import ConfigError
from hff_ase.parameter_vector import ParameterVector
from hff_ase.training.fit_config import CalibrateSettings

__all__ = ["calibrate"]

Array = NDArray[np.float64]
DAMPINGS = (0.0, *(10.0**k for k in range(-3, 7)))
HALVINGS = 4  # of a step that makes matters worse


def calibrate(
    calc: HybridFF,
    ensembles: Sequence[Ensemble],
    targets: Sequence[Target],
    parameters: Sequence[str] = ("physical",),
    *,
    settings: CalibrateSettings | Mapping[str, Any] | None = None,
    frames: Sequence[Atoms] = (),
    sampled_with: Sequence[HybridFF] | None = None,
    prior_mean: Array | None = None,
    responses: Sequence[Response] = (),
) -> tuple[HybridFF, Calibration]:
    """Change parameters until reweighted averages agree with targets.

    A target's deviation counts in units of its uncertainty and the statistical error of the model's
    own value, taken together. With labelled frames and ``settings.weight`` the squared error of
    forces, over what it was, is part of the objective.

    Args:
        calc: whose model is calibrated; it is left unchanged.
        ensembles: samples of all that targets need; none where all are of transport.
        targets: those kept out are predicted only.
        parameters: names, patterns or groups.
        settings: `CalibrateSettings`.
        frames: with forces, for the second loss or for its change to be reported.
        sampled_with: of each ensemble, where it was not ``calc``.
        prior_mean: theta [p] that the prior is about; None for ``calc``'s.
        responses: of transport to the parameters, for targets of it.

    Returns:
        The calibrated calculator and what was done.

    Raises:
        ConfigError: no targets to fit, no samples of one, unknown parameters, a weight without
            frames.
    """
    chosen = CalibrateSettings.load(settings)
    fitted = [k for k, target in enumerate(targets) if not target.kept_out]
    if not fitted:
        raise ConfigError("expected targets to calibrate to, got none")
    if chosen.weight > 0 and not frames:
        raise ConfigError("expected labelled frames with a weight of forces, got none")
    new = copy.deepcopy(calc.potential)
    theta = ParameterVector(new, parameters)
    labelled = LabelledForces(frames, new) if frames else None
    models = [one.potential for one in sampled_with or [calc] * len(ensembles)]
    needs_pressure = any(target.quantity == "pressure" for target in targets)
    pools = pools_of(ensembles, models) if ensembles else []  # transport needs none
    work = _Work(theta, pools, targets, fitted, chosen, labelled,
                 needs_pressure, prior_mean, responses)  # fmt: skip
    report = work.run()
    info = replace(
        calc.info,
        name=f"{calc.info.name}-calibrated",
        details={**calc.info.details, "calibration": report.as_dict()},
    )
    made = HybridFF(
        new,
        info,
        device=str(calc.device),
        dtype=calc.dtype,
        skin=calc.skin,
        kernels=calc.potential.kernels,
    )
    return made, report


class _Work:
    """The iterations of a calibration."""

    def __init__(
        self,
        theta: ParameterVector,
        pools: Sequence[Pool],
        targets: Sequence[Target],
        fitted: Sequence[int],
        settings: CalibrateSettings,
        labelled: LabelledForces | None,
        pressure: bool,
        prior_mean: Array | None,
        responses: Sequence[Response],
    ) -> None:
        self.responses = responses
        self.theta, self.targets, self.fitted = theta, list(targets), list(fitted)
        self.settings, self.labelled, self.pressure = settings, labelled, pressure
        self.start = theta.get()
        self.mean = self.start if prior_mean is None else prior_mean
        self.width = settings.prior * theta.prior_width
        self.pools = [p.with_model(theta.potential, theta, pressure) for p in pools]
        self.before = self._predictions(self.pools)
        self.sigma = np.array(
            [np.hypot(self.before[k].target.uncertainty, self.before[k].error) for k in fitted]
        )
        self.first_errors = None if labelled is None else labelled.errors(theta.potential)

    def run(self) -> Calibration:
        """Steps until nothing changes any more, or the samples are used up."""
        found, chi2 = self.before, [self._chi2(self.before)]
        value, problem = self._objective(found), self._problem(found)
        for _ in range(self.settings.iterations):
            taken = self._step(problem, value)
            if taken is None:
                break
            small = value - taken[0] < self.settings.converged * max(value, 1e-12)
            value, found = taken
            chi2.append(self._chi2(found))
            problem = self._problem(found)
            if small:
                break
        # the whole way from here is farther than the samples reach
        whole = problem.step()
        needs = samples_left(self.pools, whole)[1] < self.settings.least
        goal, labels = self.theta.get() + whole, self.theta.labels
        needs |= not all(response.covers(labels, goal) for response in self.responses)
        return self._report(found, problem, chi2, needs)

    def _step(self, problem: Problem, value: float) -> tuple[float, list[Prediction]] | None:
        """Take a step that lowers the objective; returns its new value, None if there is none."""
        at, step = self.theta.get(), self._trusted(problem)
        for _ in range(HALVINGS):
            self.theta.set(at + step)
            pools = [
                pool.with_model(self.theta.potential, self.theta, self.pressure)
                for pool in self.pools
            ]
            found = self._predictions(pools)
            after = self._objective(found)
            if after < value:
                self.pools = pools
                return after, found
            step = 0.5 * step
        self.theta.set(at)
        return None

    def _report(
        self, found: list[Prediction], problem: Problem, chi2: list[float], needs: bool
    ) -> Calibration:
        potential, rmse = self.theta.potential, list[float]()
        if self.labelled is not None and self.first_errors is not None:
            rmse = [float(np.sqrt(np.mean(self.first_errors**2))), self.labelled.rmse(potential)]
        many = len(self.start) > MANY
        posterior = np.full(len(self.start), np.nan)
        if not many:
            posterior = np.sqrt(np.maximum(np.diag(problem.covariance()), 0.0))
        return Calibration(
            self.theta.labels,
            self.start,
            self.theta.get(),
            self.width,
            posterior,
            self.before,
            found,
            chi2,
            rmse,
            needs,
        )

    def _predictions(self, pools: Sequence[Pool]) -> list[Prediction]:
        draws, seed = self.settings.n_draws, self.settings.seed
        return [
            predicted(target, pools, self.theta, self.responses, draws, seed)
            for target in self.targets
        ]

    def _residuals(self, found: Sequence[Prediction]) -> Array:
        own = [found[k].value - found[k].target.value for k in self.fitted]
        return np.array(own) / self.sigma

    def _chi2(self, found: Sequence[Prediction]) -> float:
        return float((self._residuals(found) ** 2).sum())

    def _objective(self, found: Sequence[Prediction]) -> float:
        value = self._chi2(found) + float(
            (((self.theta.get() - self.mean) / self.width) ** 2).sum()
        )
        if self.settings.weight > 0 and self.labelled is not None and self.first_errors is not None:
            errors = self.labelled.errors(self.theta.potential)
            value += self.settings.weight * float((errors**2).sum() / (self.first_errors**2).sum())
        return value

    def _problem(self, found: Sequence[Prediction]) -> Problem:
        rows = [found[k].gradient for k in self.fitted]
        jacobian = np.stack([row for row in rows if row is not None]) / self.sigma[:, None]
        basis = basis_of(jacobian, self.width)
        offset = self.theta.get() - self.mean
        problem = Problem(self._residuals(found), jacobian, offset, self.width, basis)
        if self.settings.weight == 0 or self.labelled is None or self.first_errors is None:
            return problem
        return replace(
            problem,
            errors=self.labelled.errors(self.theta.potential),
            errors_along=self.labelled.along(self.theta, basis),
            weight=self.settings.weight / float((self.first_errors**2).sum()),
        )

    def _trusted(self, problem: Problem) -> Array:
        """The longest step that leaves enough effective samples and stays where the runs were."""
        step = problem.step(DAMPINGS[-1])
        at, labels = self.theta.get(), self.theta.labels
        for damping in DAMPINGS:
            step = problem.step(damping)
            ratio, left = samples_left(self.pools, step)
            covered = all(response.covers(labels, at + step) for response in self.responses)
            if ratio >= self.settings.trust and left >= self.settings.least and covered:
                break
        return step


def samples_left(pools: Sequence[Pool], step: Array) -> tuple[float, float]:
    """Effective samples after a step in theta, to first order: over those now, and over all; 1
    without any samples.

    Args:
        pools: looked at with gradients.
        step: [p].
    """
    ratios, parts = [], []
    for pool in pools:
        gradient = pool.known.gradient
        if gradient is None:
            raise ConfigError("expected pools with gradients")
        now = effective_samples(pool.weights())
        after = effective_samples(pool.weights(shift=gradient @ step))
        ratios.append(after / now)
        parts.append(after / len(pool.ensemble))
    return min(ratios, default=1.0), min(parts, default=1.0)


def pareto(
    calc: HybridFF,
    ensembles: Sequence[Ensemble],
    targets: Sequence[Target],
    parameters: Sequence[str],
    frames: Sequence[Atoms],
    weights: Sequence[float],
    settings: CalibrateSettings | Mapping[str, Any] | None = None,
) -> list[tuple[float, Calibration]]:
    """Calibrations over several weights of the forces: what agreement with experiment costs.

    Raises:
        ConfigError: as `calibrate`.
    """
    chosen = CalibrateSettings.load(settings)
    found = []
    for weight in weights:
        own = CalibrateSettings.load(chosen, {"weight": float(weight)})
        _, report = calibrate(calc, ensembles, targets, parameters, settings=own, frames=frames)
        found.append((float(weight), report))
    return found
