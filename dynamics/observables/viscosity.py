"""Shear viscosity from the spectrum of the pressure tensor: a second opinion to Green and Kubo's.

The five independent shear elements of an isotropic liquid are series of the same statistics: the
three off-diagonal ones, (xx - yy)/2 and (xx + yy - 2 zz)/sqrt(12). Their spectrum at frequency zero
is 2 kT/V times the viscosity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import units
from numpy.typing import ArrayLike, NDArray

from hff_ase.dynamics.observables.integral import integral_of_flux
from hff_ase.dynamics.observables.observable import Observable
from hff_ase.errors import ConfigError
from hff_ase.units import BAR

Array = NDArray[np.float64]
BAR_PS = 1e-4  # mPa s


def shear_series(tensor: ArrayLike) -> Array:
    """Five series [5, n_samples] from a tensor [n_samples, 6] in the order xx yy zz yz xz xy.

    Raises:
        ConfigError: samples that are not [n, 6] or not finite.
    """
    stress = np.asarray(tensor, dtype=float)
    if stress.ndim != 2 or stress.shape[1] != 6 or not np.isfinite(stress).all():
        raise ConfigError(f"expected finite samples [n, 6] of a tensor, got shape {stress.shape}")
    xx, yy, zz, yz, xz, xy = stress.T
    return np.stack([yz, xz, xy, 0.5 * (xx - yy), (xx + yy - 2 * zz) / np.sqrt(12.0)])


def spectral_viscosity(
    tensors: ArrayLike | Sequence[ArrayLike], interval: float, volume: float, temperature: float
) -> Observable:
    """Shear viscosity, mPa s, of one run or several at constant volume.

    Args:
        tensors: [n_samples, 6], bar, of one run, or such of each replica.
        interval: between samples, ps; 5 to 10 fs resolve the stress of a liquid of molecules.
        volume: Angstrom^3.
        temperature: K.

    Raises:
        ConfigError: see `shear_series`.
    """
    given: Any = tensors
    runs = [shear_series(one) for one in ([given] if np.ndim(given[0]) == 1 else given)]
    factor = volume * BAR / (units.kB * temperature) * BAR_PS  # one BAR cancels
    return integral_of_flux(runs, interval, factor, "mPa s", "spectrum of the pressure tensor")
