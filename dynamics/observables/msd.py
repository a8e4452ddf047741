r"""Mean squared displacements of every site and lag by Fourier transforms.

.. math:: \mathrm{MSD}(m) = \frac{1}{N-m} \sum_k |r_{k+m} - r_k|^2 = S_1(m) - 2 S_2(m)

with S_2 the autocorrelation of positions and S_1 a running sum of squares (Kneller et al., Comput.
Phys. Commun. 91, 191 (1995); Calandrini et al., Collection SFN 12, 201 (2011), sect. 4.2.1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

Array = NDArray[np.float64]
NUMBERS_AT_ONCE = 1_000_000  # frames times sites, bounds the memory of the transforms


def squared_displacements(positions: Array, n_lags: int | None = None) -> Array:
    """Mean squared displacement of each site over all pairs of frames.

    Args:
        positions: [n_frames, n_sites, 3], unwrapped.
        n_lags: lags from 0; None for all.

    Returns:
        [n_lags, n_sites], units of the positions squared.
    """
    n_frames, n_sites, _ = positions.shape
    n_lags = n_frames if n_lags is None else min(n_lags, n_frames)
    result = np.empty((n_lags, n_sites))
    at_once = max(NUMBERS_AT_ONCE // max(n_frames, 1), 1)
    for start in range(0, n_sites, at_once):
        some = slice(start, start + at_once)
        part = positions[:, some]
        result[:, some] = cross_displacements(part, part, n_lags)
    return result


def cross_displacements(one: Array, other: Array, n_lags: int) -> Array:
    """<(a(t+m) - a(t)) . (b(t+m) - b(t))> of pairs of sites [n_lags, n_sites].

    Args:
        one, other: [n_frames, n_sites, 3].
        n_lags: lags from 0.
    """
    n = len(one)
    a, b = one - one.mean(axis=0), other - other.mean(axis=0)  # small numbers: less rounding
    padded = next_fast_len(2 * n, real=True)
    left, right = rfft(a, padded, axis=0), rfft(b, padded, axis=0)
    product = (left.conj() * right).sum(axis=-1)
    both = irfft(product.real, padded, axis=0)[:n_lags]  # the mean of lags +m and -m
    squares = (a * b).sum(axis=-1)
    summed = np.concatenate([np.zeros((1, squares.shape[1])), np.cumsum(squares, axis=0)])
    total, lags = summed[-1], np.arange(n_lags)
    ends = (total - summed[lags]) + summed[n - lags]  # sum over t+m, and over t
    return (ends - 2.0 * both) / (n - lags)[:, None]
