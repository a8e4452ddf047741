"""The error of the mean of a correlated series."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

MIN_BLOCKS = 8  # with fewer blocks the estimate of the error is itself mostly noise


def block_average(series: ArrayLike) -> tuple[float, float]:
    """Mean of a correlated series [n_samples] and the standard error of that mean.

    Neighbouring samples are averaged in pairs again and again (Flyvbjerg and Petersen, J. Chem.
    Phys. 91, 461 (1989), eq. 20-26); the naive error of the mean grows with the block length until
    blocks are independent. The largest error over all lengths that leave at least eight blocks is
    returned: it is too small only if the whole series is shorter than a few correlation times.

    Returns:
        Mean and standard error; the error is nan where there are fewer than eight samples, the
        mean too where there are none.
    """
    values = np.asarray(series, dtype=float)
    if values.size == 0:
        return float("nan"), float("nan")
    mean = float(values.mean())
    errors = []
    while values.size >= MIN_BLOCKS:
        errors.append(float(values.std(ddof=1) / np.sqrt(values.size)))
        pairs = values.size // 2
        values = values[: 2 * pairs].reshape(pairs, 2).mean(axis=1)
    return mean, max(errors, default=float("nan"))
