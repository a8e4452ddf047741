"""Which atoms of a structure are bonded and which form molecules, from distances alone.

What is found is a graph of elements and bonds, hydrogens included, whatever the conformation or
the charge: `MoleculeGraph` says when two are the same molecule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from hff_ase.errors import StructureError
from hff_ase.molecule_graph import MoleculeGraph, bonded, hash_of_each, refined

# A bond is shorter than this times the sum of covalent radii (Cordero et al., Dalton Trans. 2008,
# 2832). Molecules hold together at 1.15 in liquids up to 600 K; what is packed without touching
# begins at 2 Angstrom, 1.3 times the sum for C and C.
BOND_TOLERANCE = 1.25
# Between two atoms beyond neon, whose radii are large, second neighbours would come as near: the S
# and S of imides are 2.6 Angstrom apart.
HEAVY_TOLERANCE = 1.15
# Metals that are bare ions in electrolytes: as near to O or F as a bond would be, never bonded.
BARE_IONS = (
    *("Li", "Na", "K", "Rb", "Cs", "Be", "Mg", "Ca", "Sr", "Ba"),
    *("Zn", "Mn", "Fe", "Co", "Ni", "Cu", "Pb", "Ag"),
)
SINGLE = ("H", "F")  # one bond at most, to the nearest: hydrogen bonds and packed contacts are none
BRIDGED = ("B", "Al")  # but to these


@dataclass(frozen=True)
class Kind:
    """One kind of molecule in a structure: its graph and which molecules are of that kind."""

    graph: MoleculeGraph
    molecules: np.ndarray

    @property
    def count(self) -> int:
        return len(self.molecules)


@dataclass(frozen=True, eq=False)
class Connectivity:
    """The bonds and molecules of one structure.

    Attributes:
        numbers: atomic numbers [n_atoms].
        bonds: int64 [n_bonds, 2], i < j (or i == j for a bond to an own image), sorted.
        shifts: int64 [n_bonds, 3], cell vectors to add to atom j of each bond to reach it from i.
        molecule: int64 [n_atoms], molecule of each atom, from 0 in order of first atoms.
    """

    numbers: np.ndarray
    bonds: np.ndarray
    shifts: np.ndarray
    molecule: np.ndarray

    @property
    def n_molecules(self) -> int:
        return int(self.molecule.max()) + 1 if len(self.molecule) else 0

    @cached_property
    def members(self) -> list[np.ndarray]:
        """Atoms of each molecule, ascending."""
        order = np.argsort(self.molecule, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.molecule))[:-1])

    @cached_property
    def neighbors(self) -> list[list[int]]:
        """The atoms that each atom is bonded to, ascending."""
        return [sorted(of) for of in bonded(len(self.numbers), self.bonds.tolist())]

    def beyond(self, j: int, i: int) -> list[int]:
        """The atoms that are reached from j over its bond to i, ascending."""
        found, ahead = {i}, [i]
        while ahead:
            new = [n for n in self.neighbors[ahead.pop()] if n != j and n not in found]
            found.update(new)
            ahead += new
        return sorted(found)

    @cached_property
    def hashes(self) -> np.ndarray:
        """uint64 [n_molecules], the number behind `MoleculeGraph.key`."""
        colors = refined(self.numbers, self.bonds)
        return hash_of_each(colors, self.molecule, self.n_molecules)

    def graph(self, molecule: int) -> MoleculeGraph:
        """The graph of one molecule, its atoms in the structure's order."""
        atoms = self.members[molecule]
        inside = self.bonds[self.molecule[self.bonds[:, 0]] == molecule]
        local = np.searchsorted(atoms, inside)
        return MoleculeGraph(
            tuple(int(z) for z in self.numbers[atoms]), tuple((int(i), int(j)) for i, j in local)
        )

    def kinds(self) -> list[Kind]:
        """The kinds of molecules, in the order in which they first occur."""
        _, first, inverse = np.unique(self.hashes, return_index=True, return_inverse=True)
        return [
            Kind(self.graph(int(first[k])), np.flatnonzero(inverse == k)) for k in np.argsort(first)
        ]


