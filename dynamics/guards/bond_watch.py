"""Molecules that break or react during a run: the initial bonds, checked at intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from vesin import NeighborList

from hff_ase.domain import Naming
from hff_ase.dynamics.build.naming import name_of
from hff_ase.topology import perceive

# In units of the sum of covalent radii: longer is broken, shorter is a bond where there was none.
# Molecules of liquids stay within 1.15 up to 600 K, and what is not bonded stays beyond 1.5.
BROKEN = 1.45
FORMED = 1.10
# Bonds between these belong to molecules; metals, and ions that are bare, have none to watch.
NONMETALS = (
    *("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl"),
    *("Ge", "As", "Se", "Br", "Te", "I"),
)


@dataclass(frozen=True)
class BondEvent:
    """A bond that broke or formed.

    Attributes:
        kind: "broken" or "formed".
        atoms: both atoms.
        distance: Angstrom.
        molecules: names (or formulas) of the molecules that the atoms belonged to, one or two.
        text: in words.
    """

    kind: str
    atoms: tuple[int, int]
    distance: float
    molecules: tuple[str, ...]
    text: str


class BondWatch:
    """Follows the bonds of a structure from the beginning of the watch.

    Args:
        atoms: the start; ids of molecules, where there are, say which atoms may be bonded.
        names: what a molecule is called, by its graph.
    """

    def __init__(self, atoms: Atoms, names: Naming = name_of) -> None:
        topology = perceive(atoms)
        watched = np.isin(atoms.numbers, [atomic_numbers[symbol] for symbol in NONMETALS])
        whole = topology.bonds[watched[topology.bonds].all(axis=1)]
        self._first, self._second = whole[:, 0], whole[:, 1]
        self._numbers, self._molecule = atoms.numbers.copy(), topology.molecule
        self._names = [""] * topology.n_molecules
        for kind in topology.kinds():
            for k in kind.molecules:
                self._names[int(k)] = names(kind.graph) or kind.graph.formula
        self._radii = np.where(watched, covalent_radii[atoms.numbers], -np.inf)
        self._longest = BROKEN * (self._radii[self._first] + self._radii[self._second])
        self._known = np.sort(self._pair_ids(self._first, self._second))
        self._said: set[tuple[str, int]] = set()

    @property
    def n_bonds(self) -> int:
        """Bonds that are followed."""
        return len(self._first)

    def look(self, atoms: Atoms) -> list[BondEvent]:
        """Bonds broken or formed since the start and not reported before, worst first."""
        if not np.isfinite(atoms.positions).all():
            return []  # others stop a run for that
        events = [*self._broken(atoms), *self._formed(atoms)]
        new = []
        for badness, event in sorted(events, key=lambda entry: -entry[0]):
            key = (event.kind, int(self._pair_ids(*np.array(event.atoms))))
            if key not in self._said:
                self._said.add(key)
                new.append((badness, event))
        return [event for _, event in new]

    def _pair_ids(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """One number for each pair, whatever its order."""
        low, high = np.minimum(first, second), np.maximum(first, second)
        return np.asarray(low, dtype=np.int64) * len(self._numbers) + high

    def _broken(self, atoms: Atoms) -> list[tuple[float, BondEvent]]:
        """Bonds [n_bonds] longer than the limit, through the boundaries: bonds are short."""
        vectors = atoms.positions[self._second] - atoms.positions[self._first]
        if atoms.pbc.any():
            cell = atoms.cell.complete().array
            images = np.rint(vectors @ np.linalg.inv(cell)) * atoms.pbc
            vectors = vectors - images @ cell
        lengths = np.sqrt((vectors**2).sum(axis=1))
        over = np.flatnonzero(lengths > self._longest)
        return [
            (
                float(lengths[k] / self._longest[k]),
                self._event("broken", int(self._first[k]), int(self._second[k]), lengths[k]),
            )
            for k in over
        ]

    def _formed(self, atoms: Atoms) -> list[tuple[float, BondEvent]]:
        """Pairs without a bond that are as near as one."""
        largest = float(self._radii.max(initial=0.0))
        if largest <= 0:
            return []
        search = NeighborList(cutoff=2 * FORMED * largest, full_list=False)
        periodic = atoms.pbc.any()
        first, second, distance = search.compute(
            points=atoms.positions,
            box=atoms.cell.complete().array if periodic else np.zeros((3, 3)),
            periodic=atoms.pbc.tolist() if periodic else False,
            quantities="ijd",
        )
        first, second = first.astype(np.int64), second.astype(np.int64)
        limits = FORMED * (self._radii[first] + self._radii[second])
        near = distance < limits
        first, second, distance, limits = (x[near] for x in (first, second, distance, limits))
        ids = self._pair_ids(first, second)
        place = np.minimum(np.searchsorted(self._known, ids), max(0, len(self._known) - 1))
        new = self._known[place] != ids if len(self._known) else np.ones(len(ids), dtype=bool)
        return [
            (
                float(limits[k] / distance[k]),
                self._event("formed", int(first[k]), int(second[k]), distance[k]),
            )
            for k in np.flatnonzero(new)
        ]

    def _event(self, kind: str, first: int, second: int, distance: float) -> BondEvent:
        one, other = self._called(first), self._called(second)
        same = self._molecule[first] == self._molecule[second]
        a, b = self._atom(first), self._atom(second)
        if kind == "broken":
            text = f"the bond of {a} and {b} in {one} broke: they are {distance:.2f} A apart"
        elif same:
            text = f"{a} and {b} in {one} bonded: they are {distance:.2f} A apart"
        else:
            text = f"{a} in {one} and {b} in {other} bonded: they are {distance:.2f} A apart"
        return BondEvent(
            kind, (first, second), float(distance), (one,) if same else (one, other), text
        )

    def _called(self, atom: int) -> str:
        return self._names[int(self._molecule[atom])]

    def _atom(self, index: int) -> str:
        return f"atom {index} ({Atoms([int(self._numbers[index])]).symbols[0]})"
