"""Thermodynamic quantities of a window: density, its fluctuations, permittivity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.observables.thermodynamic import (
    compressibility,
    density,
    expansion,
    permittivity,
)
from hff_ase.dynamics.properties.charges import box_dipoles
from hff_ase.dynamics.properties.material import CELL_VOLUME, DENSITY, POTENTIAL
from hff_ase.dynamics.properties.state import PRESSURE
from hff_ase.dynamics.properties.window import Window
from hff_ase.units import BAR, GRAM_PER_CM3

Found = dict[str, Observable]
Array = NDArray[np.float64]


def density_of(window: Window) -> Found:
    """Mass density at constant pressure, of a foreign trajectory from its cells."""
    state = window.material.state
    if state.held(PRESSURE) and state.held(PRESSURE)[0].statistics is None:
        frames = window.material.frames(PRESSURE)
        parts = [list(one) for one in frames]
        volumes = [np.concatenate([part.volumes for part in one]) for one in parts]
        volumes = [window.cut(one) for one in window.chosen(volumes)]
        times = np.concatenate([part.times for part in parts[0]])
        mass = float(window.topology.masses.sum())
        return {"density": density(volumes, mass, float(np.median(np.diff(times))))}
    volumes, interval = window.series(PRESSURE, CELL_VOLUME)
    densities, _ = window.series(PRESSURE, DENSITY)
    mass = float(densities[0][0] * volumes[0][0] * GRAM_PER_CM3)
    return {"density": density(volumes, mass, interval)}


def compressibility_of(window: Window) -> Found:
    """Isothermal compressibility from the fluctuations of the volume."""
    volumes, interval = window.series(PRESSURE, CELL_VOLUME)
    return {"compressibility": compressibility(volumes, window.temperature, interval)}


def expansion_of(window: Window) -> Found:
    """Thermal expansion from the fluctuations of volume and enthalpy."""
    volumes, interval = window.series(PRESSURE, CELL_VOLUME)
    potential, _ = window.series(PRESSURE, POTENTIAL)
    kinetic, _ = window.series(PRESSURE, "kinetic[eV]")
    bar = window.material.state.pressure * BAR
    series = zip(potential, kinetic, volumes, strict=True)
    enthalpies = [e + k + bar * v for e, k, v in series]
    return {"expansion": expansion(volumes, enthalpies, window.temperature, interval)}


def permittivity_of(window: Window) -> Found:
    """Static permittivity from the fluctuations of the box's dipole; liquids without ions."""
    dipoles, interval = box_dipoles(window.material)
    chosen = [window.cut(one) for one in window.chosen(dipoles)]
    formal = window.topology.formal_charges()
    found = permittivity(chosen, window.volume(), window.temperature, interval, 1.0, charges=formal)
    return {"permittivity": found}