def perceive(atoms: Atoms, tolerance: float = BOND_TOLERANCE) -> Connectivity:
    """Bonds and molecules of a structure, through periodic boundaries.

    Atoms nearer than ``tolerance`` times the sum of their covalent radii are bonded (1.15 times at
    most where both are beyond neon); bare ions bond to nothing, H and F to one atom. Where
    ``atoms.arrays["molecule"]`` says which atoms belong together (boxes of ``hff build``), only
    those bond.

    Raises:
        StructureError: no finite positions.
    """
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise StructureError("expected finite positions and cell, got others")
    first, second, shift, distance = _near(atoms, tolerance)
    if "molecule" in atoms.arrays:
        together = atoms.arrays["molecule"]
        keep = together[first] == together[second]
        first, second, shift, distance = (x[keep] for x in (first, second, shift, distance))
    keep = _nearest_of_single(atoms.numbers, first, second, distance)
    first, second, shift = first[keep], second[keep], shift[keep]
    order = np.lexsort((*shift.T, second, first))
    bonds = np.stack([first, second], axis=1)[order]
    return Connectivity(atoms.numbers.copy(), bonds, shift[order], _components(len(atoms), bonds))


def from_bonds(numbers: Sequence[int], bonds: Sequence[Sequence[int]]) -> Connectivity:
    """A topology whose bonds are known, without a cell."""
    pairs = np.sort(np.array(bonds, dtype=np.int64).reshape(-1, 2), axis=1)
    pairs = pairs[np.lexsort(pairs.T[::-1])]
    return Connectivity(
        np.array(numbers), pairs, np.zeros((len(pairs), 3), int), _components(len(numbers), pairs)
    )


def _near(atoms: Atoms, tolerance: float) -> tuple[np.ndarray, ...]:
    """Pairs i <= j nearer than the bond limit: i, j, shift of j [m, 3], distance [m]."""
    radii = covalent_radii[atoms.numbers].copy()
    bare = np.isin(atoms.numbers, [atomic_numbers[symbol] for symbol in BARE_IONS])
    radii[bare] = -np.inf
    bonding = radii[~bare]
    if len(bonding) == 0:
        return np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3), int), np.zeros(0)
    cutoff = 2 * tolerance * float(bonding.max())
    limits = radii, tolerance, atoms.numbers
    if not atoms.pbc.any():
        pairs = cKDTree(atoms.positions).query_pairs(cutoff, output_type="ndarray").astype(np.int64)
        first, second = pairs[:, 0], pairs[:, 1]
        distance = np.linalg.norm(atoms.positions[second] - atoms.positions[first], axis=1)
        shift = np.zeros((len(pairs), 3), dtype=np.int64)
        keep = _within(first, second, distance, *limits)
        return first[keep], second[keep], shift[keep], distance[keep]
    from vesin import NeighborList  # its package imports torch: not for a single molecule

    search = NeighborList(cutoff=cutoff, full_list=True)
    first, second, shift, distance = search.compute(
        points=atoms.positions,
        box=atoms.cell.complete().array,
        periodic=atoms.pbc.tolist(),
        quantities="ijSd",
    )
    first, second = first.astype(np.int64), second.astype(np.int64)
    shift = shift.astype(np.int64)
    # of i-j and j-i one; of an atom and its two opposite images one
    forward = (first < second) | ((first == second) & (_sign(shift) > 0))
    keep = forward & _within(first, second, distance, *limits)
    return first[keep], second[keep], shift[keep], distance[keep]


def _within(
    first: np.ndarray,
    second: np.ndarray,
    distance: np.ndarray,
    radii: np.ndarray,
    tolerance: float,
    numbers: np.ndarray,
) -> np.ndarray:
    """Which pairs are as near as a bond [m], bool; never those with a bare ion (radius -inf)."""
    limit = tolerance * (radii[first] + radii[second])
    heavy = (numbers[first] > 10) & (numbers[second] > 10)
    limit[heavy] *= min(1.0, HEAVY_TOLERANCE / tolerance)
    return distance < limit


def _sign(shift: np.ndarray) -> np.ndarray:
    """Sign of the first component that is not zero [m]."""
    signs = np.sign(shift)
    return np.where(signs[:, 0] != 0, signs[:, 0], np.where(signs[:, 1] != 0, *signs.T[1:]))


def _nearest_of_single(
    numbers: np.ndarray, first: np.ndarray, second: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """Pairs that remain when H and F keep their shortest bond only [m], bool."""
    single = np.isin(numbers, [atomic_numbers[symbol] for symbol in SINGLE])
    shortest = np.full(len(numbers), np.inf)
    np.minimum.at(shortest, first, distance)
    np.minimum.at(shortest, second, distance)
    beyond = (single[first] & (distance > shortest[first])) | (
        single[second] & (distance > shortest[second])
    )
    bridged = np.isin(numbers, [atomic_numbers[symbol] for symbol in BRIDGED])
    return ~beyond | bridged[first] | bridged[second]


def _components(n_atoms: int, bonds: np.ndarray) -> np.ndarray:
    graph = coo_matrix((np.ones(len(bonds)), (bonds[:, 0], bonds[:, 1])), shape=(n_atoms, n_atoms))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
