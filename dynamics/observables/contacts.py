"""Contacts of ions with molecules, frame by frame, from which solvation is counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.topology import Topology
from hff_ase.dynamics.observables.trajectory import Trajectory
from hff_ase.errors import ConfigError, StructureError

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Contacts:
    """Contacts of a species of ions with other molecules.

    Attributes:
        centres: [n_centres], molecule ids of the ions.
        topology: of the atoms.
        times: [n_frames], ps.
        pairs: of each frame [n_contacts, 2]: index into ``centres``, and the other molecule's id;
            each pair once, however many of its atoms are near.
        atoms: of each frame [n_centres, n_elements]: near atoms by element.
        elements: the elements that count, in order.
    """

    centres: Integers
    topology: Topology
    times: Array
    pairs: list[Integers]
    atoms: list[Integers]
    elements: tuple[str, ...]

    def coordination(self) -> dict[str, Array]:
        """Mean number of molecules of each species around an ion [n_frames], by species."""
        kinds, found = self.topology.kinds, {}
        for kind in kinds:
            own = np.zeros(self.topology.n_molecules, dtype=bool)
            own[self.topology.of_kind(kind)] = True
            counts = np.array([own[pairs[:, 1]].sum() for pairs in self.pairs], dtype=float)
            if counts.any():
                found[kind] = counts / len(self.centres)
        return found

    def atom_coordination(self) -> dict[str, Array]:
        """Mean number of atoms of each element around an ion [n_frames], by element."""
        counts = np.array([one.mean(axis=0) for one in self.atoms])
        return {element: counts[:, k] for k, element in enumerate(self.elements)}


def find_contacts(
    parts: Iterable[Trajectory], kind: str, cutoffs: Mapping[str, float], every: int = 1
) -> Contacts:
    """Contacts of every ion of a species in a trajectory in chunks.

    Args:
        parts: chunks of `stream`, or [trajectory]: all atoms.
        kind: species of the ions, such as ``Li``; its first atom counts.
        cutoffs: by element of the other atom, Angstrom: the first minima of g(r), such as
            ``{"O": 2.8, "F": 2.7}``.
        every: only every n-th frame.

    Raises:
        ConfigError: no such species, none of the elements, or a cutoff that is not positive.
        StructureError: no frames.
    """
    from vesin import NeighborList

    if not cutoffs or min(cutoffs.values()) <= 0:
        raise ConfigError(f"expected cutoffs above zero by element, got {dict(cutoffs)}")
    search = NeighborList(cutoff=float(max(cutoffs.values())), full_list=True)
    elements, setup = tuple(cutoffs), None
    times: list[float] = []
    pairs: list[Integers] = []
    atoms: list[Integers] = []
    index = 0
    for part in parts:
        if setup is None:
            setup = _setup(part.topology, kind, elements, cutoffs)
        centres, sites, reach, element = setup
        n_centres = len(centres)
        for positions, cell, time in zip(part.positions, part.cells, part.times, strict=True):
            index += 1
            if (index - 1) % every:
                continue
            i, j, distance = search.compute(positions[sites], cell, True, "ijd")
            near = (i < n_centres) & (j >= n_centres) & (distance < reach[j])
            first, second = i[near].astype(np.int64), j[near].astype(np.int64)
            counted = np.zeros((n_centres, len(elements)), dtype=np.int64)
            np.add.at(counted, (first, element[second]), 1)
            touched = part.topology.molecule[sites[second]]
            other = touched != centres[first]
            found = np.stack([first[other], touched[other]], axis=1)
            pairs.append(np.unique(found, axis=0))
            atoms.append(counted)
            times.append(float(time))
        topology = part.topology
    if setup is None or not times:
        raise StructureError("expected frames to look for contacts in, got none")
    return Contacts(setup[0], topology, np.array(times), pairs, atoms, elements)


def _setup(
    topology: Topology, kind: str, elements: tuple[str, ...], cutoffs: Mapping[str, float]
) -> tuple[Integers, Integers, Array, Integers]:
    """Ions, the sites to search (ions first), their reach and element."""
    centres = topology.of_kind(kind)
    first = np.unique(topology.molecule, return_index=True)[1][centres]
    donors = np.flatnonzero(np.isin(topology.symbols, elements))
    donors = donors[~np.isin(donors, first)]
    if len(donors) == 0:
        raise ConfigError(f"expected atoms of {', '.join(elements)} around {kind}, got none")
    sites = np.concatenate([first, donors])
    order = {name: k for k, name in enumerate(elements)}
    element = np.array([order.get(str(symbol), -1) for symbol in topology.symbols[sites]])
    reach = np.array([cutoffs.get(str(symbol), 0.0) for symbol in topology.symbols[sites]])
    return centres, sites, reach, element
