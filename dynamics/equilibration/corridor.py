"""Boxes whose density leaves that of a liquid are stopped, with the reason."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import find_mic
from vesin import NeighborList

BONDED = 1.3  # times the sum of covalent radii
BROKEN = 1.5  # times a bond's length at the beginning
PRESSED = 1000.0  # bar above the target that drives a box apart, not thermal motion
TOO_HOT = 1.25  # times the temperature asked for
CHARGED = ("Li", "Na", "K", "Mg", "Ca", "Zn")  # no bonds


def bonds_of(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of bonded atoms [n_bonds, 2] and their lengths [n_bonds], Angstrom.

    Within molecules where the structure knows them.
    """
    radii = np.where(np.isin(atoms.symbols, CHARGED), 0.0, covalent_radii[atoms.numbers])
    i, j, d = NeighborList(cutoff=2 * BONDED * float(radii.max()), full_list=False).compute(
        points=atoms.positions,
        box=np.asarray(atoms.cell),
        periodic=bool(atoms.pbc.all()),
        quantities="ijd",
    )
    i, j = i.astype(np.int64), j.astype(np.int64)
    bonded = (d < BONDED * (radii[i] + radii[j])) & (radii[i] > 0) & (radii[j] > 0)
    if "molecule" in atoms.arrays:
        bonded &= atoms.arrays["molecule"][i] == atoms.arrays["molecule"][j]
    return np.stack([i[bonded], j[bonded]], axis=1), d[bonded]


def broken(atoms: Atoms, bonds: tuple[np.ndarray, np.ndarray]) -> int:
    """Bonds of the beginning (`bonds_of`) that are longer by half now."""
    (pairs, lengths) = bonds
    apart = atoms.positions[pairs[:, 0]] - atoms.positions[pairs[:, 1]]
    _, distance = find_mic(apart, atoms.cell, atoms.pbc)
    return int(np.count_nonzero(distance > BROKEN * lengths))


def cause(
    density: float,
    limits: tuple[float, float],
    recent: Mapping[str, float],
    asked: tuple[float, float],
    n_broken: int,
) -> str:
    """Why a box has left the corridor, in one line.

    Args:
        density: g/cm^3.
        limits: the corridor.
        recent: means of ``temperature[K]`` and ``pressure[bar]`` over the last picosecond.
        asked: temperature and pressure of the run, K and bar.
        n_broken: bonds.
    """
    kelvin, bar = recent["temperature[K]"], recent["pressure[bar]"]
    low = density < limits[0]
    what = f"its density {density:.3f} g/cm3 left {limits[0]:.3f} to {limits[1]:.3f}: "
    if n_broken:
        return what + f"{n_broken} bonds are broken, the model does not hold these molecules"
    if kelvin > TOO_HOT * asked[0]:
        return what + (
            f"it runs hot, {kelvin:.0f} K for {asked[0]:.0f} K (too long a time step, or a model "
            "out of its range)"
        )
    if low and bar > asked[1] + PRESSED:
        return what + (
            f"it explodes, driven by {bar:.0f} bar of its own (too dense a start, or molecules "
            "caught in each other: another packing, or a longer hot phase)"
        )
    if low:
        return what + (
            f"it boils at {asked[0]:.0f} K and {asked[1]:g} bar (temperature or expected density "
            "too high for this model)"
        )
    return what + "it collapses (the model holds a denser phase, or the expected density is low)"
