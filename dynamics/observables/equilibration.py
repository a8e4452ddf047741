"""Where the equilibrated part of a run begins, if it does.

The beginning is cut where what is left holds most independent samples (Chodera, J. Chem. Theory
Comput. 12, 1799 (2016)): a later start loses data, an earlier one lengthens the correlation time
by the drift. That rule always names a start, also for a run that still drifts; therefore the rest
is asked whether a straight line through it rises or falls by more than its error, and replicas
whether they agree among each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as fisher
from scipy.stats import t as student

from hff_ase.dynamics.observables.correlation import autocovariance, integrated_correlation
from hff_ase.dynamics.observables.statistics import as_replicas

__all__ = ["Equilibration", "detect_equilibration", "equilibration_time"]

Array = NDArray[np.float64]
N_STARTS = 60  # that are tried
LATEST = 0.8  # of the run: nothing later is tried
LATEST_TRUSTED = 0.6  # of the run: a later start is the end of a drift as often as not
ENOUGH = 10.0  # independent samples after the start
UNLIKELY = 0.005  # probability in an equilibrated run of a slope that counts as drift
DOUBTFUL, EARLY = 0.05, 0.1  # the same where more than this part of the run was cut off
WINDOW = 6.0  # correlation times; less than for errors, since many starts are compared


@dataclass(frozen=True)
class Equilibration:
    """What was found about the beginning of a run or of several.

    Attributes:
        start: first sample that counts, the latest of all replicas.
        starts: of each replica.
        samples: independent samples after ``start``, all replicas together.
        settled: whether what follows is stationary, and the replicas agree.
        reason: one line; why not, where ``settled`` is False.
    """

    start: int
    starts: tuple[int, ...]
    samples: float
    settled: bool
    reason: str


def equilibration_time(series: ArrayLike) -> int:
    """The first sample [index] of the equilibrated part of a series [n_samples].

    It names a start for every series; `detect_equilibration` says whether to believe it.

    Raises:
        ConfigError: samples that are not finite, or none.
    """
    return _start(as_replicas(series)[0])


def detect_equilibration(data: ArrayLike | Sequence[ArrayLike]) -> Equilibration:
    """Whether and where one run or several of the same state have settled.

    Args:
        data: [n_samples], or one such series of each replica, all from the same moment on.

    Raises:
        ConfigError: samples that are not finite, or none.
    """
    replicas = as_replicas(data)
    starts = tuple(_start(one) for one in replicas)
    start = max(starts)
    rests = [one[start:] for one in replicas]
    if min(map(len, rests)) < 2 * ENOUGH:
        return Equilibration(start, starts, 0.0, False, "too few samples")
    varying = [one for one in rests if np.ptp(one) > 0]
    if not varying:
        samples = float(sum(map(len, rests)))
        same = np.ptp([one[0] for one in rests]) == 0
        reason = "constant" if same else "constant, another value in each replica"
        return Equilibration(start, starts, samples, bool(same), reason)
    found = integrated_correlation(varying, WINDOW)
    samples = found.samples
    if not math.isfinite(found.time) or samples < ENOUGH * len(replicas) ** 0.5:
        reason = f"{samples:.2g} independent samples after the start, {ENOUGH:g} are needed"
        return Equilibration(start, starts, samples, False, reason)
    if start > LATEST_TRUSTED * min(map(len, replicas)):
        reason = f"stationary from sample {start} of {len(replicas[0])} at the earliest"
        return Equilibration(start, starts, samples, False, reason)
    # where the beginning did drift, less of a slope in the rest is enough to doubt it
    level = DOUBTFUL if start > EARLY * min(map(len, replicas)) else UNLIKELY
    drifting = [k for k, one in enumerate(rests) if drifts(one, level / len(rests))]
    if drifting:
        which = f" in replica {drifting[0]}" if len(replicas) > 1 else ""
        reason = f"still drifting{which}"
        return Equilibration(start, starts, samples, False, reason)
    if len(replicas) > 1 and _disagree(rests, found.inflation, found.dof):
        reason = "replicas differ by more than their errors: not of the same state yet"
        return Equilibration(start, starts, samples, False, reason)
    return Equilibration(start, starts, samples, True, "stationary")


def _start(series: Array) -> int:
    """Where the rest holds most independent samples."""
    n = len(series)
    if n < 2 * ENOUGH or np.ptp(series) == 0:
        return 0
    latest = int(LATEST * n)
    linear = np.linspace(0, latest, N_STARTS)
    starts = np.unique(np.concatenate([linear, np.geomspace(1, latest, N_STARTS // 2)]).astype(int))
    return int(starts[np.argmax([_independent(series[start:]) for start in starts])])


def _independent(series: Array) -> float:
    """Number of independent samples, with a window that many starts can be compared by."""
    n = len(series)
    covariance = autocovariance(series, max(n // 2, 2))
    if covariance[0] <= 0:
        return float(n)
    times = 0.5 + np.cumsum(covariance[1:] / covariance[0])
    lags = np.arange(1, len(covariance))
    closed = lags >= WINDOW * np.maximum(times, 0.5)
    time = times[np.argmax(closed)] if closed.any() else times.max()
    return n / (2.0 * max(float(time), 0.5))


def drifts(series: Array, unlikely: float = UNLIKELY) -> bool:
    """Whether a straight line through a series rises or falls by more than its error.

    Args:
        series: [n_samples].
        unlikely: probability of such a slope in a series without a drift, below which it counts.
    """
    n = len(series)
    if n < 4:
        return False
    time = np.linspace(-1.0, 1.0, n)
    norm = float(time @ time)
    slope = float(time @ (series - series.mean())) / norm
    rest = series - series.mean() - slope * time
    if np.ptp(rest) <= 1e-12 * abs(slope):
        return slope != 0
    found = integrated_correlation([rest], WINDOW)
    # the line took one of the few slow degrees of freedom with it
    dof = max(found.dof - 1.0, 1.0)
    error = math.sqrt(found.inflation * found.dof / dof / norm)
    return bool(2.0 * student.sf(abs(slope) / error, dof) < unlikely)


def _disagree(series: Sequence[Array], inflation: float, dof: float) -> bool:
    """Whether means of replicas scatter more than their own fluctuations explain."""
    lengths = np.array([len(one) for one in series])
    means = np.array([one.mean() for one in series])
    overall = np.average(means, weights=lengths)
    between = np.sum(lengths * (means - overall) ** 2) / (len(series) - 1)
    return bool(fisher.sf(between / inflation, len(series) - 1, dof) < UNLIKELY)
