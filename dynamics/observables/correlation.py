r"""Autocorrelation functions and integrated correlation times of sampled series.

.. math:: \tau = \tfrac12 + \sum_{k=1}^{W} \rho(k), \qquad
    \mathrm{Var}(\bar x) = \frac{2 \tau \sigma^2}{n}

in samples. The sum is cut at the first window with W >= c tau (Sokal, in Functional Integration:
Basics and Applications, Plenum 1997, sect. 3), and never below a fixed part of the run, so that a
weak slow mode is not overlooked where the run is long enough to show it. The subtracted mean makes
each term too small by about Var(mean); the whole is divided by 1 - (2 W + 1)/n for that (Wolff,
Comput. Phys. Commun. 156, 143 (2004), eq. 49).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

Array = NDArray[np.float64]
WINDOW = 10.0  # correlation times in the window: e^-10 of one exponential is left out
LEAST_SHARE = 1 / 20  # of the run that the window covers at least
LARGEST_SHARE = 0.45  # of the run that the window may cover: beyond it nothing is known
MIN_SAMPLES = 8


@dataclass(frozen=True)
class Correlation:
    """The integrated correlation of one or several series.

    Attributes:
        time: integrated correlation time, samples; inf where the window did not end.
        window: in samples.
        inflation: sum over all lags of the autocovariance, the variance of a mean times n.
        dof: degrees of freedom of ``inflation``: n/(2 W + 1) independent stretches.
        samples: n/(2 time), the effective number of independent samples.
    """

    time: float
    window: int
    inflation: float
    dof: float
    samples: float


def autocovariance(series: Array, n_lags: int | None = None) -> Array:
    """Autocovariance about the series' own mean, the mean over all pairs of each lag.

    Args:
        series: [..., n_samples].
        n_lags: how many lags, from 0; None for all.

    Returns:
        [..., n_lags].
    """
    deviation = series - series.mean(axis=-1, keepdims=True)
    return correlate_lags(deviation, n_lags)


def correlate_lags(series: Array, n_lags: int | None = None) -> Array:
    """<x(0) x(t)> [..., n_lags] of series [..., n_samples], nothing subtracted."""
    n = series.shape[-1]
    n_lags = n if n_lags is None else n_lags
    padded = next_fast_len(n + n_lags, real=True)
    spectrum = np.abs(rfft(series, padded, axis=-1)) ** 2
    raw = irfft(spectrum, padded, axis=-1)[..., :n_lags]
    return raw / (n - np.arange(n_lags))


def integrated_correlation(
    series: Sequence[Array], window: float = WINDOW, least_share: float = LEAST_SHARE
) -> Correlation:
    """Integrated correlation time of series with the same statistics, each about its own mean.

    Args:
        series: each [n_samples], of any length from 8 on, with a variance above zero.
        window: least window in correlation times.
        least_share: least window as a share of the shortest series.
    """
    shortest, n = min(map(len, series)), sum(map(len, series))
    n_lags = max(int(LARGEST_SHARE * shortest), 2)
    weighted = [autocovariance(one, n_lags) * len(one) for one in series]
    covariance = np.sum(weighted, axis=0) / n
    lags = np.arange(1, n_lags)
    times = 0.5 + np.cumsum(covariance[1:] / covariance[0])
    closed = (lags >= window * np.maximum(times, 0.5)) & (lags >= least_share * shortest)
    ended = bool(closed.any())
    cut = int(lags[np.argmax(closed)]) if ended else int(lags[-1])
    unseen = 1.0 - (2 * cut + 1) / shortest
    inflation = 2.0 * float(times[cut - 1]) * float(covariance[0]) / unseen
    # anticorrelated noise can bring the sum near or below zero; batch means never are
    floor = 0.5 * np.mean([batch_inflation(one, max(len(one) // 20, 1)) for one in series])
    inflation = max(inflation, float(floor))
    time = 0.5 * inflation / float(covariance[0])
    dof = n / (2 * cut + 1)
    return Correlation(time if ended else math.inf, cut, inflation, dof, 0.5 * n / time)


def batch_inflation(series: Array, length: int) -> float:
    """n Var(mean) from overlapping batches of ``length`` samples.

    Meketon and Schmeiser, Proc. Winter Simulation Conference (1984), 226.
    """
    n = len(series)
    summed = np.concatenate([[0.0], np.cumsum(series - series.mean())])
    means = (summed[length:] - summed[:-length]) / length
    return float(n * length / ((n - length) * (n - length + 1)) * np.sum(means**2))
