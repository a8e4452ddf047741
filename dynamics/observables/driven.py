r"""What a constant electric field does: conductivity of the current, permittivity of polarisation.

.. math:: \sigma = \frac{1}{V F} \frac{d}{dt} \sum_k Q_k \mathbf{R}_k \cdot \hat{\mathbf{F}},
    \qquad \varepsilon =
    1 + \frac{\langle \mathbf{M} \cdot \hat{\mathbf{F}} \rangle}{\varepsilon_0 V F}

Under lattice sums with a conducting boundary the field that is applied is the field in the liquid.
Both hold for fields in which they do not depend on the field: run a second one to see.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hff_ase.dynamics.observables.conductivity import MS_PER_CM
from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.observables.statistics import mean_with_error
from hff_ase.dynamics.observables.trajectory import Trajectory, check_transport
from hff_ase.errors import ConfigError
from hff_ase.units import COULOMB_CONSTANT

Array = NDArray[np.float64]


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


def _direction(field: ArrayLike) -> tuple[Array, float]:
    """Unit vector and strength of a field."""
    vector = np.asarray(field, dtype=float)
    strength = float(np.linalg.norm(vector))
    if vector.shape != (3,) or not strength > 0:
        raise ConfigError(f"expected a field of three components in V/A, got {vector.tolist()}")
    return vector / strength, strength
