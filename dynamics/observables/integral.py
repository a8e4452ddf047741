"""A transport coefficient from the spectrum of its fluctuating flux, with error and verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.observable import Observable, one_sigma, refuse
from hff_ase.dynamics.observables.spectrum import periodogram, zero_frequency

Array = NDArray[np.float64]
ENOUGH = 150.0  # correlation times in a run: with fewer a slow mode is easily overlooked
FEWEST = 100  # samples: with fewer there is no spectrum to fit
TOO_NOISY = 0.5  # relative error above which there is no number


def integral_of_flux(
    runs: Sequence[Array],
    interval: float,
    factor: float,
    unit: str,
    method: str,
    known_mean: bool = True,
) -> Observable:
    """``factor`` times the integral of <x(0) x(t)> from 0 to infinity.

    Args:
        runs: of each replica, independent series with the same statistics [n_series, n_samples];
            all replicas of the same length are best (the shortest counts).
        interval: between samples, ps.
        factor: from units of x squared times ps to ``unit``.
        unit, method: of the result.
        known_mean: whether the mean of x is zero by symmetry.

    Returns:
        Refused where a run has fewer than 150 correlation times or the error is above a half.
        ``details`` has ``frequencies`` [1/ps], ``spectrum`` and ``model`` (in ``unit``).
    """
    shortest = min(run.shape[-1] for run in runs)
    if shortest < FEWEST:
        reason = f"{shortest} samples, at least {FEWEST} are needed"
        return refuse(unit, method, reason, needs=FEWEST / max(shortest, 1))
    series = np.concatenate([run[:, :shortest] for run in runs])
    frequencies, spectrum = periodogram(series, interval)
    found = zero_frequency(frequencies, spectrum, len(series), known_mean)
    value, length = 0.5 * factor * found.value, shortest * interval
    time = 0.5 * found.value / max(float(np.mean(series**2)), 1e-300)
    dof = 2.0 / found.relative_error**2  # that of a chi-squared with this relative error
    known: dict[str, Any] = {
        "value": value,
        "samples": 0.5 * dof,
        "dof": dof,
        "correlation_time": time,
        "length": length * len(runs),
        "details": {
            "frequencies": found.frequencies,
            "spectrum": 0.5 * factor * found.spectrum,
            "model": 0.5 * factor * found.model,
            "cutoff": found.cutoff,
        },
    }
    count = length / time
    if count < ENOUGH:
        reason = f"each run has {count:.2g} correlation times, {ENOUGH:g} are needed"
        return refuse(unit, method, reason, needs=ENOUGH / count, **known)
    if found.relative_error > TOO_NOISY:
        reason = f"the error is {100 * found.relative_error:.0f} % of the value"
        needs = (found.relative_error / TOO_NOISY) ** 2
        return refuse(unit, method, reason, needs=needs, **known)
    error = abs(value) * found.relative_error * one_sigma(dof)
    return Observable(error=error, unit=unit, method=method, **known)
