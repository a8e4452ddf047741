"""Targets as functions of ensemble averages, with their derivatives in parameters and errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import units
from ase.data import chemical_symbols
from numpy.typing import NDArray

from hff_ase.calculators.finetune import estimators, mbar
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.pool import Pool
from hff_ase.calculators.finetune.targets import Target
from hff_ase.errors import ConfigError
from hff_ase.units import GRAM_PER_CM3

Array = NDArray[np.float64]
KJ_PER_MOL = units.kJ / units.mol
SHELL = 0.1  # Angstrom, width of a shell of a radial distribution function
NEAR = 15.0  # K that a target may lie from the temperature of the samples, to be reweighted there
SAME_DENSITY = 0.005  # relative


@dataclass(frozen=True, eq=False)
class Averaged:
    """What has to be averaged over one ensemble.

    Attributes:
        pool: the samples.
        values: A, [n, m].
        explicit: dA/dtheta [n, m, p], or None.
    """

    pool: Pool
    values: Array
    explicit: Array | None = None


@dataclass(frozen=True, eq=False)
class Prediction:
    """A target as a model has it.

    Attributes:
        target: with value and uncertainty.
        value, error: of the model, in the target's unit; the error by blocks.
        n_eff: effective number of samples, the least of the ensembles.
        n_samples: all samples of that ensemble.
        gradient: d value/dtheta [p], or None.
        draws: [n_draws] of the value.
        gradient_draws: [n_draws, p].
    """

    target: Target
    value: float
    error: float
    n_eff: float
    n_samples: int
    gradient: Array | None = None
    draws: Array | None = None
    gradient_draws: Array | None = None

    @property
    def deviation(self) -> float:
        """(model - target)/uncertainty."""
        return (self.value - self.target.value) / self.target.uncertainty


def find(target: Target, pools: Sequence[Pool], periodic: bool = True) -> Pool:
    """The samples for a target: of its liquid, the nearest temperature.

    Raises:
        ConfigError: there are none within `NEAR`.
    """
    own = [
        pool
        for pool in pools
        if pool.ensemble.liquid.casefold() == target.liquid.casefold()
        and pool.ensemble.periodic == periodic
        and (pool.ensemble.pressure is None) == (target.quantity == "pressure" or not periodic)
        and (target.quantity != "pressure" or _same_density(pool.ensemble, target.at_density))
    ]
    own.sort(key=lambda pool: abs(pool.ensemble.temperature - target.temperature))
    if not own or abs(own[0].ensemble.temperature - target.temperature) > NEAR:
        known = sorted({f"{p.ensemble.liquid} {p.ensemble.temperature:g} K" for p in pools})
        kind = "an ensemble" if periodic else "an ensemble of a molecule alone"
        raise ConfigError(
            f"expected {kind} within {NEAR:g} K for {target}, got those of {', '.join(known)}"
        )
    return own[0]


def averaged(target: Target, pools: Sequence[Pool]) -> tuple[list[Averaged], Callable[..., float]]:
    """What is averaged for a target, and the function of all the averages together."""
    pool = find(target, pools)
    ensemble, known = pool.ensemble, pool.known
    n = len(ensemble)
    if target.quantity == "density":
        values = ensemble.mass / ensemble.volumes / GRAM_PER_CM3
        return [Averaged(pool, values[:, None])], lambda rho: rho
    if target.quantity == "compressibility":
        v = ensemble.volumes
        centre = float(v.mean())
        factor = units.GPa / (units.kB * target.temperature)
        return (
            [Averaged(pool, np.stack([v, (v - centre) ** 2], axis=1))],
            lambda mean, square: factor * (square - (mean - centre) ** 2) / mean,
        )
    if target.quantity == "pressure":
        if known.pressure is None:
            raise ConfigError("expected energies with pressures for a target of pressure")
        slope = None if known.pressure_gradient is None else known.pressure_gradient[:, None]
        return [Averaged(pool, known.pressure[:, None], slope)], lambda p: p
    if target.quantity == "heat_of_vaporisation":
        gas = find(target, pools, periodic=False)
        parts = [_energy(pool), _energy(gas)]
        n_molecules, thermal = ensemble.n_molecules, units.kB * target.temperature
        return parts, lambda liquid, alone: (alone - liquid / n_molecules + thermal) / KJ_PER_MOL
    counts = pair_counts(ensemble, target)
    return [Averaged(pool, counts.reshape(n, 1))], lambda count: count


def predict(
    target: Target, pools: Sequence[Pool], n_draws: int = estimators.N_DRAWS, seed: int = 0,
    shifts: Sequence[Array] | None = None,
) -> Prediction:  # fmt: skip
    """A target as the model has it that the pools are looked at with.

    Args:
        target: any.
        pools: looked at with one model; with gradients where they are wanted.
        n_draws: of the bootstrap.
        seed: of its draws.
        shifts: [n] in eV for each pool, as `Pool.weights`.

    Raises:
        ConfigError: no samples for the target.
    """
    parts, function = averaged(target, pools)
    shift_of = {} if shifts is None else dict(zip(map(id, pools), shifts, strict=True))
    gas = [not part.pool.ensemble.periodic for part in parts]
    weights = [
        part.pool.weights(
            target.temperature, None if alone else target.pressure, shift_of.get(id(part.pool))
        )
        for part, alone in zip(parts, gas, strict=True)
    ]
    labels = [estimators.blocks(part.pool.ensemble.replica) for part in parts]
    beta = 1.0 / (units.kB * target.temperature)

    def estimate(counts: Sequence[Array]) -> Array:
        means, slopes = [], []
        for part, weight, times in zip(parts, weights, counts, strict=True):
            w = estimators.counted(weight, times)
            means.append(estimators.average(part.values, w))
            gradient = part.pool.known.gradient
            if gradient is not None:
                found = estimators.derivative(part.values, gradient, beta, w, part.explicit)
                slopes.append(found)
        flat = np.concatenate(means)
        value = float(function(*flat))
        if not slopes:
            return np.array([value])
        return np.concatenate([[value], _slopes(function, flat) @ np.concatenate(slopes)])

    ones = [np.ones(len(label)) for label in labels]
    best = estimate(ones)
    several = [
        estimators.bootstrap(label, lambda times: times, n_draws, seed + k)
        for k, label in enumerate(labels)
    ]
    draws = np.stack([estimate([one[d] for one in several]) for d in range(n_draws)])
    n_eff = [mbar.effective_samples(weight) for weight in weights]
    least = int(np.argmin(n_eff))
    has = len(best) > 1
    return Prediction(
        target,
        float(best[0]),
        float(draws[:, 0].std(ddof=1)),
        n_eff[least],
        len(parts[least].pool.ensemble),
        best[1:] if has else None,
        draws[:, 0],
        draws[:, 1:] if has else None,
    )


def pair_counts(ensemble: Ensemble, target: Target) -> Array:
    """Of each sample, [n]: g(r) at the target's distance, or the neighbours of one first atom
    within it. Pairs of one molecule do not count.

    Raises:
        ConfigError: a pair of elements that is not present.
    """
    from vesin import NeighborList

    symbols = np.array([chemical_symbols[z] for z in ensemble.numbers])
    first, second = ((symbols == name) for name in target.pair.split("-", 1))
    n_pairs = first.sum() * second.sum()
    if n_pairs == 0:
        raise ConfigError(
            f"expected a pair of elements of {ensemble.liquid} ({' '.join(sorted(set(symbols)))}), "
            f"got {target.pair!r}"
        )
    radial = target.quantity == "rdf"
    reach = (target.distance or 0.0) + (0.5 * SHELL if radial else 0.0)
    search = NeighborList(cutoff=reach, full_list=True)
    found = np.empty(len(ensemble))
    for k in range(len(ensemble)):
        i, j, r = search.compute(ensemble.positions[k], ensemble.cells[k], True, "ijd")
        keep = first[i] & second[j] & (ensemble.molecule[i] != ensemble.molecule[j])
        found[k] = (keep & (r >= reach - SHELL)).sum() if radial else keep.sum()
    if not radial:
        return found / first.sum()
    shell = 4.0 / 3.0 * np.pi * (reach**3 - (reach - SHELL) ** 3)
    return found * ensemble.volumes / (n_pairs * shell)


def resolved(target: Target, value: float, uncertainty: float, source: str) -> Target:
    """A target whose value was looked up."""
    return replace(target, value=value, uncertainty=uncertainty, source=source)


def _energy(pool: Pool) -> Averaged:
    gradient = pool.known.gradient
    explicit = None if gradient is None else gradient[:, None]
    return Averaged(pool, pool.known.total[:, None], explicit)


def _slopes(function: Callable[..., float], at: Array) -> Array:
    """Central differences of a function of a few averages, [m]."""
    steps = 1e-4 * np.maximum(np.abs(at), 1e-6)
    slopes = []
    for k, step in enumerate(steps):
        ends: list[Any] = []
        for sign in (1.0, -1.0):
            moved = at.copy()
            moved[k] += sign * step
            ends.append(function(*moved))
        slopes.append((ends[0] - ends[1]) / (2.0 * step))
    return np.array(slopes)


def _same_density(ensemble: Ensemble, density: float | None) -> bool:
    own = ensemble.mass / ensemble.volumes.mean() / GRAM_PER_CM3
    return bool(abs(own - (density or 0.0)) < SAME_DENSITY * own)
