"""Gaussian series with a given autocovariance: runs whose answer and error are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

Covariance = Callable[[np.ndarray], np.ndarray]

# autocovariances c(t), t in samples: one and two times, white noise below a slow mode, long tails
KERNELS: dict[str, Covariance] = {
    "white": lambda t: (t == 0) * 1.0,
    "exponential": lambda t: np.exp(-t / 5.0),
    "white + exponential": lambda t: 0.7 * (t == 0) + 0.3 * np.exp(-t / 20.0),
    "two exponentials": lambda t: 0.8 * np.exp(-t / 2.0) + 0.2 * np.exp(-t / 30.0),
    "stretched": lambda t: np.exp(-np.sqrt(t / 5.0)),
    "power law": lambda t: (1.0 + t / 4.0) ** -2.0,
    "oscillator": lambda t: 0.5 * np.exp(-t / 20.0) + 0.5 * np.exp(-t / 10.0) * np.cos(t / 2.0),
}


def series_of(
    covariance: Covariance, n_samples: int, n_series: int, rng: np.random.Generator
) -> np.ndarray:
    """Series [n_series, n_samples] of mean zero, by circulant embedding.

    The covariance is wrapped around a period of at least four times the series; what little of its
    spectrum is negative for that is set to zero.
    """
    period = next_fast_len(max(4 * n_samples, 8192), real=True)
    lag = np.minimum(np.arange(period), period - np.arange(period)).astype(float)
    spectrum = rfft(covariance(lag)).real.clip(min=0.0)
    white = rng.normal(size=(n_series, period))
    return irfft(rfft(white, axis=1) * np.sqrt(spectrum), period, axis=1)[:, :n_samples]


def integrated_time(covariance: Covariance) -> float:
    """Exact integrated correlation time, samples: 1/2 + sum of c(t)/c(0)."""
    lag = np.arange(1.0, 2e6)
    return 0.5 + float(covariance(lag).sum() / covariance(np.zeros(1))[0])
