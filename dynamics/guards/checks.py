"""Checks that stop a run that blows up, with the atoms named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from vesin import NeighborList

from hff_ase.dynamics.config import MDConfig
from hff_ase.errors import SimulationError

if TYPE_CHECKING:
    from hff_ase.dynamics.engine.interface import Sample

CONTACT_INTERVAL = 100  # steps between searches for atoms on top of each other


def name_atom(atoms: Atoms, index: int) -> str:
    """For messages: index and element."""
    return f"atom {index} ({atoms.symbols[index]})"


def check_contacts(atoms: Atoms, min_distance: float) -> None:
    """Refuse two atoms closer than `min_distance` (Angstrom).

    Raises:
        SimulationError: names the closest pair.
    """
    if min_distance == 0:
        return
    engine = NeighborList(cutoff=min_distance, full_list=False)
    i, j, distance = engine.compute(
        points=atoms.positions,
        box=np.asarray(atoms.cell),
        periodic=bool(atoms.pbc.all()),
        quantities="ijd",
    )
    if len(distance):
        worst = int(np.argmin(distance))
        raise SimulationError(
            f"{name_atom(atoms, int(i[worst]))} and {name_atom(atoms, int(j[worst]))} are "
            f"{distance[worst]:.3f} A apart (limit {min_distance:g} A)"
        )


def check_results(atoms: Atoms, energy: float, forces: np.ndarray) -> None:
    """Refuse an energy or forces that are not finite.

    Raises:
        SimulationError: names the first atom with such a force, or the one with the largest.
    """
    finite = np.isfinite(forces).all(axis=1)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise SimulationError(f"the force on {name_atom(atoms, bad)} is {forces[bad].tolist()}")
    if not np.isfinite(energy):
        bad = int(np.argmax(np.abs(forces).sum(axis=1)))
        raise SimulationError(
            f"the energy is {energy}; the largest force is on {name_atom(atoms, bad)}"
        )


def look_closer(sample: Sample, atoms: Atoms, results: Mapping[str, Any], config: MDConfig) -> None:
    """Look at the atoms after a step.

    Raises:
        SimulationError: energy or forces are not finite, an atom moved too far, two atoms are on
            top of each other, or the system is too hot.
    """
    check_results(atoms, float(results["energy"]), results["forces"])
    if not sample.displacement <= config.max_displacement:
        raise SimulationError(
            f"{name_atom(atoms, sample.farthest)} moved {sample.displacement:.3g} A in one step "
            f"(limit {config.max_displacement:g} A)"
        )
    check_contacts(atoms, config.min_distance)
    if sample.temperature > config.max_temperature:
        kinetic = np.square(atoms.get_velocities()).sum(axis=1) * atoms.get_masses()
        raise SimulationError(
            f"the temperature is {sample.temperature:.0f} K (limit {config.max_temperature:g} K); "
            f"{name_atom(atoms, int(np.argmax(kinetic)))} has the largest kinetic energy"
        )
