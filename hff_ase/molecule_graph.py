"""When two molecules are the same one: graphs of elements and bonds, in any order of the atoms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula

# Rounds of refinement: atoms up to this many bonds apart tell each other apart.
ROUNDS = 16


@dataclass(frozen=True)
class MoleculeGraph:
    """One molecule: ``numbers`` of its atoms and ``bonds`` (i < j) between them, in any order."""

    numbers: tuple[int, ...]
    bonds: tuple[tuple[int, int], ...]

    @property
    def formula(self) -> str:
        """Hill formula, "C3H4O3"."""
        return str(Formula.from_list([chemical_symbols[z] for z in self.numbers]).format("hill"))

    @cached_property
    def key(self) -> str:
        """Equal for the same molecule, different for nearly all others (`is_same` is exact)."""
        index = np.zeros(len(self.numbers), dtype=np.int64)
        pairs = np.array(self.bonds, dtype=np.int64).reshape(-1, 2)
        colors = refined(np.array(self.numbers), pairs)
        return f"{int(hash_of_each(colors, index, 1)[0]):016x}"

    def is_same(self, other: MoleculeGraph) -> bool:
        """Whether some order of atoms makes the two graphs equal (exactly, not by their keys)."""
        return self.key == other.key and self.mapping_to(other) is not None

    def mapping_to(self, other: MoleculeGraph) -> list[int] | None:
        """For each atom the one of ``other`` that it is in some order of the atoms that makes the
        graphs equal; None where there is no such order."""
        mapping = _isomorphism(self, other)
        return None if mapping is None else [mapping[atom] for atom in range(len(self.numbers))]


def refined(numbers: np.ndarray, bonds: np.ndarray) -> np.ndarray:
    """A color for each atom [n_atoms], uint64: what it is and what is around it.

    Refinement of Weisfeiler and Leman (Nauchno-Tekh. Inf. 2, 12 (1968)) with hashes for colors.
    ``numbers`` [n_atoms] are atomic numbers, ``bonds`` [n_bonds, 2] pairs of atoms, of any number
    of molecules at once.
    """
    colors = _mixed(numbers.astype(np.uint64))
    first, second = bonds[:, 0], bonds[:, 1]
    for _ in range(ROUNDS):
        around = np.zeros_like(colors)  # sums wrap around: an order-free hash of the neighbours
        np.add.at(around, first, _mixed(colors[second]))
        np.add.at(around, second, _mixed(colors[first]))
        colors = _mixed(colors + np.uint64(0x632BE59BD9B4E019) * around)
    return colors


def hash_of_each(colors: np.ndarray, molecule: np.ndarray, n_molecules: int) -> np.ndarray:
    """One number for each molecule [n_molecules], uint64, from the colors of its atoms."""
    hashes = np.zeros(n_molecules, dtype=np.uint64)
    np.add.at(hashes, molecule, _mixed(colors))
    return _mixed(hashes)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014): well-spread 64 bits."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bonded(n_atoms: int, bonds: Iterable[tuple[int, int]]) -> list[set[int]]:
    """The atoms that each atom is bonded to."""
    found: list[set[int]] = [set() for _ in range(n_atoms)]
    for i, j in bonds:
        found[i].add(j)
        found[j].add(i)
    return found


def _isomorphism(a: MoleculeGraph, b: MoleculeGraph) -> dict[int, int] | None:
    """A mapping of a's atoms on b's that keeps elements and bonds; None if there is none.

    Atoms are mapped along bonds, each on the atoms of the same refined color next to what its
    neighbour was mapped on, so that nearly every choice is the right one.
    """
    if len(a.numbers) != len(b.numbers) or len(a.bonds) != len(b.bonds):
        return None
    colors_a, colors_b = (
        refined(np.array(g.numbers), np.array(g.bonds, dtype=np.int64).reshape(-1, 2)).tolist()
        for g in (a, b)
    )
    if sorted(colors_a) != sorted(colors_b):
        return None
    near_a, near_b = (bonded(len(g.numbers), g.bonds) for g in (a, b))
    order = _along_bonds(colors_a, near_a)
    mapping: dict[int, int] = {}
    used: set[int] = set()

    def candidates(atom: int) -> list[int]:
        mapped = [mapping[n] for n in near_a[atom] if n in mapping]
        pool = set.intersection(*(near_b[m] for m in mapped)) if mapped else range(len(colors_b))
        return [
            other
            for other in pool
            if other not in used
            and colors_b[other] == colors_a[atom]
            and sum(n in used for n in near_b[other]) == len(mapped)
        ]

    stack = [iter(candidates(order[0]))]
    while stack:
        atom = order[len(stack) - 1]
        used.discard(mapping.pop(atom, -1))
        other = next(stack[-1], None)
        if other is None:
            stack.pop()
            continue
        mapping[atom] = other
        used.add(other)
        if len(mapping) == len(order):
            return mapping
        stack.append(iter(candidates(order[len(stack)])))
    return None


def _along_bonds(colors: list[int], near: list[set[int]]) -> list[int]:
    """Every atom once, each next to an earlier one where it can be; the rarest color begins."""
    order: list[int] = []
    left = set(range(len(colors)))
    while left:
        front = [min(left, key=lambda atom: (colors.count(colors[atom]), atom))]
        while front:
            atom = front.pop()
            if atom in left:
                left.remove(atom)
                order.append(atom)
                front += sorted(near[atom] & left)
    return order
