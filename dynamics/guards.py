"""What stops a run that is blowing up, in words that name the atoms."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from vesin import NeighborList

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.integrators import temperature
from hff_ase.errors import SimulationError

CONTACT_INTERVAL = 100  # steps between searches for atoms on top of each other
HUGE_FORCE = 100.0  # eV/Angstrom; nothing in a liquid feels this, so it starts a search at once


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


class Guard:
    """Looks at every step of a run, at the price of a few passes over the positions."""

    def __init__(self, atoms: Atoms, config: MDConfig) -> None:
        self._atoms = atoms
        self._config = config
        self._positions = atoms.positions.copy()
        self._cell = np.array(atoms.cell)

    def check(self, step: int, energy: float, forces: np.ndarray) -> None:
        """Look at the atoms after a step.

        Raises:
            SimulationError: energy or forces are not finite, an atom moved too far, two atoms are
                on top of each other, or the system is too hot.
        """
        check_results(self._atoms, energy, forces)
        self._check_displacements()
        huge = float(np.abs(forces).max()) > HUGE_FORCE
        if huge or step % CONTACT_INTERVAL == 0:
            check_contacts(self._atoms, self._config.min_distance)
        self._check_temperature()

    def _check_displacements(self) -> None:
        positions, cell = self._atoms.positions, np.array(self._atoms.cell)
        expected = self._positions
        if not np.array_equal(cell, self._cell):  # a barostat moves all atoms with the cell
            expected = expected @ np.linalg.solve(self._cell, cell)
        squared = np.square(positions - expected).sum(axis=1)
        farthest = int(np.argmax(squared))
        limit = self._config.max_displacement
        if not squared[farthest] <= limit**2:
            raise SimulationError(
                f"{name_atom(self._atoms, farthest)} moved {np.sqrt(squared[farthest]):.3g} A in "
                f"one step (limit {limit:g} A)"
            )
        self._positions, self._cell = positions.copy(), cell

    def _check_temperature(self) -> None:
        now = temperature(self._atoms.get_kinetic_energy(), self._atoms)
        if now > self._config.max_temperature:
            kinetic = np.square(self._atoms.get_velocities()).sum(axis=1) * self._atoms.get_masses()
            raise SimulationError(
                f"the temperature is {now:.0f} K (limit {self._config.max_temperature:g} K); "
                f"{name_atom(self._atoms, int(np.argmax(kinetic)))} has the largest kinetic energy"
            )
