"""Functions of several means of one run, such as ratios, with errors that know correlations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.observables.statistics import mean_with_error
from hff_ase.errors import ConfigError

Array = NDArray[np.float64]
SHIFT = 0.02  # of a column's spread, for derivatives


def function_of_means(
    function: Callable[[Array], float],
    runs: Sequence[ArrayLike],
    interval: float = 1.0,
    unit: str = "",
    method: str = "function of means",
) -> Observable:
    """A function of the means of several series that were sampled together.

    To first order f(<x>) scatters as the mean of the series g . x does, g the gradient of f at the
    means (delta method): correlations in time and between columns are in its error.

    Args:
        function: of means [n_columns]; smooth there.
        runs: [n_samples, n_columns] of each replica.
        interval: between samples, ps.
        unit, method: of the result.

    Raises:
        ConfigError: runs of another shape, or a function that is not finite at the means.
    """
    arrays = [np.asarray(run, dtype=float) for run in runs]
    if not arrays or any(one.ndim != 2 or len(one) == 0 for one in arrays):
        raise ConfigError(f"expected series [n, n_columns], got {[one.shape for one in arrays]}")
    everything = np.concatenate(arrays)
    mean, steps = everything.mean(axis=0), SHIFT * everything.std(axis=0)
    with np.errstate(all="ignore"):
        value = float(function(mean))
    if not np.isfinite(value):
        raise ConfigError(f"expected means that {method} can be made of, got {mean.tolist()}")
    gradient = np.zeros(len(mean))
    for k in np.flatnonzero(steps > 0):
        shift = np.where(np.arange(len(mean)) == k, steps, 0.0)
        gradient[k] = (function(mean + shift) - function(mean - shift)) / (2 * steps[k])
    series = [value + (one - mean) @ gradient for one in arrays]
    return replace(mean_with_error(series, interval, unit, method), value=value)
