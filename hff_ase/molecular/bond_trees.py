"""The surroundings of each bond of a molecule, in every order that its symmetry allows.

A bond's tree holds the atoms within some bonds of either end; atoms that close a ring occur twice.
Nodes are told apart by their type, the tree as seen from there, written as a string. An order lists
the ends of the bond, then the neighbours of each by type and so on; nodes of one type may be
listed in any order, and what is summed over all orders does not depend on how atoms are numbered
(sGNN: J. Phys. Chem. Lett. 12, 7982 (2021); PhyNEO, J. Chem. Theory Comput. 20, 253 (2024)).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols

from hff_ase.errors import ConfigError
from hff_ase.molecular.octahedra import LIGANDS, opposite
from hff_ase.molecular.templates import Template

NOBODY = -1


class Centre(NamedTuple):
    """An atom with two neighbours of one type that are mirror images of each other: the atom, the
    two alike, and the others in the order of their types."""

    atom: int
    alike: tuple[int, int]
    others: tuple[int, int]


class BondOrders(NamedTuple):
    """Orders of one bond's tree for one handedness of each of its centres.

    Attributes:
        atoms: int64 [n_orders, 1 + 2 (valence - 1), 2 valence]: the bond, its neighbours at the
            first and at the second end (where the tree reaches so far; else the bond only), and of
            each p, q, the others at p, the others at q; `NOBODY` where there is none.
        weight: of each order, 1 over their number.
    """

    atoms: np.ndarray
    weight: float


class Surroundings(NamedTuple):
    """Of one bond: its ``centres``, and orders by the handedness of each, False for right."""

    centres: tuple[Centre, ...]
    orders: dict[tuple[bool, ...], BondOrders]


class _Tree:
    """Atoms and neighbours of each node; the ends of the bond are nodes 0 and 1."""

    def __init__(self, template: Template, bond: tuple[int, int], reach: int) -> None:
        self.template, self.reach = template, reach
        self.bonded = [np.flatnonzero(row == 1).tolist() for row in template.apart]
        self.atom, self.near = list(bond), [[1], [0]]
        layer = [0, 1]
        for _ in range(reach + 1):
            added = []
            for node in layer:
                before = self.atom[self.near[node][0]]
                for atom in self.bonded[self.atom[node]]:
                    if atom != before:
                        self.near[node].append(len(self.atom))
                        added.append(len(self.atom))
                        self.near.append([node])
                        self.atom.append(atom)
            layer = added
        self.types = [self.type_of(k, 2 * reach + 4) for k in range(len(self.atom))]
        for end, other in ((0, 1), (1, 0)):
            around = self.bonded[self.atom[end]]
            for node in self.near[end][1:] if len(around) == LIGANDS else ():
                if opposite(around, self.atom[node], self.atom[other]):
                    self.types[node] += "1"

    def type_of(self, node: int, depth: int, before: int = NOBODY) -> str:
        """The tree as seen from a node."""
        symbol = chemical_symbols[self.template.numbers[self.atom[node]]]
        near = [k for k in self.near[node] if k != before] if depth else []
        types = sorted(self.type_of(k, depth - 1, node) for k in near)
        return f"{symbol}-({','.join(types)})" if types else symbol

    def centres(self) -> list[tuple[int, int, int, int, int]]:
        """Nodes with neighbours of types A, B, C, C: the node, those alike, A and B."""
        found = []
        for node, near in enumerate(self.near):
            types = [self.types[k] for k in near]
            alike = [k for k, kind in zip(near, types, strict=True) if types.count(kind) == 2]
            if len(near) == 4 and len(alike) == 2 and len(set(types)) == 3:
                others = sorted((k for k in near if k not in alike), key=lambda k: self.types[k])
                found.append((node, *sorted(alike), *others))
        return [(a, b, c, d, e) for a, b, c, d, e in found]

    def orders(self, types: Sequence[str]) -> list[list[int]]:
        """All orders of nodes."""
        first, second = types[0], types[1]
        starts = [(0, 1)] if first < second else [(1, 0)]
        starts = [(0, 1), (1, 0)] if first == second else starts
        found: list[list[int]] = []
        for start in starts:
            partial: list[tuple[list[int], list[int]]] = [(list(start), list(start))]
            for _ in range(self.reach + 1):
                partial = [
                    ([*order, *added], added)
                    for order, layer in partial
                    for added in self._next(layer, order, types)
                ]
            found += [order for order, _ in partial]
        return found

    def _next(
        self, layer: list[int], order: list[int], types: Sequence[str]
    ) -> Iterator[list[int]]:
        """What may follow a layer."""
        known, choices = set(order), []
        for node in layer:
            children = sorted((k for k in self.near[node] if k not in known), key=types.__getitem__)
            for _, group in itertools.groupby(children, key=types.__getitem__):
                choices.append([list(p) for p in itertools.permutations(group)])
        for chosen in itertools.product(*choices):
            yield [node for part in chosen for node in part]

    def rows(self, order: list[int], valence: int) -> list[list[int]]:
        """`BondOrders.atoms` of one order."""
        rank = {node: k for k, node in enumerate(order)}
        ends = order[:2]
        bonds: list[tuple[int, int] | None] = [(ends[0], ends[1])]
        if self.reach:
            for end, other in (ends, ends[::-1]):
                near = sorted((k for k in self.near[end] if k != other), key=rank.__getitem__)
                missing = valence - 1 - len(near)
                bonds += [(end, node) for node in near] + [None] * missing
        found = []
        for bond in bonds:
            if bond is None:
                found.append([NOBODY] * 2 * valence)
                continue
            row = [self.atom[k] for k in bond]
            for end, other in (bond, bond[::-1]):
                near = sorted((k for k in self.near[end] if k != other), key=rank.__getitem__)
                row += [self.atom[k] for k in near] + [NOBODY] * (valence - 1 - len(near))
            found.append(row)
        return found


def surroundings(template: Template, reach: int, valence: int) -> list[Surroundings]:
    """Of each bond of a molecule.

    Args:
        reach: 0 for a bond with the neighbours of its ends, 1 for their bonds too.
        valence: largest number of bonds of an atom.

    Raises:
        ConfigError: an atom with more bonds.
    """
    most = int((template.apart == 1).sum(1).max())
    if most > valence:
        raise ConfigError(
            f"expected at most {valence} bonds of each atom of {template.name!r}, got {most}"
        )
    found = []
    for bond in template.bonds:
        tree = _Tree(template, bond, reach)
        nodes = tree.centres()
        at = tree.atom
        centres = tuple(Centre(at[a], (at[b], at[c]), (at[d], at[e])) for a, b, c, d, e in nodes)
        orders = {}
        for hands in itertools.product((False, True), repeat=len(nodes)):
            types = list(tree.types)
            for (_, b, c, *_), left in zip(nodes, hands, strict=True):
                types[b] += "L" if left else "R"
                types[c] += "R" if left else "L"
            listed = tree.orders(types)
            atoms = np.array([tree.rows(order, valence) for order in listed], dtype=np.int64)
            orders[hands] = BondOrders(atoms, 1.0 / len(listed))
        found.append(Surroundings(centres, orders))
    return found
