r"""What a constant drive does: conductivity of the current and permittivity of polarisation in an
electric field, viscosity of the flow under a cosine acceleration.

.. math:: \sigma = \frac{1}{V F} \frac{d}{dt} \sum_k Q_k \mathbf{R}_k \cdot \hat{\mathbf{F}},
    \qquad \varepsilon =
    1 + \frac{\langle \mathbf{M} \cdot \hat{\mathbf{F}} \rangle}{\varepsilon_0 V F}

Under lattice sums with a conducting boundary the field that is applied is the field in the liquid.
An acceleration a cos(kz) along x makes a flow v cos(kz) with

.. math:: \eta(k) = \rho a / (k^2 v)

(Hess, J. Chem. Phys. 116, 209 (2002)). All hold for drives on which they do not depend: run a
second one to see, or several and extrapolate (`at_rest`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hff_ase.dynamics.observables.conductivity import MS_PER_CM
from hff_ase.dynamics.observables.observable import Observable, refuse
from hff_ase.dynamics.observables.statistics import mean_with_error
from hff_ase.dynamics.observables.trajectory import Trajectory, check_transport
from hff_ase.errors import ConfigError
from hff_ase.units import COULOMB_CONSTANT

Array = NDArray[np.float64]
MPA_S = 1e-2  # g/cm^3 A^2/ps
MOST_NOISE = 0.3  # error over flow
SAME = 1e-2  # of squares that count as equal


def driven_conductivity(runs: Sequence[Trajectory], field: ArrayLike) -> Observable:
    """Conductivity from the current that a field drives, mS/cm.

    Args:
        runs: centres of molecules of each replica, at constant volume, once the current is steady.
        field: three components, V/Angstrom.

    Raises:
        ConfigError: no field, no formal charges, or a run that transport cannot use.
    """
    direction, strength = _direction(field)
    series, interval = [], 1.0
    for run in runs:
        interval = check_transport(run)
        charges = run.topology.formal_charges()
        moment = np.einsum("fnx,n,x->f", run.positions, charges, direction)
        volume = float(run.volumes[0])
        series.append(np.diff(moment) / interval * MS_PER_CM / (volume * strength))
    method = f"current in a field of {strength:g} V/A"
    return mean_with_error(series, interval, "mS/cm", method)


def driven_permittivity(
    dipoles: Sequence[ArrayLike], field: ArrayLike, volume: float, interval: float = 1.0
) -> Observable:
    """Relative permittivity from the polarisation by a field; of liquids without ions.

    Args:
        dipoles: of the box [n_samples, 3], e Angstrom, of each replica (`box_dipole`).
        field: three components, V/Angstrom.
        volume: Angstrom^3.
        interval: between samples, ps.

    Raises:
        ConfigError: no field, or dipoles that are not [n, 3].
    """
    direction, strength = _direction(field)
    arrays = [np.asarray(run, dtype=float) for run in dipoles]
    if any(run.ndim != 2 or run.shape[1] != 3 for run in arrays):
        raise ConfigError(f"expected dipoles [n, 3], got {[run.shape for run in arrays]}")
    factor = 4 * np.pi * COULOMB_CONSTANT / (volume * strength)
    series = [1.0 + factor * (run @ direction) for run in arrays]
    return mean_with_error(series, interval, "", f"polarisation by a field of {strength:g} V/A")


def driven_viscosity(
    flows: Sequence[ArrayLike],
    shear: float,
    wavelength: float,
    density: float,
    interval: float = 1.0,
) -> Observable:
    """Shear viscosity of a liquid that a cosine acceleration drives, mPa s.

    ``details`` holds ``wave_number`` (1/Angstrom) and ``shear_rate`` (k v, 1/ps), for `at_rest`.

    Args:
        flows: amplitudes of the flow [n_samples] of each replica once it is steady, A/ps.
        shear: amplitude of the acceleration, A/ps^2.
        wavelength: the length of the box along the gradient, Angstrom.
        density: g/cm^3.
        interval: between samples, ps.

    Raises:
        ConfigError: an amplitude, wavelength or density that is not positive.
    """
    for name, value in (("shear", shear), ("wavelength", wavelength), ("density", density)):
        if not value > 0:
            raise ConfigError(f"expected a positive {name}, got {value:g}")
    method = f"flow under {shear:g} A/ps^2 over {wavelength:.1f} A"
    flow = mean_with_error(flows, interval, "A/ps", method)
    k = 2 * np.pi / wavelength
    if flow.value <= 0 or flow.error > MOST_NOISE * flow.value:
        reason = f"the flow is {flow.value:.3g} +- {flow.error:.2g} A/ps: no more than noise"
        return refuse("mPa s", method, reason, length=flow.length, needs=4.0)
    value = MPA_S * density * shear / (k**2 * flow.value)
    details = {**flow.details, "wave_number": k, "shear_rate": k * flow.value}
    error = value * flow.error / flow.value
    return replace(flow, value=value, error=error, unit="mPa s", details=details)


def at_rest(found: Sequence[Observable]) -> Observable:
    r"""Viscosity at zero wave number and shear rate, from runs that differ in them, mPa s.

    .. math:: \eta(k, \dot\gamma) = \eta_0 (1 - a k^2 - b \dot\gamma^2)

    the lowest orders of either, fitted by weighted least squares; what all runs share is left out
    (with one wave number, the result is the viscosity at that wave number). Where the runs scatter
    more than their errors allow, the error is wider by that much.

    Args:
        found: of `driven_viscosity`, none of them refused.

    Raises:
        ConfigError: a refused one, or fewer runs than unknowns.
    """
    if any(one.refused for one in found):
        raise ConfigError("expected viscosities with errors, got a refused one")
    columns = [np.ones(len(found))]
    for name in ("wave_number", "shear_rate"):
        values = np.array([one.details[name] for one in found]) ** 2
        if len(values) and np.ptp(values) > SAME * values.max():
            columns.append(values / values.max())
    if len(found) < len(columns) or len(found) < 2:
        raise ConfigError(
            f"expected at least {max(len(columns), 2)} runs of different drives, got {len(found)}"
        )
    weight = 1.0 / np.array([one.error for one in found])
    design = np.stack(columns, axis=1) * weight[:, None]
    target = np.array([one.value for one in found]) * weight
    covariance = np.linalg.inv(design.T @ design)
    solution = covariance @ design.T @ target
    left = len(found) - len(columns)
    scatter = float(np.square(design @ solution - target).sum()) / left if left else 1.0
    error = float(np.sqrt(covariance[0, 0] * max(scatter, 1.0)))
    return Observable(
        value=float(solution[0]),
        error=error,
        unit="mPa s",
        method=f"{len(found)} driven flows, extrapolated",
        samples=sum(one.samples for one in found),
        dof=sum(one.dof for one in found),
        length=sum(one.length for one in found),
        details={"coefficients": solution, "chi_squared": scatter},
    )


def _direction(field: ArrayLike) -> tuple[Array, float]:
    """Unit vector and strength of a field."""
    vector = np.asarray(field, dtype=float)
    strength = float(np.linalg.norm(vector))
    if vector.shape != (3,) or not strength > 0:
        raise ConfigError(f"expected a field of three components in V/A, got {vector.tolist()}")
    return vector / strength, strength
