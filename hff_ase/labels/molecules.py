"""The molecules of a structure, with their formulas and formal charges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from ase.formula import Formula
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from vesin import NeighborList

from hff_ase.errors import ConfigError, StructureError
from hff_ase.structures import check_structure

# A bond is shorter than this times the sum of covalent radii. In boxes of electrolytes up to 600 K
# molecules hold together at 1.15; what is closest without a bond, ethanol's H...O, begins at 1.65.
BOND_TOLERANCE = 1.4
# Metals that are ions in an electrolyte. Li-O contacts are as short as the sum of covalent radii,
# so no distance tells them from bonds: these never bond.
IONS = {"Li": 1, "Na": 1, "K": 1, "Rb": 1, "Cs": 1, "Mg": 2, "Ca": 2, "Zn": 2}
# Formal charges of what is not neutral, by formula.
FORMAL_CHARGES = IONS | {
    "PF6": -1,
    "BF4": -1,
    "ClO4": -1,
    "AsF6": -1,
    "NO3": -1,
    "N(SO2F)2": -1,  # FSI
    "N(SO2CF3)2": -1,  # TFSI
    "N(SO2C2F5)2": -1,  # BETI
    "CF3SO3": -1,  # triflate
    "B(C2O4)2": -1,  # BOB
    "BF2C2O4": -1,  # DFOB
    "PO2F2": -1,
}


@dataclass(frozen=True)
class Molecules:
    """The molecules of one structure.

    Attributes:
        index: int64 [n_atoms], molecule of each atom, from 0.
        members: atoms of each molecule, int64 [m].
        formulas: Hill formula of each molecule.
        offsets: int64 [n_atoms, 3], cell vectors to add to each atom so that its molecule is
            whole; zero without a cell.
    """

    index: np.ndarray
    members: list[np.ndarray]
    formulas: list[str]
    offsets: np.ndarray


def find_molecules(atoms: Atoms) -> Molecules:
    """The molecules of a structure, each whole across periodic boundaries.

    ``atoms.arrays["molecule"]`` is used where it is there (boxes of ``hff build`` have it);
    otherwise atoms closer than 1.4 times the sum of their covalent radii are bonded, and alkali
    and alkaline-earth metals are ions that bond to nothing.

    Raises:
        StructureError: what `hff_ase.structures.check_structure` refuses (a slab, a cell without
            a volume), or a molecule bonded to its own image, as in a crystal or polymer.
    """
    check_structure(atoms)
    first, second, shift, distance = _bonds(atoms)
    if "molecule" in atoms.arrays:
        _, index = np.unique(atoms.arrays["molecule"], return_inverse=True)
        within = index[first] == index[second]
        first, second, shift, distance = (x[within] for x in (first, second, shift, distance))
    else:
        graph = coo_matrix((np.ones(len(first)), (first, second)), shape=(len(atoms),) * 2)
        index = connected_components(graph, directed=False)[1]
    members = [np.flatnonzero(index == k) for k in range(int(index.max()) + 1)]
    offsets = _whole(atoms, members)
    broken = np.flatnonzero((offsets[second] + 0 != offsets[first] + shift).any(axis=1))
    if len(broken):
        i, j = first[broken[0]], second[broken[0]]
        raise StructureError(
            "expected molecules that end within the box, got one bonded to its own image: atoms "
            f"{i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]})"
        )
    formulas = [Formula.from_list(list(atoms.symbols[m])).format("hill") for m in members]
    return Molecules(index.astype(np.int64), members, formulas, offsets)


def _bonds(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bonded pairs i, j, the shift of j [m, 3] and the length [m], both directions."""
    radii = covalent_radii[atoms.numbers].copy()
    radii[np.isin(atoms.numbers, [atomic_numbers[symbol] for symbol in IONS])] = -10.0
    cutoff = max(2 * BOND_TOLERANCE * float(radii.max()), 0.1)
    search = NeighborList(cutoff=cutoff, full_list=True)
    first, second, shift, distance = search.compute(
        points=atoms.positions,
        box=np.asarray(atoms.cell) if atoms.pbc.all() else np.zeros((3, 3)),
        periodic=bool(atoms.pbc.all()),
        quantities="ijSd",
    )
    first, second = first.astype(np.int64), second.astype(np.int64)
    bonded = distance < BOND_TOLERANCE * (radii[first] + radii[second])
    return first[bonded], second[bonded], shift[bonded].astype(np.int64), distance[bonded]


def bonds_of(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of bonded atoms i, j, int64 [m] each, both directions: those of `find_molecules`."""
    first, second, _, _ = _bonds(atoms)
    return first, second


def _whole(atoms: Atoms, members: list[np.ndarray]) -> np.ndarray:
    """Cell shifts [n_atoms, 3] that make molecules whole, each from its first atom outwards.

    Each atom goes to the image nearest to the neighbour that links it to the first atom in the
    minimum spanning tree of the molecule's distances: right for molecules longer than half a box.
    """
    offsets = np.zeros((len(atoms), 3), dtype=np.int64)
    if not atoms.pbc.all():
        return offsets
    cell = np.asarray(atoms.cell)
    fractional = atoms.cell.scaled_positions(atoms.positions)
    near = np.array(list(np.ndindex(3, 3, 3))) - 1
    for molecule in members:
        if len(molecule) == 1:
            continue
        delta = fractional[molecule][None, :] - fractional[molecule][:, None]  # [m, m, 3] i to j
        base = -np.round(delta).astype(np.int64)
        images = base[:, :, None] + near  # skewed cells: the nearest may be next to the rounded one
        squares = (((delta[:, :, None] + images) @ cell) ** 2).sum(-1)
        best = squares.argmin(-1)
        shift = np.take_along_axis(images, best[:, :, None, None], 2)[:, :, 0]
        distance = np.sqrt(squares.min(-1))
        tree = minimum_spanning_tree(distance)
        order, before = breadth_first_order(tree, 0, directed=False)
        for atom in order[1:]:
            parent = before[atom]
            offsets[molecule[atom]] = offsets[molecule[parent]] + shift[parent, atom]
    return offsets


def formal_charge(formula: str, charges: Mapping[str, int] | None = None) -> int:
    """Formal charge of a molecule, in e: what ``charges`` or the table of ions says, else 0.

    Formulas are compared by what they contain: "PF6" and "F6P" are one.

    Raises:
        ConfigError: a key of ``charges`` is no formula.
    """
    wanted = Formula(formula).count()
    for table in (charges or {}, FORMAL_CHARGES):
        for key, charge in table.items():
            if count_elements(key) == wanted:
                return int(charge)
    return 0


def count_elements(formula: str) -> dict[str, int]:
    """Atoms of each element in a formula.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        counts = Formula(formula).count()
    except ValueError:
        counts = {}
    if not counts or any(symbol not in atomic_numbers for symbol in counts):
        raise ConfigError(f"expected a chemical formula such as 'Li' or 'PF6', got {formula!r}")
    return counts
