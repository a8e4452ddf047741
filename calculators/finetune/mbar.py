"""The multistate Bennett acceptance ratio, and how many samples a reweighting leaves.

Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008). Of a single sampled state it is plain
reweighting. The equations are the stationarity of a convex function of the free energies (their
appendix C), minimised here by Newton's method. Reduced energies are u = beta (U + P V).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from hff_ase.errors import ConfigError

Array = NDArray[np.float64]
TOLERANCE, MOST_STEPS = 1e-10, 200


def free_energies(reduced: ArrayLike, counts: ArrayLike) -> Array:
    """Reduced free energies of the sampled states, [n_states], that of the first 0.

    Args:
        reduced: [n_states, n_samples], u of every sample in every sampled state.
        counts: [n_states], how many of the samples each state gave.

    Raises:
        ConfigError: shapes that do not fit, a state without samples, or no convergence.
    """
    u, n = _checked(reduced, counts)
    f = -logsumexp(-u, axis=1)
    f = f - f[0]
    if len(n) == 1:
        return f
    for _ in range(MOST_STEPS):
        log_weights = f[:, None] - u - _log_denominator(u, n, f)
        weights = np.exp(log_weights)  # [n_states, n_samples]
        gradient = n * (weights.sum(1) - 1.0)
        if np.abs(gradient).max() < TOLERANCE * n.sum():
            return f - f[0]
        hessian = np.diag(n * weights.sum(1)) - (n[:, None] * weights) @ (n * weights.T)
        step = np.zeros_like(f)  # the objective does not depend on a common constant
        step[1:] = np.linalg.lstsq(hessian[1:, 1:], gradient[1:], rcond=None)[0]
        f = _better(u, n, f, f - step)
    raise ConfigError(
        f"expected sampled states that overlap, got free energies that did not converge in "
        f"{MOST_STEPS} steps"
    )


def log_mixture(reduced: ArrayLike, counts: ArrayLike) -> Array:
    """ln of sum_k N_k exp(f_k - u_k(x)) for every sample, [n_samples].

    The weight of a sample in any state with reduced energy u is exp(-u) over that, normalised.
    """
    u, n = _checked(reduced, counts)
    return _log_denominator(u, n, free_energies(u, n))


def weights(target: ArrayLike, mixture: ArrayLike) -> Array:
    """Normalised weights [n_samples] of a state.

    Args:
        target: [n_samples], u of the state.
        mixture: of `log_mixture`.
    """
    logs = -np.asarray(target, dtype=float) - np.asarray(mixture, dtype=float)
    return np.asarray(np.exp(logs - logsumexp(logs)))


def effective_samples(weight: ArrayLike) -> float:
    """(sum w)^2 / sum w^2: the effective number of samples.

    It knows nothing of their correlation in time.
    """
    w = np.asarray(weight, dtype=float)
    return float(w.sum() ** 2 / (w**2).sum())


def _checked(reduced: ArrayLike, counts: ArrayLike) -> tuple[Array, Array]:
    u, n = np.atleast_2d(np.asarray(reduced, dtype=float)), np.asarray(counts, dtype=float)
    if u.shape[0] != len(n) or n.sum() != u.shape[1] or (n < 1).any():
        raise ConfigError(
            f"expected reduced energies [n_states, n_samples] and samples of each state, got "
            f"{u.shape} and {n.astype(int).tolist()}"
        )
    if not np.isfinite(u).all():
        raise ConfigError("expected finite reduced energies, got others")
    return u, n


def _log_denominator(u: Array, n: Array, f: Array) -> Array:
    return np.asarray(logsumexp(f[:, None] - u, axis=0, b=n[:, None]))


def _better(u: Array, n: Array, before: Array, after: Array) -> Array:
    """The step, halved until the objective does not rise; a self-consistent step in the end."""
    lowest = _objective(u, n, before)
    for _ in range(20):
        if _objective(u, n, after) <= lowest + 1e-12 * abs(lowest):
            return after
        after = 0.5 * (before + after)
    return -np.asarray(logsumexp(-u - _log_denominator(u, n, before), axis=1))


def _objective(u: Array, n: Array, f: Array) -> float:
    return float(_log_denominator(u, n, f).sum() - n @ f)
