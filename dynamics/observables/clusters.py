"""Clusters of ions: how large they are, and how many ions are in those of each size.

A cluster is a connected component of the graph of cations and anions that touch; an ion that
touches none is a cluster of one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.contacts import Contacts
from hff_ase.dynamics.observables.means import function_of_means
from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.observables.solvation import components

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def clusters_of(contacts: Contacts, anions: Sequence[str]) -> list[Integers]:
    """Cations and anions [n_clusters, 2] in every cluster of every frame.

    Args:
        contacts: of the cations.
        anions: species that count as anions.

    Raises:
        ConfigError: a species that is not present.
    """
    topology = contacts.topology
    members = np.concatenate([topology.of_kind(kind) for kind in anions])
    place = np.full(topology.n_molecules, -1)
    place[members] = np.arange(len(members))
    found = []
    for pairs in contacts.pairs:
        chosen = pairs[place[pairs[:, 1]] >= 0]
        n = len(contacts.centres), len(members)
        found.append(components(chosen[:, 0], place[chosen[:, 1]], *n)[1])
    return found


def cluster_statistics(
    runs: Sequence[Sequence[Integers]], interval: float = 1.0
) -> dict[str, Observable]:
    """Sizes of clusters, in ions, with errors.

    Args:
        runs: of `clusters_of`, of each replica.
        interval: between frames, ps.

    Returns:
        ``mean``: of all clusters; ``of_an_ion``: of the one that an ion is in, on average; and
        ``largest``: share of all ions that are in the largest one.
    """
    tables = []
    for frames in runs:
        sizes = [one.sum(axis=1) for one in frames]
        rows = [(len(s), s.sum(), (s**2).sum(), s.max()) for s in sizes]
        tables.append(np.array(rows, dtype=float))
    method = "connected components"
    return {
        "mean": function_of_means(lambda m: m[1] / m[0], tables, interval, "", method),
        "of_an_ion": function_of_means(lambda m: m[2] / m[1], tables, interval, "", method),
        "largest": function_of_means(lambda m: m[3] / m[1], tables, interval, "", method),
    }


def ions_by_cluster(runs: Sequence[Sequence[Integers]], names: tuple[str, str]) -> dict[str, float]:
    """Share of ions by the cluster that they are in, such as ``1 Li + 2 PF6``; most of all first.

    Args:
        runs: of `clusters_of`, of each replica.
        names: of cations and anions.
    """
    counted: Counter[tuple[int, int]] = Counter()
    for frames in runs:
        for sizes in frames:
            kinds, numbers = np.unique(sizes, axis=0, return_counts=True)
            for kind, number in zip(kinds.tolist(), numbers.tolist(), strict=True):
                counted[tuple(kind)] += number * sum(kind)
    total = sum(counted.values())
    named = {}
    for counts, number in counted.most_common():
        parts = [f"{n} {name}" for n, name in zip(counts, names, strict=True) if n]
        named[" + ".join(parts)] = number / total
    return named
