r"""Transport as a function of a few scales: what reweighting cannot give, by regression over runs.

A diffusion coefficient is no average over structures, and trajectories of two models part within
picoseconds, so that differences of two runs have the noise of both. Runs at several values of a
few scales determine

.. math:: \ln A(\theta) = a + \sum_s b_s (\theta_s - \bar\theta_s)

by weighted least squares, theta in the coordinates of the parameters' transforms (logarithms of
scales); a spread about the line that is larger than the runs' errors widens all errors.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hff_ase.calculators.finetune.pool import Pool
from hff_ase.calculators.finetune.quantities import Prediction, predict
from hff_ase.calculators.finetune.targets import QUANTITIES, Target, target_of
from hff_ase.errors import ConfigError
from hff_ase.parameter_vector import ParameterVector

__all__ = ["Response", "read_responses"]

Array = NDArray[np.float64]
FEWEST = 5  # values of a parameter
SPAN = 0.2  # of theta between the least and the largest: +-10 % of a scale
BEYOND = 0.25  # of that span, that a calibration may go beyond it on either side


@dataclass(frozen=True, eq=False)
class Response:
    """A transport property as a function of parameters.

    Attributes:
        measured: of what: a target, whose value is not used.
        names: of the parameters, [s].
        lowest, highest: theta of the runs, [s].
        centre: mean theta of the runs, [s].
        coefficients: a and b, [1 + s].
        covariance: of the coefficients, [1 + s, 1 + s].
        chi2: about the line, per degree of freedom.
        n_runs: how many.
    """

    measured: Target
    names: tuple[str, ...]
    lowest: Array
    highest: Array
    centre: Array
    coefficients: Array
    covariance: Array
    chi2: float
    n_runs: int

    @classmethod
    def fit(
        cls, measured: Target, names: Sequence[str], theta: Array, values: Array, errors: Array
    ) -> Response:
        """The line through runs.

        Args:
            measured: of what.
            names: of the parameters that differ between the runs.
            theta: [n, s].
            values, errors: of the runs, [n]; errors are one standard deviation.

        Raises:
            ConfigError: too few values of a parameter, too narrow a span, values that have no
                logarithm, or parameters that the runs cannot tell apart.
        """
        for name, column in zip(names, theta.T, strict=True):
            distinct = np.unique(np.round(column, 9))
            if len(distinct) < FEWEST or np.ptp(distinct) < SPAN:
                raise ConfigError(
                    f"expected runs at {FEWEST} values of {name} or more that span at least "
                    f"{SPAN:g} of its logarithm for {measured}, got {len(distinct)} that span "
                    f"{float(np.ptp(distinct)):.2g}"
                )
        if not ((values > 0).all() and (errors > 0).all() and np.isfinite(errors).all()):
            raise ConfigError(f"expected positive values and errors of {measured}, got others")
        centre = theta.mean(0)
        design = np.hstack([np.ones((len(values), 1)), theta - centre])
        if np.linalg.matrix_rank(design) < design.shape[1]:
            raise ConfigError(
                f"expected runs that tell {', '.join(names)} apart for {measured}, got runs in "
                "which they change together"
            )
        weight = (values / errors)[:, None]
        covariance = np.linalg.inv((weight * design).T @ (weight * design))
        coefficients = covariance @ (weight * design).T @ (weight[:, 0] * np.log(values))
        rest = weight[:, 0] * (np.log(values) - design @ coefficients)
        free = len(values) - design.shape[1]
        chi2 = float(rest @ rest) / free if free > 0 else 1.0
        return cls(
            measured,
            tuple(names),
            theta.min(0),
            theta.max(0),
            centre,
            coefficients,
            covariance * max(1.0, chi2),
            chi2,
            len(values),
        )

    def is_of(self, target: Target) -> bool:
        """Whether it is that of the target, within the temperature's rounding."""
        own = self.measured
        return (
            own.liquid.casefold() == target.liquid.casefold()
            and (own.quantity, own.species) == (target.quantity, target.species)
            and abs(own.temperature - target.temperature) < 0.1
        )

    def covers(self, labels: Sequence[str], theta: Array) -> bool:
        """Whether parameters are where the runs were, or not far beyond."""
        mine = theta[self._places(labels)]
        reach = BEYOND * (self.highest - self.lowest)
        return bool(((mine >= self.lowest - reach) & (mine <= self.highest + reach)).all())

    def predict(
        self, target: Target, theta: ParameterVector, n_draws: int, seed: int
    ) -> Prediction:
        """The property at a model's parameters, with its derivatives.

        Raises:
            ConfigError: parameters are to be fitted that the runs did not change.
        """
        places = self._places(theta.labels)
        x = np.concatenate([[1.0], theta.get()[places] - self.centre])
        rng = np.random.default_rng(seed)
        draws = rng.multivariate_normal(self.coefficients, self.covariance, size=n_draws)
        value, values = float(np.exp(self.coefficients @ x)), np.exp(draws @ x)
        gradient, gradients = np.zeros(len(theta)), np.zeros((n_draws, len(theta)))
        gradient[places] = value * self.coefficients[1:]
        gradients[:, places] = values[:, None] * draws[:, 1:]
        error = value * math.sqrt(float(x @ self.covariance @ x))
        return Prediction(
            target, value, error, self.n_runs, self.n_runs, gradient, values, gradients
        )

    def _places(self, labels: Sequence[str]) -> list[int]:
        missing = [label for label in labels if label not in self.names]
        if missing:
            raise ConfigError(
                f"expected runs at several values of every fitted parameter for {self.measured}, "
                f"got them for {', '.join(self.names)} and not for {missing[0]}"
            )
        absent = [name for name in self.names if name not in labels]
        if absent:
            raise ConfigError(
                f"expected {absent[0]} among the fitted parameters, as the runs for "
                f"{self.measured} change it, got {', '.join(labels)}"
            )
        return [list(labels).index(name) for name in self.names]


