"""Solvation of ions: first shells, solvent-separated and contact pairs, aggregates, residence.

Two ways to sort cations. By counting (Sheng et al., the BAMBOO paper): SSIP without an anion in the
shell, CIP with one anion that sees no other cation, AGG otherwise. By connected components of the
graph of cations and anions: a component of one cation alone, of one pair, or larger. Both say the
same of each cation; components also give sizes and charges of clusters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hff_ase.dynamics.observables.contacts import Contacts
from hff_ase.dynamics.observables.correlation import correlate_lags
from hff_ase.dynamics.observables.means import function_of_means
from hff_ase.dynamics.observables.observable import Observable, one_sigma, refuse
from hff_ase.dynamics.observables.statistics import mean_with_error
from hff_ase.errors import ConfigError

Array = NDArray[np.float64]
STATES = ("SSIP", "CIP", "AGG")
LEAST_IONS = 5  # with a contact, for a scatter between ions
LONGEST = 0.3  # of the run: longest lag of a residence


@dataclass(frozen=True, eq=False)
class Speciation:
    """States of the cations over time.

    Attributes:
        states: [n_frames, n_centres], index into ``STATES``.
        fractions: of cations in each state, with errors.
        clusters: how often a cluster of (cations, anions) was seen, per frame.
    """

    states: NDArray[np.int64]
    fractions: dict[str, Observable]
    clusters: dict[tuple[int, int], float]


def speciation(
    contacts: Contacts, anions: Sequence[str], by: str = "components", interval: float = 1.0
) -> Speciation:
    """SSIP, CIP and AGG of every cation.

    Args:
        contacts: of the cations.
        anions: species that count as anions.
        by: ``components`` or ``counting``.
        interval: between the frames of ``contacts``, ps.

    Raises:
        ConfigError: another way, or a species that is not present.
    """
    if by not in ("components", "counting"):
        raise ConfigError(f"expected components or counting, got {by!r}")
    topology = contacts.topology
    anion = np.full(topology.n_molecules, -1)
    members = np.concatenate([topology.of_kind(kind) for kind in anions])
    anion[members] = np.arange(len(members))
    states, clusters = [], Counter[tuple[int, int]]()
    for pairs in contacts.pairs:
        chosen = pairs[anion[pairs[:, 1]] >= 0]
        first, second = chosen[:, 0], anion[chosen[:, 1]]
        labels, sizes = components(first, second, len(contacts.centres), len(members))
        clusters.update(map(tuple, sizes.tolist()))
        if by == "components":
            own = sizes[labels[: len(contacts.centres)]]
            alone = (own[:, 0] == 1) & (own[:, 1] == 0)
            paired = (own[:, 0] == 1) & (own[:, 1] == 1)
        else:
            seen = np.bincount(first, minlength=len(contacts.centres))
            sees = np.bincount(second, minlength=len(members))
            shared = np.zeros(len(contacts.centres), dtype=bool)
            shared[first[sees[second] > 1]] = True
            alone, paired = seen == 0, (seen == 1) & ~shared
        states.append(np.where(alone, 0, np.where(paired, 1, 2)))
    table = np.array(states)
    fractions = {
        name: mean_with_error((table == k).mean(axis=1), interval, "", f"share of cations, by {by}")
        for k, name in enumerate(STATES)
    }
    n = len(contacts.pairs)
    return Speciation(table, fractions, {size: count / n for size, count in clusters.items()})


def components(
    first: NDArray[np.int64], second: NDArray[np.int64], n_cations: int, n_anions: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Component of each ion (cations first), and cations and anions in each [n_components, 2]."""
    n = n_cations + n_anions
    graph = coo_matrix((np.ones(len(first)), (first, second + n_cations)), shape=(n, n))
    count, labels = connected_components(graph, directed=False)
    cations = np.bincount(labels[:n_cations], minlength=count)
    anions = np.bincount(labels[n_cations:], minlength=count)
    return labels.astype(np.int64), np.stack([cations, anions], axis=1)


def shell_compositions(contacts: Contacts, most: int = 12) -> dict[str, float]:
    """Share of ions by what is in their first shell, such as ``3 EC + 1 PF6``; the most common."""
    kinds = contacts.topology.kinds
    order = {kind: k for k, kind in enumerate(kinds)}
    index = np.array([order[str(kind)] for kind in contacts.topology.species])
    found = Counter[tuple[int, ...]]()
    for pairs in contacts.pairs:
        table = np.zeros((len(contacts.centres), len(kinds)), dtype=np.int64)
        np.add.at(table, (pairs[:, 0], index[pairs[:, 1]]), 1)
        found.update(map(tuple, table.tolist()))
    total = sum(found.values())
    named = {}
    for counts, number in found.most_common(most):
        parts = [f"{n} {kind}" for n, kind in zip(counts, kinds, strict=True) if n]
        named[" + ".join(parts) or "nothing"] = number / total
    return named


