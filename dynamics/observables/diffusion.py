r"""Self-diffusion by Einstein's relation, with the diffusive window and a reliable error.

.. math:: D = \frac{1}{6} \frac{d}{dt} \langle |r(t) - r(0)|^2 \rangle

Molecules are nearly independent of each other, so the scatter of their own slopes gives the error
of the mean, whatever the correlation in time. The window [t, 3 t] begins at the first t whose slope
agrees with those of all later windows within the error of their difference (Lepski's rule), and
one step later than that. Finite size: Yeh and Hummer, J. Phys. Chem. B 108, 15873 (2004), eq. 12.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import units
from numpy.typing import NDArray

from hff_ase.dynamics.observables.msd import squared_displacements
from hff_ase.dynamics.observables.observable import Observable, combine, one_sigma, refuse
from hff_ase.dynamics.observables.trajectory import Trajectory, check_transport
from hff_ase.errors import ConfigError

Array = NDArray[np.float64]
UNIT = "1e-9 m^2/s"
A2_PER_PS = 10.0  # in 1e-9 m^2/s
LONGEST = 0.3  # of the run: longest lag looked at
LARGEST_SHARE = 0.12  # of the run that a window may end at
WIDTH = 3.0  # of a window: its end over its beginning
STEP = 1.3  # from one window's beginning to the next
AGREE = 2.5  # errors by which windows may differ
NEXT = 4  # later windows whose differences count as an error of the choice
SLOPE = (0.9, 1.1)  # log-log slope outside of which a caution is given
LEAST_SITES = 3
LEAST_FRAMES = 200  # with fewer, ballistic or caged motion passes for diffusion
YEH_HUMMER = 2.837297


def self_diffusion(
    runs: Trajectory | Sequence[Trajectory], kind: str, *, drift: bool = True
) -> Observable:
    """Self-diffusion coefficient of a species, 1e-9 m^2/s, not corrected for the finite box.

    Args:
        runs: centres of molecules (`centres`) of one run or of each replica, with equal times.
        kind: the species.
        drift: take displacements relative to the centre of mass of everything.

    Returns:
        Refused where no window up to 0.3 of the run is diffusive. ``details``: ``lags`` [ps],
        ``msd`` [A^2], ``window`` (beginning and end, ps), ``slope`` (log-log, in the window).

    Raises:
        ConfigError: no such species, a run that transport cannot use.
    """
    replicas = [runs] if isinstance(runs, Trajectory) else list(runs)
    interval = check_transport(replicas[0])
    curves = []
    for run in replicas:
        if abs(check_transport(run) - interval) > 1e-6 * interval:
            raise ConfigError("expected replicas with equal times between frames")
        sites = run.topology.of_kind(kind)
        n_lags = max(int(LONGEST * len(run)), 4)
        curves.append(squared_displacements(comoving(run, drift)[:, sites], n_lags))
    shortest = min(map(len, curves))
    msd = np.concatenate([curve[:shortest] for curve in curves], axis=1)
    groups = np.repeat(np.arange(len(curves)), [curve.shape[1] for curve in curves])
    length = sum(len(run) for run in replicas) * interval
    return diffusion_of_curves(msd, interval, length, groups)


def comoving(run: Trajectory, drift: bool = True) -> Array:
    """Positions relative to the centre of mass of everything, where ``drift`` is to go."""
    if not drift:
        return run.positions
    masses = run.topology.masses
    centre = np.einsum("fnx,n->fx", run.positions, masses) / masses.sum()
    return run.positions - centre[:, None]


def diffusion_of_curves(
    msd: Array, interval: float, length: float, groups: NDArray[np.int64] | None = None
) -> Observable:
    """Diffusion coefficient from the mean squared displacement of each molecule.

    Args:
        msd: [n_lags, n_molecules], Angstrom^2, from lag 0.
        interval: between lags, ps.
        length: of the runs together, ps.
        groups: replica of each molecule; None: one.
    """
    lags: Array = interval * np.arange(float(len(msd)))
    mean = msd.mean(axis=1)
    method = "Einstein relation"
    known: dict[str, Any] = {"length": length, "details": {"lags": lags, "msd": mean}}
    n = msd.shape[1]
    if n < LEAST_SITES:
        reason = f"{n} molecules, at least {LEAST_SITES} are needed for an error"
        return refuse(UNIT, method, reason, **known)
    n_frames = len(msd) / LONGEST
    if n_frames < LEAST_FRAMES:
        reason = f"{n_frames:.0f} frames, at least {LEAST_FRAMES} are needed"
        return refuse(UNIT, method, reason, needs=LEAST_FRAMES / n_frames, **known)
    starts = np.unique(np.round(np.geomspace(1, max(len(msd) / WIDTH, 1.01), 200)).astype(int))
    starts = _thin(starts)
    slopes = np.stack([_slopes(msd, lags, start) for start in starts])  # [n_windows, n_molecules]
    chosen = _first_stable(slopes)
    if chosen is None:
        return refuse(UNIT, method, "no window of the run is diffusive", needs=3.0, **known)
    start = int(starts[chosen])
    end = min(int(WIDTH * start), len(msd) - 1)
    exponent = math.log(mean[end] / mean[start]) / math.log(lags[end] / lags[start])
    own = slopes[chosen] * A2_PER_PS / 6.0
    value, variance, dof = _mean_of_groups(own, groups)
    later = slopes[chosen + 1 : chosen + 1 + NEXT].mean(axis=1) * A2_PER_PS / 6.0
    variance += float(np.mean((later - value) ** 2)) if len(later) else 0.0
    error = math.sqrt(variance) * one_sigma(dof)
    known["details"] |= {"window": (lags[start], lags[end]), "slope": exponent, "molecules": own}
    method = f"Einstein relation, {lags[start]:.3g}-{lags[end]:.3g} ps"
    share = lags[end] / (len(msd) * interval / LONGEST)
    if share > LARGEST_SHARE:
        reason = f"diffusive only from {lags[start]:.3g} ps on: the run is too short for that"
        return refuse(UNIT, method, reason, value=value, needs=share / LARGEST_SHARE, **known)
    if value <= 0:
        reason = "displacements do not grow with time: a solid, or a run that is too short"
        return refuse(UNIT, method, reason, value=value, needs=3.0, **known)
    reason = ""
    if not SLOPE[0] < exponent < SLOPE[1]:
        reason = f"log-log slope {exponent:.2f}: linear, with an offset of the short times"
    return Observable(value, error, UNIT, method, float(n), dof, reason=reason, **known)


def _thin(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Window beginnings at least a factor of STEP apart."""
    kept = [int(starts[0])]
    for start in starts[1:]:
        if start >= STEP * kept[-1]:
            kept.append(int(start))
    return np.array(kept)


