"""The mean of a correlated series with an error that accounts for slow motion.

One run: the integrated correlation time with an automatic window gives the error, Student's t its
68 % interval for the few independent stretches that the window leaves. Blocking (Flyvbjerg and
Petersen 1989) is kept next to it as a cross-check. Several runs of the same state: the scatter
between them has R - 1 degrees of freedom and knows of motion slower than a run; what the runs say
of themselves has more. Where the two agree they are pooled, otherwise the scatter alone counts.

The correlation time of a short run is itself uncertain, and runs that underestimate it are the ones
that look long enough: their errors are widened by 1 + 200/N^2 for N independent samples. A run with
fewer than 20, forty integrated correlation times, gets no error at all. Both numbers are what makes
the intervals hold on synthetic runs of known answer (docs/coverage.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as fisher

from hff_ase.dynamics.observables.block_average import block_average
from hff_ase.dynamics.observables.correlation import (
    MIN_SAMPLES,
    Correlation,
    integrated_correlation,
)
from hff_ase.dynamics.observables.observable import Observable, one_sigma, refuse
from hff_ase.errors import ConfigError

__all__ = ["mean_with_error"]

Array = NDArray[np.float64]
ENOUGH = 20.0  # independent samples: with fewer the correlation time itself is not known
WIDENED = 200.0  # over N^2: see above
MIN_REPLICAS = 3
DISAGREE = 0.01  # probability of replicas scattering as they do if each were as good as it thinks


def mean_with_error(
    data: ArrayLike | Sequence[ArrayLike],
    interval: float = 1.0,
    unit: str = "",
    method: str = "mean",
) -> Observable:
    """Mean of a correlated series, or of several of the same state, with its error.

    Args:
        data: [n_samples] of one run, or a sequence of such, one of each replica (also [n_replicas,
            n_samples]); their beginnings must have been cut off (`equilibration_time`).
        interval: between samples, ps.
        unit, method: of the result.

    Returns:
        Refused (``refused``, error nan) where one run has fewer than 20 independent samples, or
        replicas that short are fewer than three. ``details`` holds ``blocking_error``, ``means``
        of the replicas, and for several ``between`` and ``within`` (standard errors).

    Raises:
        ConfigError: samples that are not finite, or nothing at all.
    """
    series = as_replicas(data)
    lengths = np.array([len(one) for one in series])
    means = np.array([one.mean() for one in series])
    known: dict[str, Any] = {
        "value": float(np.average(means, weights=lengths)),
        "length": interval * float(lengths.sum()),
        "details": {"blocking_error": _blocking(series), "means": means},
    }
    varying = [one for one in series if len(one) >= MIN_SAMPLES and np.ptp(one) > 0]
    found = integrated_correlation(varying) if varying else None
    if found is not None:
        known["correlation_time"] = found.time * interval
    if len(series) > 1:
        return _of_replicas(means, lengths, found, unit, method, known)
    if found is None:
        if lengths[0] < MIN_SAMPLES:
            reason = f"{lengths[0]} samples, at least {MIN_SAMPLES} are needed"
            return refuse(unit, method, reason, needs=MIN_SAMPLES / lengths[0], **known)
        return Observable(error=0.0, unit=unit, method=method, samples=float(lengths[0]), **known)
    return _of_one(int(lengths[0]), found, unit, method, known)


def as_replicas(data: ArrayLike | Sequence[ArrayLike]) -> list[Array]:
    """One float array [n_samples] per replica, from one series or several.

    Raises:
        ConfigError: no samples, samples of more than one number each, or not finite.
    """
    try:
        whole = np.asarray(data, dtype=float)
        series = [whole] if whole.ndim == 1 else list(whole)
    except ValueError:  # replicas of different lengths
        series = [np.asarray(one, dtype=float) for one in data]  # type: ignore[union-attr]
    if not series or any(one.ndim != 1 or len(one) == 0 for one in series):
        shapes = [one.shape for one in series]
        raise ConfigError(f"expected a series [n_samples] for each replica, got shapes {shapes}")
    for k, one in enumerate(series):
        if not np.isfinite(one).all():
            bad = int(np.flatnonzero(~np.isfinite(one))[0])
            raise ConfigError(f"expected finite samples, got {one[bad]} (replica {k}, row {bad})")
    return series


def widening(samples: float) -> float:
    """By how much an error from ``samples`` independent samples is too small on average."""
    return 1.0 + WIDENED / max(samples, 1.0) ** 2


def trusted(found: Correlation | None) -> bool:
    """Whether a series is long enough for a reliable correlation time."""
    return found is not None and math.isfinite(found.time) and found.samples >= ENOUGH


def _of_one(
    n: int, found: Correlation, unit: str, method: str, known: dict[str, Any]
) -> Observable:
    """What a single run of ``n`` samples gives."""
    if trusted(found):
        error = math.sqrt(found.inflation / n) * one_sigma(found.dof) * widening(found.samples)
        return Observable(
            error=error,
            unit=unit,
            method=method,
            samples=found.samples,
            dof=found.dof,
            **known,
        )
    # where the window did not end, the correlation time is at least a tenth of it
    samples = found.samples if math.isfinite(found.time) else 2.0
    reason = f"the run has about {samples:.2g} independent samples, {ENOUGH:g} are needed"
    return refuse(unit, method, reason, samples=samples, needs=ENOUGH / samples, **known)


def _of_replicas(
    means: Array,
    lengths: NDArray[np.int64],
    found: Correlation | None,
    unit: str,
    method: str,
    known: dict[str, Any],
) -> Observable:
    """What several runs give: their scatter, pooled with what each says of itself."""
    n, freedom = int(lengths.sum()), len(means) - 1
    # n Var(mean), as ``found.inflation``: two estimates of one number
    between = float(np.sum(lengths * (means - known["value"]) ** 2) / freedom)
    known["details"]["between"] = math.sqrt(between / n)
    known["details"]["within"] = math.sqrt(found.inflation / n) if found else math.nan
    inflation, dof, reason = between, float(freedom), ""
    if found is not None and trusted(found):
        if fisher.sf(between / found.inflation, freedom, found.dof) >= DISAGREE:
            dof = freedom + found.dof
            inflation = (freedom * between + found.dof * found.inflation) / dof
        else:
            reason = "replicas differ by more than their own errors: motion slower than one run"
    elif found is not None:
        reason = "each replica is short: the error is that of their scatter"
    if reason and len(means) < MIN_REPLICAS:
        reason += f"; at least {MIN_REPLICAS} replicas are needed"
        needs = MIN_REPLICAS / len(means)
        return refuse(unit, method, reason, samples=float(len(means)), needs=needs, **known)
    samples = float(len(means))
    if found is not None and inflation > 0 and math.isfinite(found.time):
        samples = max(found.samples * min(found.inflation / inflation, 1.0), samples)
    error = math.sqrt(inflation / n) * one_sigma(dof)
    return Observable(
        error=error,
        unit=unit,
        method=method,
        samples=samples,
        dof=dof,
        reason=reason,
        **known,
    )


def _blocking(series: Sequence[Array]) -> float:
    """Standard error by blocking, of all runs together; nan where one is too short."""
    errors = np.array([block_average(one)[1] for one in series])
    sizes = np.array([len(one) for one in series])
    return float(np.sqrt(np.sum((errors * sizes) ** 2)) / sizes.sum())
