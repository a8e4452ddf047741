"""Hydrogen-mass repartitioning: heavier hydrogens allow a longer time step.

Feenstra, Hess and Berendsen (J. Comput. Chem. 20, 786 (1999)): what a hydrogen gains is taken from
the heavy atom that it is bound to. Masses do not enter the distribution of positions, so that
densities and structures are those of the real masses; what depends on time is that of slightly
different molecules, each with its own total mass.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from vesin import NeighborList

from hff_ase.errors import StructureError
from hff_ase.labels.molecules import BOND_TOLERANCE, IONS
from hff_ase.structures import check_structure

HYDROGEN = 1


def repartition(atoms: Atoms, hydrogen_mass: float) -> np.ndarray:
    """Masses with every hydrogen at ``hydrogen_mass``; the mass of each molecule stays.

    Every hydrogen lighter than that (deuterium too) takes what it lacks from the nearest heavy atom
    within 1.4 times the sum of covalent radii, of its own molecule where the structure has an array
    ``molecule``; heavier ones are left as they are. Metal ions bind no hydrogen.

    Args:
        atoms: the structure, periodic in all directions or none.
        hydrogen_mass: amu.

    Returns:
        [n_atoms], amu.

    Raises:
        StructureError: a hydrogen without a heavy atom, or a heavy atom that would become lighter
            than its hydrogens; names the atom.
    """
    masses = np.array(atoms.get_masses())
    light = np.flatnonzero((atoms.numbers == HYDROGEN) & (masses < hydrogen_mass))
    if not len(light):
        return masses
    heavy = bound_to(atoms, light)
    np.subtract.at(masses, heavy, hydrogen_mass - masses[light])
    masses[light] = hydrogen_mass
    poorest = heavy[np.argmin(masses[heavy])]
    if masses[poorest] < hydrogen_mass:
        raise StructureError(
            f"expected heavy atoms that stay heavier than hydrogens of {hydrogen_mass:g} amu, got "
            f"{masses[poorest]:.3g} amu for atom {poorest} ({atoms.symbols[poorest]}) with "
            f"{np.count_nonzero(heavy == poorest)} of them"
        )
    return masses


def bound_to(atoms: Atoms, hydrogens: np.ndarray) -> np.ndarray:
    """The nearest heavy atom that each of these hydrogens is bound to, int64 [n_hydrogens].

    Raises:
        StructureError: a hydrogen without one.
    """
    binds = (atoms.numbers != HYDROGEN) & ~np.isin(atoms.symbols, list(IONS))
    radii = covalent_radii[atoms.numbers]
    reach = BOND_TOLERANCE * (covalent_radii[HYDROGEN] + float(radii[binds].max(initial=0.0)))
    check_structure(atoms)
    periodic = bool(atoms.pbc.all())
    first, second, distance = NeighborList(cutoff=reach, full_list=True).compute(
        points=atoms.positions,
        box=np.asarray(atoms.cell) if periodic else np.zeros((3, 3)),
        periodic=periodic,
        quantities="ijd",
    )
    first, second = first.astype(np.int64), second.astype(np.int64)
    bonded = binds[second] & (distance < BOND_TOLERANCE * (radii[first] + radii[second]))
    if "molecule" in atoms.arrays:
        molecule = atoms.arrays["molecule"]
        bonded &= molecule[first] == molecule[second]
    first, second, distance = first[bonded], second[bonded], distance[bonded]
    nearest = np.full(len(atoms), -1)
    farthest_first = np.argsort(-distance, kind="stable")  # the last to be written is the nearest
    nearest[first[farthest_first]] = second[farthest_first]
    lone = hydrogens[nearest[hydrogens] < 0]
    if len(lone):
        raise StructureError(
            f"expected every hydrogen bound to a heavy atom, got none for atom {lone[0]} (H)"
        )
    return nearest[hydrogens]