def _slopes(msd: Array, lags: Array, start: int) -> Array:
    """Straight-line slope of each molecule over the window that begins at a lag."""
    end = min(int(WIDTH * start), len(msd) - 1)
    window = np.unique(np.linspace(start, max(end, start + 1), 12).astype(int))
    window = window[window < len(msd)]
    t = lags[window] - lags[window].mean()
    return (t @ msd[window]) / (t @ t)


def _first_stable(slopes: Array) -> int | None:
    """The first window that agrees with all later ones, at least one; None if there is none."""
    n_windows, n = slopes.shape
    means = slopes.mean(axis=1)
    for k in range(n_windows - 2):
        differences = slopes[k + 1 :] - slopes[k]
        errors = differences.std(axis=1, ddof=1) / math.sqrt(n)
        if (np.abs(means[k + 1 :] - means[k]) <= AGREE * errors).all():
            return k + 1
    return None


def _mean_of_groups(values: Array, groups: NDArray[np.int64] | None) -> tuple[float, float, float]:
    """Mean over molecules, its variance and degrees of freedom, from molecules and replicas."""
    n = len(values)
    variance, dof = float(values.var(ddof=1)) / n, float(n - 1)
    if groups is not None and len(np.unique(groups)) > 2:
        means = np.array([values[groups == g].mean() for g in np.unique(groups)])
        between, freedom = float(means.var(ddof=1)) / len(means), float(len(means) - 1)
        pooled = (dof * variance + freedom * between) / (dof + freedom)
        variance = max(pooled, 0.0)
        dof += freedom
    return float(values.mean()), variance, dof


def yeh_hummer(
    diffusion: Observable, viscosity: Observable, temperature: float, box: float
) -> Observable:
    """Diffusion coefficient of an infinite system: D + 2.837297 kT/(6 pi eta L).

    Args:
        diffusion: 1e-9 m^2/s, in the box.
        viscosity: mPa s, of the same model (the experiment's is another liquid's).
        temperature: K.
        box: edge of the cubic cell, Angstrom.

    Raises:
        ConfigError: units that are not these.
    """
    if diffusion.unit != UNIT or viscosity.unit != "mPa s":
        raise ConfigError(f"expected {UNIT} and mPa s, got {diffusion.unit} and {viscosity.unit}")
    boltzmann = units.kB * units._e  # J/K
    factor = YEH_HUMMER * boltzmann * temperature / (6 * math.pi * box * 1e-10 * 1e-3) * 1e9
    found = combine(
        lambda d, eta: d + factor / eta,
        {"d": diffusion, "eta": viscosity},
        UNIT,
        f"{diffusion.method}, Yeh-Hummer",
    )
    return found


def cubic_edge(cell: Array) -> float:
    """Edge of a cubic cell [3, 3], Angstrom.

    Raises:
        ConfigError: it is not cubic: the constant of the correction is that of a cube.
    """
    edge = float(np.cbrt(abs(np.linalg.det(cell))))
    lengths = np.linalg.norm(cell, axis=1)
    angles = np.abs((cell @ cell.T)[np.triu_indices(3, 1)]).max()
    if np.abs(lengths - edge).max() > 1e-3 * edge or angles > 1e-3 * edge**2:
        raise ConfigError(f"expected a cubic cell for Yeh-Hummer, got {cell.round(3).tolist()}")
    return edge
