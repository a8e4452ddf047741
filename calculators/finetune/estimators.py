r"""Averages of another state from the samples of this one, and how they change with parameters.

.. math:: \frac{d\langle A\rangle}{d\theta} = \Bigl\langle\frac{\partial A}{\partial\theta}
    \Bigr\rangle - \beta\,\mathrm{cov}\Bigl(A, \frac{\partial U}{\partial\theta}\Bigr)

at constant volume and, with samples whose volume fluctuates, at constant pressure alike: P V holds
no parameter. Errors come from blocks of consecutive samples, redrawn with replacement; what is
slower than a block is in them only where there are several replicas.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hff_ase.errors import ConfigError

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
N_BLOCKS = 5  # of each replica
N_DRAWS = 200


def average(values: Array, weight: Array) -> Array:
    """Weighted mean over the samples: values [n, ...], weight [n] that sums to 1."""
    return np.asarray(np.tensordot(weight, values, axes=1))


def covariance(values: Array, gradients: Array, weight: Array) -> Array:
    """cov(A, G) [m, p] of values [n, m] and gradients [n, p]."""
    about = values - average(values, weight)
    return np.asarray((weight[:, None] * about).T @ (gradients - average(gradients, weight)))


def derivative(
    values: Array, gradients: Array, beta: float, weight: Array, explicit: Array | None = None
) -> Array:
    """d<A>/dtheta, [m, p].

    Args:
        values: A of each sample, [n, m].
        gradients: dU/dtheta, [n, p], eV per unit of theta.
        beta: 1/kT, 1/eV.
        weight: [n], sums to 1.
        explicit: dA/dtheta of each sample, [n, m, p]; None where A holds no parameter.
    """
    found = -beta * covariance(values, gradients, weight)
    return found if explicit is None else found + average(explicit, weight)


def blocks(replica: Labels, n_blocks: int = N_BLOCKS) -> Labels:
    """The block of each sample, [n], from the replica of each sample (samples in order of time).

    Raises:
        ConfigError: a replica with fewer samples than blocks.
    """
    label, first = np.zeros(len(replica), dtype=np.int64), 0
    for one in np.unique(replica):
        own = np.flatnonzero(replica == one)
        if len(own) < n_blocks:
            raise ConfigError(
                f"expected at least {n_blocks} samples of each replica for errors, got {len(own)}"
            )
        label[own] = first + np.arange(len(own)) * n_blocks // len(own)
        first += n_blocks
    return label


def bootstrap(
    label: Labels,
    estimate: Callable[[Array], Array],
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Array:
    """Estimates [n_draws, ...] of blocks that are drawn with replacement.

    Args:
        label: the block of each sample, of `blocks`.
        estimate: takes how often each sample counts, [n], and gives numbers.
        n_draws: how many times.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    n = int(label.max()) + 1
    draws = rng.multinomial(n, np.full(n, 1.0 / n), size=n_draws)
    return np.stack([estimate(times[label].astype(float)) for times in draws])


def counted(weight: Array, times: Array) -> Array:
    """Weights of samples that count several times, normalised."""
    both = weight * times
    return both / both.sum()