def predicted(
    target: Target,
    pools: Sequence[Pool],
    theta: ParameterVector,
    responses: Sequence[Response],
    n_draws: int,
    seed: int,
) -> Prediction:
    """A target as the model has it: an average over samples, or from a response.

    Raises:
        ConfigError: no samples or no response for it.
    """
    if not QUANTITIES[target.quantity].dynamic:
        return predict(target, pools, n_draws, seed)
    for response in responses:
        if response.is_of(target):
            return response.predict(target, theta, n_draws, seed)
    raise ConfigError(
        f"expected runs at several values of the parameters (hff respond) for {target}, got none: "
        "transport is no average over structures"
    )


def read_responses(path: str | Path, theta: ParameterVector) -> list[Response]:
    """The responses of a table of runs, as ``hff respond`` writes it.

    Args:
        path: .csv with the columns of a target, ``error`` instead of ``uncertainty``, and a column
            for each parameter that was changed, named as in `ParameterVector.labels`.
        theta: that is to be fitted; says how parameters are transformed.

    Raises:
        ConfigError: no such file, a column that is missing, or runs that give no line.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"expected a table of runs (hff respond), got no file {path}")
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(line for line in lines if line[:1] != "#"))
    logarithmic = dict(zip(theta.labels, theta.logarithmic, strict=True))
    names = [name for name in (rows[0] if rows else {}) if name in logarithmic]
    if not names:
        raise ConfigError(
            f"expected columns of fitted parameters ({', '.join(theta.labels[:6])}) in {path}, got "
            f"none"
        )
    groups: dict[tuple[Any, ...], list[tuple[Target, Array]]] = {}
    for number, row in enumerate(rows, 1):
        try:
            run, at = _run_of(row, names)
        except ConfigError as error:
            raise ConfigError(f"{path}, run {number}: {error}") from None
        at = np.where([logarithmic[name] for name in names], np.log(at), at)
        state = (run.liquid.casefold(), run.quantity, run.species, run.temperature)
        groups.setdefault(state, []).append((run, at))
    return [
        Response.fit(
            runs[0][0],
            names,
            np.stack([at for _, at in runs]),
            np.array([run.value for run, _ in runs]),
            np.array([run.uncertainty for run, _ in runs]),
        )
        for runs in groups.values()
    ]


def _run_of(row: Mapping[str, Any], names: Sequence[str]) -> tuple[Target, Array]:
    """A row's value and error as those of a target, and its parameters [s].

    Raises:
        ConfigError: an entry that is missing or cannot be.
    """
    given = {key: value for key, value in row.items() if key not in (*names, "error")}
    run = target_of({**given, "uncertainty": row.get("error") or ""})
    try:
        at = np.array([float(row[name]) for name in names])
    except (TypeError, ValueError):
        raise ConfigError(f"expected numbers for {', '.join(names)}, got others") from None
    if not (at > 0).all():
        raise ConfigError(f"expected positive {', '.join(names)}, got {at.tolist()}")
    return run, at