def coordination_numbers(contacts: Contacts, interval: float = 1.0) -> dict[str, Observable]:
    """Molecules of each species in the first shell of an ion, with errors."""
    return {
        kind: mean_with_error(series, interval, "", "molecules within the first minimum")
        for kind, series in contacts.coordination().items()
    }


def preferences(
    runs: Sequence[Contacts], solvents: Sequence[str], interval: float = 1.0
) -> dict[str, Observable]:
    """Share of each solvent in the shell over its share in the bulk: above one, it is preferred.

    Args:
        runs: contacts of the ions of one species, of each replica.
        solvents: two species or more.
        interval: between frames, ps.

    Raises:
        ConfigError: a species that is not present, or no solvent in any shell.
    """
    topology = runs[0].topology
    bulk = np.array([len(topology.of_kind(kind)) for kind in solvents], dtype=float)
    tables = []
    for one in runs:
        found, nothing = one.coordination(), np.zeros(len(one.times))
        tables.append(np.stack([found.get(kind, nothing) for kind in solvents], axis=1))
    method = "share in the first shell over share in the bulk"
    return {
        kind: function_of_means(
            partial(_share_over, k, bulk / bulk.sum()), tables, interval, "", method
        )
        for k, kind in enumerate(solvents)
    }


def _share_over(place: int, bulk: Array, numbers: Array) -> float:
    """The share of one of ``numbers`` over that in the bulk; nan without any."""
    total = numbers.sum()
    return float(numbers[place] / total / bulk[place]) if total > 0 else float("nan")


def residence_time(contacts: Contacts, kind: str, interval: float) -> Observable:
    r"""How long a molecule of a species stays with an ion, ps, absences counted as part of it.

    The integral of <h(0) h(t)>/<h> less its value for unrelated pairs (Impey, Madden and McDonald,
    J. Phys. Chem. 87, 5071 (1983), without their t*), h one where a pair touches. The error is the
    scatter between ions.

    Args:
        contacts: at equal times.
        kind: species of the other molecule.
        interval: between frames, ps.
    """
    method, n = "integral of the contact correlation", len(contacts.pairs)
    members = contacts.topology.of_kind(kind)
    n_lags = max(int(LONGEST * n), 2)
    index = {int(m): k for k, m in enumerate(members)}
    series: dict[tuple[int, int], Array] = {}
    for frame, pairs in enumerate(contacts.pairs):
        for ion, other in pairs.tolist():
            if other in index:
                series.setdefault((ion, other), np.zeros(n, dtype=np.float32))[frame] = 1.0
    if not series or n < 20:
        return refuse("ps", method, f"no {kind} in a shell, or fewer than 20 frames")
    summed = np.zeros((len(contacts.centres), n_lags))
    touching = np.zeros(len(contacts.centres))
    for (ion, _), one in series.items():
        summed[ion] += correlate_lags(one.astype(float), n_lags)
        touching[ion] += one.mean()
    if (touching > 0).sum() < LEAST_IONS:
        reason = f"fewer than {LEAST_IONS} ions touched a {kind}"
        return refuse("ps", method, reason, length=n * interval, needs=3.0)
    chance = touching.sum() / (len(contacts.centres) * len(members))
    times = [_integral(summed.sum(0) / touching.sum(), chance, interval)]
    for ion in range(len(contacts.centres)):  # jackknife over ions
        rest = np.arange(len(contacts.centres)) != ion
        if touching[rest].sum() > 0:
            curve = summed[rest].sum(0) / touching[rest].sum()
            times.append(_integral(curve, chance, interval))
    value, left = times[0], np.array(times[1:])
    length = n * interval
    if len(left) < 3 or not np.isfinite(times).all() or value > 0.1 * length:
        reason = f"stays for {value:.3g} ps or more, a run of {length:.3g} ps is too short"
        needs = max(10 * value / length, 2.0) if np.isfinite(value) else 3.0
        return refuse("ps", method, reason, value=value, length=length, needs=needs)
    m = len(left)
    error = float(np.sqrt((m - 1) / m * np.sum((left - left.mean()) ** 2))) * one_sigma(m - 1)
    return Observable(value, error, "ps", method, float(m), float(m - 1), length=length)


def _integral(curve: Array, chance: float, interval: float) -> float:
    """Integral of a correlation to where it reaches 5 % above chance; nan if it does not."""
    excess = (curve - chance) / max(1.0 - chance, 1e-12)
    below = np.flatnonzero(excess < 0.05)
    if len(below) == 0:
        return float("nan")
    end = int(below[0])
    # the exponential tail beyond 5 %
    area = interval * (excess[:end].sum() - 0.5 * excess[0])
    return float(area / (1.0 - max(excess[end], 0.0)))
