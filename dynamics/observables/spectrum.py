r"""Integrals of correlation functions from the low end of the power spectrum.

.. math:: \int_0^\infty \langle x(0) x(t) \rangle \, dt = \tfrac12 S(f \to 0)

The periodogram of a run at frequency k/T scatters about S with a known distribution (a gamma of
shape n/2 per real number, n series), independent from one frequency to the next. The low end is
fitted by the logarithm of S as a polynomial in f by maximum likelihood; the intercept is the answer
and the likelihood gives its error. This is the idea of STACIE (Toraman et al., J. Chem. Inf. Model.
65, 10445 (2025)); here all cut-offs and three polynomials are averaged with Akaike weights that
charge each datum left out what it costs when it fits (after Jay and Neil, Phys. Rev. D 103, 114502
(2021), who charge more: that lets a slow mode be overlooked).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.special import digamma

Array = NDArray[np.float64]
Fit = tuple[float, Array, float, int, tuple[int, ...]]  # price, fit, variance, points, powers
# of f beside the constant: flat, smooth, with a long-time tail
POWERS: tuple[tuple[int, ...], ...] = ((), (2,), (1, 2))
LEAST_POINTS = 6  # per coefficient
BIN_RATIO = 1.07
HIGHEST_SHARE = 0.6  # of all frequencies
ITERATIONS = 50


@dataclass(frozen=True)
class ZeroFrequency:
    """The spectrum where its frequency goes to zero.

    Attributes:
        value: S(0), units of the series squared times time.
        relative_error: standard error over value, from likelihood and averaging.
        points: frequencies used, averaged over the fits.
        cutoff: mean highest frequency, 1/ps.
        steepness: S(0) over the fitted S at the first frequency, or its inverse, whichever is
            larger: far above one, the intercept is an extrapolation.
        frequencies, spectrum, model: [n], what was fitted and the averaged fit, for a plot.
    """

    value: float
    relative_error: float
    points: float
    cutoff: float
    steepness: float
    frequencies: Array
    spectrum: Array
    model: Array


def periodogram(series: Array, interval: float) -> tuple[Array, Array]:
    """Mean power spectrum of series with the same statistics.

    Args:
        series: [n_series, n_samples]; nothing is subtracted: their mean has to be zero.
        interval: between samples, ps.

    Returns:
        Frequencies [n_samples // 2 + 1], 1/ps, and the two-sided spectrum there.
    """
    n = series.shape[-1]
    power = (np.abs(rfft(series, axis=-1)) ** 2).mean(axis=0) * interval / n
    return np.arange(len(power)) / (n * interval), power


def zero_frequency(
    frequencies: Array, spectrum: Array, n_series: float, known_mean: bool = True
) -> ZeroFrequency:
    """The limit of a power spectrum at frequency zero, with its error.

    Args:
        frequencies, spectrum: [n], from `periodogram`.
        n_series: how many independent series were averaged.
        known_mean: whether the mean is zero by symmetry, so that the point at zero counts.
    """
    f, s, shape = _bins(frequencies, spectrum, n_series, known_mean)
    # expected deviance of a point that fits, for the price of leaving one out
    usual = 2.0 * shape * (np.log(shape) - digamma(shape))
    counts = range(min(LEAST_POINTS, len(f)), len(f) + 1)
    fits: list[Fit] = []
    for count in counts:
        for powers in POWERS:
            if count < LEAST_POINTS * (1 + len(powers)):
                continue
            design = np.stack(
                [np.ones(count)] + [(f[:count] / f[count - 1]) ** p for p in powers], axis=1
            )
            found = _fit(design, s[:count], shape[:count])
            if found is None:
                continue
            coefficients, variance, deviance = found
            price = deviance + 2.0 * design.shape[1] + float(usual[count:].sum())
            fits.append((price, coefficients, variance, count, powers))
    return _average(fits, f, s)


def _bins(
    frequencies: Array, spectrum: Array, n_series: float, known_mean: bool
) -> tuple[Array, Array, Array]:
    """Frequencies, means and shapes of bins that widen with frequency.

    A wide bin is so exact that a wrong model there is seen; many single points would each be
    forgiven a little.
    """
    first = 0 if known_mean else 1
    last = max(int(HIGHEST_SHARE * len(spectrum)), min(first + 8, len(spectrum)))
    edges = [first]
    while edges[-1] < last:
        edges.append(max(edges[-1] + 1, int(edges[-1] * BIN_RATIO)))
    edges[-1] = last
    starts, sizes = np.array(edges[:-1]), np.diff(edges)
    s = np.add.reduceat(spectrum[:last], starts) / sizes
    f = np.add.reduceat(frequencies[:last], starts) / sizes
    shape = n_series * sizes.astype(float)
    if known_mean:
        shape[0] = 0.5 * n_series  # one real number per series, not two
    return f, np.maximum(s, 1e-300), shape


def _fit(design: Array, spectrum: Array, shape: Array) -> tuple[Array, float, float] | None:
    """Gamma regression with a logarithmic link, by Fisher scoring.

    Returns:
        Coefficients, variance of the first, deviance; None where it does not converge.
    """
    weighted = design * shape[:, None]
    information = design.T @ weighted
    try:
        inverse = np.linalg.inv(information)
    except np.linalg.LinAlgError:
        return None
    coefficients = np.zeros(design.shape[1])
    coefficients[0] = math.log(float(np.average(spectrum, weights=shape)))
    for _ in range(ITERATIONS):
        ratio = spectrum * np.exp(-np.clip(design @ coefficients, -600, 600))
        step = inverse @ (weighted.T @ (ratio - 1.0))
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        coefficients = coefficients + step
        if np.abs(step).max() < 1e-8:
            break
    else:
        return None
    ratio = spectrum * np.exp(-(design @ coefficients))
    deviance = float(np.sum(2.0 * shape * (ratio - 1.0 - np.log(ratio))))
    return coefficients, float(inverse[0, 0]), deviance


def _average(fits: list[Fit], f: Array, s: Array) -> ZeroFrequency:
    """Akaike average of fits; variance within and between them."""
    prices = np.array([fit[0] for fit in fits])
    weights = np.exp(-0.5 * (prices - prices.min()))
    weights /= weights.sum()
    logs = np.array([fit[1][0] for fit in fits])
    mean = float(weights @ logs)
    variance = float(weights @ np.array([fit[2] for fit in fits]))
    variance += float(weights @ (logs - mean) ** 2)
    points = float(weights @ np.array([fit[3] for fit in fits]))
    shown = max(int(max(fit[3] for fit, w in zip(fits, weights, strict=True) if w > 0.01)), 2)
    model, covered = np.zeros(shown), np.zeros(shown)
    for (_, coefficients, _, count, powers), weight in zip(fits, weights, strict=True):
        n = min(count, shown)
        x = f[:n] / f[count - 1]
        terms = zip(coefficients[1:], powers, strict=True)
        curve = coefficients[0] + sum(c * x**p for c, p in terms)
        model[:n] += weight * curve
        covered[:n] += weight
    model = np.exp(model / np.maximum(covered, 1e-12))
    step = f[1] - f[0]
    first = min(int(f[0] == 0), shown - 1)
    ratio = math.exp(mean) / float(model[first])
    return ZeroFrequency(
        math.exp(mean),
        math.sqrt(variance),
        points,
        float(step * points),
        max(ratio, 1.0 / ratio),
        f[:shown],
        s[:shown],
        model,
    )
