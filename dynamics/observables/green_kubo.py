r"""Shear viscosity from the fluctuations of the pressure tensor (Green and Kubo).

.. math:: \eta = \frac{V}{10\,k_B T} \int_0^\infty
    \sum_{ab} \langle P^s_{ab}(0) P^s_{ab}(t) \rangle \, dt

over all nine elements of the symmetric traceless pressure tensor (Daivis and Evans, J. Chem. Phys.
100, 541 (1994)), which hold five independent estimates. The integral over a finite run never comes
to rest: its noise grows with time. Its end is therefore found as by Zhang, Otani and Maginn (J.
Chem. Theory Comput. 11, 3537 (2015)): a sum of two exponential approaches is fitted up to the time
at which the error is 40 % of the integral, weighted by the inverse of the error.

Such a fit cannot distinguish a tail slower than a fifth of that range from noise and would cut it
off silently. Where the fit wants one, what the integral still gains beyond the
middle of the range is therefore added to the error, and ``settled`` is False.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from scipy.optimize import curve_fit
from scipy.signal import correlate

from hff_ase.dynamics.observables.observable import Observable, one_sigma
from hff_ase.dynamics.reporters.run_folder import PRESSURE, STATISTICS
from hff_ase.dynamics.reporters.statistics import PLANES, read_statistics
from hff_ase.errors import ConfigError, SimulationError
from hff_ase.units import BAR

__all__ = ["Viscosity", "viscosity", "viscosity_of_run"]

WEIGHTS = (1.0, 1.0, 1.0, 2.0, 2.0, 2.0)  # of xx ... xy in the sum over nine elements
TOO_NOISY = 0.4  # error over integral where the fit ends
N_FITTED = 200  # points of the integral that the fit looks at
BAR_PS = 1e-4  # mPa s
SETTLED = 0.2  # the slowest time of the fit over its range: e^-5 is left at the end
SAME_VOLUME = 1e-9
AT_BOUND, LEAST_WEIGHT = 0.98, 0.05  # of the slowest time that is allowed; of a part that counts


@dataclass(frozen=True)
class Viscosity:
    """What Green and Kubo's formula gives.

    Attributes:
        value, error: mPa s; the error is a jackknife over blocks of the run, widened to a 68 %
            interval by Student's t, and by what may be missing of a tail.
        cutoff: ps, where the fit ends.
        time: [n_lags], ps.
        integral, integral_error: [n_lags], the integral up to each time and its error, mPa s.
        settled: whether the fit came to rest within its range.
        n_blocks: of the jackknife.
    """

    value: float
    error: float
    cutoff: float
    time: np.ndarray
    integral: np.ndarray
    integral_error: np.ndarray
    settled: bool = True
    n_blocks: int = 0

    def observable(self, length: float = math.nan) -> Observable:
        """The same as every other quantity; ``length`` of the run in ps."""
        known: dict[str, Any] = {
            "value": self.value,
            "length": length,
            "method": "Green-Kubo",
            "unit": "mPa s",
        }
        dof = float(max(self.n_blocks - 1, 1))
        if not self.settled:
            reason = "the integral still rises where noise takes over"
            return Observable(error=self.error, samples=dof + 1, dof=dof, reason=reason, **known)
        return Observable(error=self.error, samples=dof + 1, dof=dof, **known)


def viscosity(
    tensor: np.ndarray,
    interval: float,
    volume: float,
    temperature: float,
    max_time: float = 10.0,
    n_blocks: int = 10,
) -> Viscosity:
    """Shear viscosity of a run at constant volume.

    Args:
        tensor: [n_samples, 6], bar, in the order xx, yy, zz, yz, xz, xy.
        interval: between samples, ps; 5 to 10 fs resolve the stress of a liquid of molecules.
        volume: Angstrom^3.
        temperature: K.
        max_time: longest time of the integral, ps; several times the decay of the correlations.
        n_blocks: parts of the run that are taken for independent; each longer than ``max_time``.

    Raises:
        ConfigError: samples that are not [n, 6] or not finite, or too few for the blocks.
        SimulationError: the integral is only noise, or the fit does not end.
    """
    tensor = np.asarray(tensor, dtype=float)
    if tensor.ndim != 2 or tensor.shape[1] != 6 or not np.isfinite(tensor).all():
        raise ConfigError(f"expected finite samples [n, 6] of a tensor, got shape {tensor.shape}")
    n_lags = round(max_time / interval) + 1
    length = len(tensor) // n_blocks if n_blocks > 2 else 0
    if n_lags < 8 or length < 2 * n_lags:
        raise ConfigError(
            f"expected more than 2 blocks, each of at least two times max_time ({max_time:g} ps, "
            f"at least 8 samples), got {n_blocks} in {len(tensor) * interval:g} ps"
        )
    blocks = traceless(tensor)[: n_blocks * length].reshape(n_blocks, length, 6)
    correlation = np.stack([correlate_elements(block, n_lags) for block in blocks])
    scale = volume * BAR / (10.0 * units.kB * temperature) * BAR_PS  # one BAR cancels
    steps = 0.5 * (correlation[:, 1:] + correlation[:, :-1]) * interval * scale
    integrals = np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0)))
    time = interval * np.arange(n_lags)
    integral = integrals.mean(axis=0)
    error = integrals.std(axis=0, ddof=1) / np.sqrt(n_blocks)
    noisy = np.flatnonzero(error[1:] > TOO_NOISY * integral[1:])
    end = int(noisy[0]) + 1 if len(noisy) else n_lags
    if end < 8:
        raise SimulationError(
            f"expected a longer run: the integral is noise from {time[end - 1]:g} ps on"
        )
    weights = error[1:end]
    value, settled = plateau(time[1:end], integral[1:end], weights)
    others = (n_blocks * integral - integrals) / (n_blocks - 1)  # each without one block
    kept = np.array([plateau(time[1:end], other[1:end], weights)[0] for other in others])
    spread = np.sqrt((n_blocks - 1) * np.mean((kept - kept.mean()) ** 2)) * one_sigma(n_blocks - 1)
    if not settled:
        late = float(integral[end // 2 : end].mean() - integral[end // 4 : end // 2].mean())
        spread = math.hypot(spread, late)
    cutoff = float(time[end - 1])
    return Viscosity(value, float(spread), cutoff, time, integral, error, settled, n_blocks)


def viscosity_of_run(
    folder: str | Path,
    stage: int | None = None,
    skip: float = 0.0,
    max_time: float = 10.0,
    n_blocks: int = 10,
) -> Viscosity:
    """Shear viscosity from the pressure.dat of a run's folder.

    Args:
        folder: of a run with ``pressure_interval``.
        stage: counted from 1, at constant volume; None for the last.
        skip: so much of its beginning is left out, ps.
        max_time, n_blocks: see `viscosity`.

    Raises:
        ConfigError: no pressure tensors there, another volume every step, or too few of them.
        SimulationError: see `viscosity`.
    """
    folder = Path(folder)
    if not (folder / PRESSURE).is_file():
        raise ConfigError(f"expected {PRESSURE} in {folder} (pressure_interval), got none")
    rows, statistics = read_statistics(folder / PRESSURE), read_statistics(folder / STATISTICS)
    wanted = int(rows["stage"].max()) if stage is None else stage
    volumes = inside(statistics, "volume[A^3]", wanted, skip)
    times = inside(rows, "time[ps]", wanted, skip)
    if len(volumes) == 0 or len(times) < 2:
        raise ConfigError(f"expected samples of stage {wanted} after {skip:g} ps, got none")
    if np.ptp(volumes) > SAME_VOLUME * volumes.mean():
        raise ConfigError(f"expected a constant volume in stage {wanted}, got that of npt")
    tensor = np.stack([inside(rows, f"P{p}[bar]", wanted, skip) for p in PLANES], axis=1)
    temperature = float(inside(statistics, "temperature[K]", wanted, skip).mean())
    interval = float(np.median(np.diff(times)))
    return viscosity(tensor, interval, float(volumes.mean()), temperature, max_time, n_blocks)


def inside(table: dict[str, np.ndarray], name: str, stage: int, skip: float) -> np.ndarray:
    """A column of a stage, less what lies in its first ``skip`` ps."""
    in_stage = table["stage"] == stage
    times = table["time[ps]"][in_stage]
    late = times >= times.min(initial=np.inf) + skip
    return table[name][in_stage][late]


def traceless(tensor: np.ndarray) -> np.ndarray:
    """Tensors [..., 6] less a third of their trace."""
    result = tensor.copy()
    result[..., :3] -= tensor[..., :3].mean(axis=-1, keepdims=True)
    return result


def correlate_elements(series: np.ndarray, n_lags: int) -> np.ndarray:
    """The sum over nine elements of <P(0) P(t)> [n_lags], from the six of ``series`` [n, 6]."""
    n, total = len(series), np.zeros(n_lags)
    for weight, element in zip(WEIGHTS, series.T, strict=True):
        total += weight * correlate(element, element, method="fft")[n - 1 : n - 1 + n_lags]
    return total / (n - np.arange(n_lags))


def plateau(time: np.ndarray, integral: np.ndarray, error: np.ndarray) -> tuple[float, bool]:
    """The plateau of a sum of two exponential approaches fitted to the integral.

    Returns:
        The height, and whether both times are free of their upper bound.

    Raises:
        SimulationError: the fit does not converge.
    """
    chosen = np.unique(np.geomspace(1, len(time), N_FITTED).astype(int)) - 1
    time, integral, error = time[chosen], integral[chosen], error[chosen]
    height, last = max(float(integral.max()), 1e-12), float(time[-1])
    start = (height, 0.5, 0.02 * last, 0.1 * last)
    # what has not come to rest by the end is not seen: a slower time would only follow the noise
    slowest = SETTLED * last
    bounds = ([0.0, 0.0, 1e-6 * last, 1e-6 * last], [10 * height, 1.0, slowest, slowest])
    try:
        found, _ = curve_fit(approach, time, integral, start, error, bounds=bounds)
    except RuntimeError as problem:
        raise SimulationError(f"expected a run that is long enough, got {problem}") from None
    share, times = found[1], found[2:]
    weights = np.array([share, 1.0 - share])
    bound = (times > AT_BOUND * slowest) & (weights > LEAST_WEIGHT)
    return float(found[0]), not bool(bound.any())


def approach(
    time: np.ndarray, height: float, share: float, first: float, second: float
) -> np.ndarray:
    """Two exponentials that rise to ``height`` with the times ``first`` and ``second``."""
    rising = share * np.exp(-time / first) + (1.0 - share) * np.exp(-time / second)
    return height * (1.0 - rising)
