"""Momenta of a system whose total momentum is zero: 3N - 3 of them are thermal."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units

from hff_ase.dynamics.config import MDConfig


def degrees_of_freedom(atoms: Atoms) -> int:
    """Thermal momenta of a system whose total momentum is zero."""
    return 3 * len(atoms) - 3


def temperature(kinetic: float, atoms: Atoms) -> float:
    """Temperature in K of a kinetic energy in eV."""
    return 2 * kinetic / (degrees_of_freedom(atoms) * units.kB)


def random_momenta(atoms: Atoms, temperature_K: float, rng: np.random.Generator) -> np.ndarray:
    """Maxwell-Boltzmann momenta [n_atoms, 3] without total momentum, amu * ASE velocity."""
    masses = atoms.get_masses()[:, None]
    momenta = rng.standard_normal((len(atoms), 3)) * np.sqrt(masses * units.kB * temperature_K)
    return momenta - masses * momenta.sum(axis=0) / masses.sum()


def set_momenta(atoms: Atoms, config: MDConfig, rng: np.random.Generator) -> None:
    """Give a structure the momenta that a run starts with; they add up to zero.

    Args:
        atoms: changed in place; with momenta of its own where ``velocities`` is "file".
        config: with ``velocities`` and the temperature.
        rng: what random momenta are drawn with.
    """
    momenta = atoms.get_momenta()
    if config.velocities == "random":
        momenta = random_momenta(atoms, config.temperature, rng)
    masses = atoms.get_masses()[:, None]
    atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())
