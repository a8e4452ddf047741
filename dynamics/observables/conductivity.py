"""Ionic conductivity: Nernst-Einstein from single ions, collective from the Onsager matrix."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase import units

from hff_ase.dynamics.observables.diffusion import UNIT as DIFFUSION_UNIT
from hff_ase.dynamics.observables.observable import Observable, combine
from hff_ase.dynamics.observables.onsager import Onsager
from hff_ase.errors import ConfigError

UNIT = "mS/cm"
# e^2/(k_B T) (1/ps) Angstrom^2/Angstrom^3 per eV: e/(V Angstrom ps) in mS/cm
MS_PER_CM = units._e * 1e10 * 1e12 * 10.0


def nernst_einstein(
    diffusion: Mapping[str, Observable],
    charges: Mapping[str, float],
    numbers: Mapping[str, int],
    volume: float,
    temperature: float,
) -> Observable:
    """Conductivity of ions that move independently: e^2/(V kT) sum z^2 N D, mS/cm.

    Args:
        diffusion: of each charged species, 1e-9 m^2/s; corrected for the finite box or not, as the
            caller wants (the collective one needs no correction to first order).
        charges: formal, e.
        numbers: molecules of each species.
        volume: Angstrom^3.
        temperature: K.

    Raises:
        ConfigError: a charged species without a diffusion coefficient, or no ions.
    """
    ions = [kind for kind, charge in charges.items() if charge != 0 and numbers.get(kind, 0) > 0]
    missing = [kind for kind in ions if kind not in diffusion]
    if not ions or missing:
        raise ConfigError(f"expected diffusion coefficients of ions, got none of {missing or ions}")
    if any(diffusion[kind].unit != DIFFUSION_UNIT for kind in ions):
        raise ConfigError(f"expected diffusion coefficients in {DIFFUSION_UNIT}")
    factor = 0.1 * MS_PER_CM / (volume * units.kB * temperature)  # 0.1: to Angstrom^2/ps
    weights = {kind: factor * charges[kind] ** 2 * numbers[kind] for kind in ions}
    return combine(
        lambda **values: sum(weights[kind] * values[kind] for kind in ions),
        {kind: diffusion[kind] for kind in ions},
        UNIT,
        "Nernst-Einstein",
    )


def conductivity(onsager: Onsager) -> Observable:
    """Conductivity with all correlations between ions, mS/cm; the same in every frame.

    Raises:
        ConfigError: no charged species.
    """
    z = onsager.charges
    if not np.any(z):
        raise ConfigError(f"expected ions, got {', '.join(onsager.kinds)} without charge")
    factor = MS_PER_CM / (onsager.volume * units.kB * onsager.temperature)
    method = f"Onsager matrix, below {1000 * onsager.cutoff:.3g} GHz"
    return onsager.derived(lambda matrix: factor * float(z @ matrix @ z), UNIT, method)


def ionicity(collective: Observable, independent: Observable) -> Observable:
    """Conductivity over that of Nernst and Einstein; errors are taken for independent.

    The error of the collective one is several times larger, so that their correlation does not
    matter. Both have to be of the same box: without Yeh-Hummer.
    """
    parts = {"collective": collective, "independent": independent}
    return combine(lambda collective, independent: collective / independent, parts, "", "ionicity")
