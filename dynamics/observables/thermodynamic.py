"""Density, expansion, compressibility, heat of vaporisation and permittivity, with errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import units
from numpy.typing import ArrayLike, NDArray

from hff_ase.dynamics.observables.observable import Observable, combine, refuse
from hff_ase.dynamics.observables.statistics import as_replicas, mean_with_error
from hff_ase.errors import ConfigError
from hff_ase.units import COULOMB_CONSTANT, GRAM_PER_CM3

Array = NDArray[np.float64]
Series = ArrayLike | Sequence[ArrayLike]
GIGAPASCAL = units.GPa
KJ_PER_MOL = units.kJ / units.mol


def density(volumes: Series, mass: float, interval: float = 1.0) -> Observable:
    """Mass density, g/cm^3, from the volumes of a run at constant pressure.

    Args:
        volumes: [n_samples], Angstrom^3, or such of each replica, equilibrated.
        mass: of the box, amu.
        interval: between samples, ps.
    """
    samples = [mass / one / GRAM_PER_CM3 for one in _positive(volumes, "volumes")]
    return mean_with_error(samples, interval, "g/cm^3", "mean of mass over volume, NPT")


def compressibility(volumes: Series, temperature: float, interval: float = 1.0) -> Observable:
    r"""Isothermal compressibility, 1/GPa: (<V^2> - <V>^2)/(kT <V>).

    Allen and Tildesley, Computer Simulation of Liquids, 2nd ed., eq. 2.91. A barostat of weak
    coupling (Berendsen) has other fluctuations: use one that samples the ensemble.

    Args:
        volumes: [n_samples], Angstrom^3, or such of each replica.
        temperature: K.
        interval: between samples, ps.
    """
    series = _positive(volumes, "volumes")
    mean = float(np.concatenate(series).mean())
    squares, correction = _squares(series, [mean] * len(series), interval)
    factor = GIGAPASCAL / (units.kB * temperature * mean)
    found = mean_with_error(squares, interval, "A^6", "volume fluctuations, NPT")
    return found.scaled(factor * correction, "1/GPa")


def expansion(
    volumes: Series, enthalpies: Series, temperature: float, interval: float = 1.0
) -> Observable:
    r"""Thermal expansion coefficient, 1e-3/K: <dV dH>/(k T^2 <V>).

    Allen and Tildesley, 2nd ed., eq. 2.93; H = E + P V with the pressure of the barostat.

    Args:
        volumes: [n_samples], Angstrom^3, or such of each replica.
        enthalpies: the same of E + P V, eV.
        temperature: K.
        interval: between samples, ps.

    Raises:
        ConfigError: series of different lengths.
    """
    v, h = _positive(volumes, "volumes"), as_replicas(enthalpies)
    if [len(one) for one in v] != [len(one) for one in h]:
        raise ConfigError("expected as many enthalpies as volumes")
    mean_v, mean_h = float(np.concatenate(v).mean()), float(np.concatenate(h).mean())
    products = [(one - mean_v) * (other - mean_h) for one, other in zip(v, h, strict=True)]
    correction = _lost(v, interval)
    factor = 1e3 / (units.kB * temperature**2 * mean_v)
    found = mean_with_error(products, interval, "", "fluctuations of volume and enthalpy, NPT")
    return found.scaled(factor * correction, "1e-3/K")


def expansion_of_densities(densities: Sequence[Observable], temperatures: ArrayLike) -> Observable:
    """Thermal expansion, 1e-3/K, from densities at several temperatures: -d ln rho/dT.

    Args:
        densities: at least two, with errors, in one unit.
        temperatures: [n], K.

    Raises:
        ConfigError: fewer than two, or as many temperatures as densities are not given.
    """
    t = np.asarray(temperatures, dtype=float)
    if len(densities) < 2 or t.shape != (len(densities),) or np.ptp(t) == 0:
        raise ConfigError(f"expected densities at two temperatures or more, got {len(densities)}")
    method = f"slope of ln(density), {t.min():g}-{t.max():g} K"
    if any(one.refused for one in densities):
        return refuse("1e-3/K", method, "a density without error", needs=1.0)
    logs = np.log([one.value for one in densities])
    weights = np.array([one.relative_error for one in densities]) ** -2.0
    centre = float(np.average(t, weights=weights))
    norm = float(weights @ (t - centre) ** 2)
    slope = -float(weights @ ((t - centre) * logs)) / norm
    dof = min(one.dof for one in densities)
    samples = min(one.samples for one in densities)
    return Observable(1e3 * slope, 1e3 * norm**-0.5, "1e-3/K", method, samples, dof)


def heat_of_vaporisation(
    liquid: Observable, gas: Observable, n_molecules: int, temperature: float
) -> Observable:
    """Heat of vaporisation, kJ/mol: E_gas - E_liquid/N + RT (ideal gas, volume of liquid left out).

    Args:
        liquid: mean potential energy of the box, eV.
        gas: mean potential energy of one molecule at the same temperature, eV.
        n_molecules: in the box.
        temperature: K.

    Raises:
        ConfigError: other units.
    """
    if liquid.unit != "eV" or gas.unit != "eV":
        raise ConfigError(f"expected energies in eV, got {liquid.unit} and {gas.unit}")
    thermal = units.kB * temperature
    return combine(
        lambda liquid, gas: (gas - liquid / n_molecules + thermal) / KJ_PER_MOL,
        {"liquid": liquid, "gas": gas},
        "kJ/mol",
        "E(gas) - E(liquid)/N + RT",
    )


def permittivity(
    dipoles: ArrayLike | Sequence[ArrayLike],
    volume: float,
    temperature: float,
    interval: float = 1.0,
    infinite: float = 1.0,
    charges: ArrayLike | None = None,
) -> Observable:
    r"""Relative permittivity of a liquid without ions: eps_inf + <M^2>/(3 eps0 V kT).

    Neumann, Mol. Phys. 50, 841 (1983), for lattice sums with a conducting boundary. The mean of M
    is zero by symmetry and is not subtracted.

    Args:
        dipoles: of the box [n_samples, 3], e Angstrom, or such of each replica; of molecules that
            each carry their formal charge (`box_dipole`).
        volume: Angstrom^3.
        temperature: K.
        interval: between samples, ps.
        infinite: permittivity at frequencies above those of the nuclei; 1 where the charges
            follow no field.
        charges: formal charges of the molecules; given, they are checked.

    Raises:
        ConfigError: ions, whose current is no dipole; dipoles that are not [n, 3].
    """
    if charges is not None and np.any(np.asarray(charges) != 0):
        raise ConfigError(
            "expected a liquid without ions for the fluctuation formula, got charged molecules: "
            "its dipole grows with the current"
        )
    runs = [dipoles] if np.ndim(dipoles[0]) == 1 else list(dipoles)  # type: ignore[arg-type,index]
    arrays = [np.asarray(run, dtype=float) for run in runs]
    if any(run.ndim != 2 or run.shape[1] != 3 for run in arrays):
        raise ConfigError(f"expected dipoles [n, 3], got {[run.shape for run in arrays]}")
    factor = 4 * np.pi * COULOMB_CONSTANT / (3 * volume * units.kB * temperature)
    samples = [infinite + factor * (run**2).sum(axis=1) for run in arrays]
    method = f"fluctuations of the dipole, eps_inf = {infinite:g}"
    found = mean_with_error(samples, interval, "", method)
    mean = np.concatenate(arrays).mean(axis=0)
    found.details["mean_share"] = factor * float(mean @ mean) / max(found.value - infinite, 1e-12)  # type: ignore[index]
    return found


def box_dipole(
    positions: Array, charges: Array, molecule: NDArray[np.int64], formal: Array
) -> Array:
    """Dipole of a box of whole molecules [n_frames, 3], e Angstrom, without a choice of images.

    Charges that flow between molecules are given back evenly within each: every molecule carries
    its formal charge. Of neutral molecules the dipole then depends on no origin and no image.

    Args:
        positions: [n_frames, n_atoms, 3], Angstrom, whole molecules.
        charges: [n_atoms] or [n_frames, n_atoms], e.
        molecule: [n_atoms].
        formal: [n_molecules], e.
    """
    q = np.broadcast_to(charges, positions.shape[:2])
    sizes = np.bincount(molecule)
    order = np.argsort(molecule, kind="stable")
    starts = np.searchsorted(molecule[order], np.arange(len(sizes)))
    total = np.add.reduceat(q[:, order], starts, axis=1)
    projected = q + ((formal - total) / sizes)[:, molecule]
    return np.asarray(np.einsum("fn,fnx->fx", projected, positions))


def _positive(data: Series, what: str) -> list[Array]:
    """Series of positive numbers."""
    series = as_replicas(data)
    if any((one <= 0).any() for one in series):
        raise ConfigError(f"expected {what} above zero")
    return series


def _squares(
    series: Sequence[Array], means: Sequence[float], interval: float
) -> tuple[list[Array], float]:
    """Squared deviations, and what the subtracted mean made them too small by."""
    squares = [(one - mean) ** 2 for one, mean in zip(series, means, strict=True)]
    return squares, _lost(series, interval)


def _lost(series: Sequence[Array], interval: float) -> float:
    """n/(n - 1) with the number of independent samples."""
    found = mean_with_error(series, interval)
    n = found.samples if found.samples > 2 else 2.0
    return n / (n - 1.0)
