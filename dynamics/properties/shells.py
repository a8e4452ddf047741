"""Solvation of the cations of a window: first shells, ion pairs, residence times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.clusters import cluster_statistics, clusters_of
from hff_ase.dynamics.observables.contacts import Contacts
from hff_ase.dynamics.observables.observable import Observable, combine, refuse
from hff_ase.dynamics.observables.solvation import (
    STATES,
    preferences,
    residence_time,
    shell_compositions,
    speciation,
)
from hff_ase.dynamics.observables.statistics import mean_with_error
from hff_ase.dynamics.observables.topology import Topology
from hff_ase.dynamics.properties.window import Window
from hff_ase.errors import ConfigError

Found = dict[str, Observable]
Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def cations(topology: Topology) -> list[str]:
    """Species of positive charge.

    Raises:
        ConfigError: there are none.
    """
    found = [kind for kind, charge in topology.kind_charges().items() if charge > 0]
    if not found:
        raise ConfigError(f"expected cations, got {', '.join(topology.kinds)}")
    return found


def solvation_of(window: Window) -> Found:
    """Coordination numbers, shares of SSIP, CIP and AGG, and residence times of each cation."""
    topology, found = window.topology, {}
    anions = [kind for kind, charge in topology.kind_charges().items() if charge < 0]
    for kind in cations(topology):
        contacts = window.contacts(kind)
        interval = interval_of(contacts)
        tables = [one.coordination() for one in contacts]
        touching = [one for one in topology.kinds if any(one in table for table in tables)]
        for other in touching:
            series = [
                table.get(other, np.zeros(len(one.times)))
                for table, one in zip(tables, contacts, strict=True)
            ]
            method = "molecules within the first minimum of g(r)"
            name = f"coordination_number/{kind}-{other}"
            found[name] = mean_of(series, interval, method)
        if anions:
            states = [speciation(one, anions, interval=interval).states for one in contacts]
            for number, state in enumerate(STATES):
                series = [(table == number).mean(axis=1) for table in states]
                name = f"ion_pairing/{kind}/{state}"
                found[name] = mean_of(series, interval, "connected components")
        solvents = [one for one in touching if topology.kind_charges()[one] == 0]
        if len(solvents) > 1:
            for other, ratio in preferences(contacts, solvents, interval).items():
                found[f"shell_preference/{kind}-{other}"] = ratio
        for other in touching:
            found[f"residence_time/{kind}-{other}"] = residence_of(contacts, other, interval)
    return found


def clusters_of_window(window: Window) -> Found:
    """Sizes of the clusters of each cation with the anions."""
    found: Found = {}
    for kind, runs, interval in cluster_runs(window):
        for name, one in cluster_statistics(runs, interval).items():
            found[f"cluster_size/{kind}/{name}"] = one
    return found


def cluster_runs(window: Window) -> Iterator[tuple[str, list[list[Integers]], float]]:
    """Each cation, the clusters of every frame of each replica, and the time between frames.

    Raises:
        ConfigError: no cations, or no anions.
    """
    topology = window.topology
    anions = anions_of(topology)
    for kind in cations(topology):
        contacts = window.contacts(kind)
        yield kind, [clusters_of(one, anions) for one in contacts], interval_of(contacts)


def anions_of(topology: Topology) -> list[str]:
    """Species of negative charge.

    Raises:
        ConfigError: there are none.
    """
    found = [kind for kind, charge in topology.kind_charges().items() if charge < 0]
    if not found:
        raise ConfigError(f"expected anions, got {', '.join(topology.kinds)}")
    return found


def mean_of(series: list[Array], interval: float, method: str) -> Observable:
    """Mean of the replicas; refused where the value did not change during any of them."""
    value = float(series[0][0])
    if all((one == value).all() for one in series):
        length = interval * sum(map(len, series))
        reason = f"it was {value:g} all the time: exchange takes longer than the runs"
        return refuse("", method, reason, value=value, length=length, needs=3.0)
    return mean_with_error(series, interval, "", method)


def residence_of(contacts: list[Contacts], other: str, interval: float) -> Observable:
    """Residence time of a molecule at an ion, averaged over the replicas."""
    own = [residence_time(one, other, interval) for one in contacts]
    for one in own:
        if one.refused:
            return refuse(
                "ps", one.method, one.reason, length=sum(o.length for o in own), needs=one.needs
            )
    if len(own) == 1:
        return own[0]
    parts = {f"r{k}": one for k, one in enumerate(own)}
    return combine(
        lambda **values: float(np.mean(list(values.values()))), parts, "ps", own[0].method
    )


def compositions(contacts: list[Contacts], most: int = 8) -> dict[str, float]:
    """Fraction of ions by the composition of their first shell, over all replicas."""
    summed: Counter[str] = Counter()
    for one in contacts:
        for shell, share in shell_compositions(one, 50).items():
            summed[shell] += share * len(one.times)  # type: ignore[assignment]
    frames = sum(len(one.times) for one in contacts)
    return {shell: share / frames for shell, share in summed.most_common(most)}


def interval_of(contacts: list[Contacts]) -> float:
    """Time between frames, ps.

    Raises:
        ConfigError: fewer than two frames.
    """
    times = max((one.times for one in contacts), key=len)
    if len(times) < 2:
        raise ConfigError("expected at least two frames, got one")
    return float(np.median(np.diff(times)))
