"""Estimated molar volume of molecules without a measured density."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_numbers
from ase.data.vdw import vdw_radii

CM3_PER_MOL_PER_A3 = 0.602214076  # Avogadro's number x 1e-24 cm3
# Volume of the liquid over the van der Waals volume: mean of the library's solvents at 298 K,
# which scatter by 0.12 (1.53 EC, 1.70 DMC, 1.89 acetone, 1.91 Novec7000).
LIQUID_TO_VDW = 1.71
# The same for the apparent volume of an ion in solution (1.2 PF6-, 1.5 TFSI-, 1.4 EMIM+).
ION_TO_VDW = 1.4
GRID = 0.1  # Angstrom
UNKNOWN_RADIUS = 2.0  # Angstrom, of the elements that Bondi has no radius for


def vdw_volume(symbols: Sequence[str], positions: np.ndarray) -> float:
    """Volume in A^3 of the union of van der Waals spheres (Bondi, J. Phys. Chem. 68, 441 (1964)).

    ``positions`` [n_atoms, 3] in Angstrom. Points of a grid of 0.1 Angstrom are counted.
    """
    radii = np.array([vdw_radii[atomic_numbers[symbol]] for symbol in symbols])
    radii = np.where(np.isfinite(radii), radii, UNKNOWN_RADIUS)
    low = (positions - radii[:, None]).min(axis=0)
    shape = np.ceil(((positions + radii[:, None]).max(axis=0) - low) / GRID).astype(int) + 1
    inside = np.zeros(shape, dtype=bool)
    for centre, radius in zip(positions, radii, strict=True):
        first = np.maximum(0, np.floor((centre - radius - low) / GRID).astype(int))
        last = np.ceil((centre + radius - low) / GRID).astype(int) + 1
        axes = [low[k] + GRID * np.arange(first[k], last[k]) - centre[k] for k in range(3)]
        x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
        window = inside[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
        window |= (x**2 + y**2 + z**2 <= radius**2)[tuple(map(slice, window.shape))]
    return float(inside.sum() * GRID**3)


def estimated_volume(volume: float, charge: int) -> tuple[float, str]:
    """Molar volume in cm3/mol from a van der Waals volume in A^3, and how it was obtained."""
    factor = ION_TO_VDW if charge else LIQUID_TO_VDW
    error = 15 if charge else 7
    source = f"estimate from the van der Waals volume ({volume:.0f} A^3), good to about {error} %"
    return factor * volume * CM3_PER_MOL_PER_A3, source
