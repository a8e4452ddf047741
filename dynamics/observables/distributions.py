"""Distributions of atomic charges by element and state, and of angles between neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.means import function_of_means
from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.observables.statistics import mean_with_error
from hff_ase.dynamics.observables.trajectory import Trajectory
from hff_ase.errors import ConfigError

Array = NDArray[np.float64]
States = tuple[NDArray[np.int64], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class ChargeHistograms:
    """Distributions of charges.

    Attributes:
        edges: [n_bins + 1], e.
        histogram: [n_bins] by element, or element and state such as ``Li CIP``; 1/e, area one.
        mean, spread: of each, e.
    """

    edges: Array
    histogram: dict[str, Array]
    mean: dict[str, float]
    spread: dict[str, float]


def charge_histograms(
    charges: Array,
    symbols: NDArray[np.str_],
    edges: Array,
    states: Mapping[str, States] | None = None,
) -> ChargeHistograms:
    """How charges of each element are distributed, sorted by solvation state where it is known.

    Args:
        charges: [n_frames, n_atoms], e.
        symbols: [n_atoms].
        edges: [n_bins + 1], e.
        states: by element: state [n_frames, n_atoms of it] and the names of the states, such as
            ``Speciation.states`` with ``STATES`` for the cations.

    Raises:
        ConfigError: states of another shape than the charges of their element.
    """
    groups: dict[str, Array] = {}
    for element in dict.fromkeys(np.asarray(symbols).tolist()):
        own = charges[:, np.asarray(symbols) == element]
        groups[element] = own.ravel()
        if states and element in states:
            state, names = states[element]
            if state.shape != own.shape:
                raise ConfigError(f"expected states of {element} {own.shape}, got {state.shape}")
            for k, name in enumerate(names):
                if (state == k).any():
                    groups[f"{element} {name}"] = own[state == k]
    return ChargeHistograms(
        edges,
        {name: np.histogram(q, edges, density=True)[0] for name, q in groups.items()},
        {name: float(q.mean()) for name, q in groups.items()},
        {name: float(q.std()) for name, q in groups.items()},
    )


def mean_charges(
    runs: Sequence[tuple[Array, Mapping[str, States]]],
    labels: NDArray[np.str_],
    interval: float = 1.0,
) -> dict[str, Observable]:
    """Mean charge of the atoms of each label, and of those in each state, with errors.

    Args:
        runs: of each replica, charges [n_frames, n_atoms], e, and states as for
            `charge_histograms`.
        labels: [n_atoms], such as elements.
        interval: between frames, ps.

    Returns:
        By label, or label and state such as ``Li CIP``; states that are never seen are left out.
    """
    labels = np.asarray(labels)
    found = {}
    for label in dict.fromkeys(labels.tolist()):
        own = [charges[:, labels == label] for charges, _ in runs]
        each = [one.mean(axis=1) for one in own]
        found[label] = mean_with_error(each, interval, "e", "mean over atoms and frames")
        states = [known.get(label) for _, known in runs]
        if any(one is None for one in states):
            continue
        names = states[0][1]  # type: ignore[index]
        for k, name in enumerate(names):
            tables = []
            for charges, (state, _) in zip(own, states, strict=True):  # type: ignore[misc]
                inside = state == k
                summed = np.where(inside, charges, 0.0).sum(axis=1)
                tables.append(np.stack([summed, inside.sum(axis=1)], axis=1))
            if sum(table[:, 1].sum() for table in tables) > 0:
                found[f"{label} {name}"] = function_of_means(
                    lambda mean: mean[0] / mean[1], tables, interval, "e", f"mean while {name}"
                )
    return found


def angles_of_frames(
    parts: Iterable[Trajectory],
    first: str,
    middle: str,
    last: str,
    reach_first: float,
    reach_last: float,
    every: int = 1,
) -> list[Array]:
    """Angles first-middle-last between neighbours in each frame [n_angles], degrees.

    Args:
        parts: chunks of `stream`, or [trajectory], of atoms.
        first, middle, last: elements.
        reach_first, reach_last: how far the outer atoms may be from the middle one, Angstrom.
        every: only each so many frames.
    """
    from vesin import NeighborList

    search = NeighborList(cutoff=max(reach_first, reach_last), full_list=True)
    found, index = [], 0
    for part in parts:
        symbols = part.topology.symbols
        sites = np.flatnonzero(np.isin(symbols, [first, middle, last]))
        symbols = symbols[sites]
        for positions, cell in zip(part.positions, part.cells, strict=True):
            index += 1
            if (index - 1) % every:
                continue
            i, j, distance, vector = search.compute(positions[sites], cell, True, "ijdD")
            centre = symbols[i] == middle
            one = centre & (symbols[j] == first) & (distance < reach_first)
            other = centre & (symbols[j] == last) & (distance < reach_last)
            angles = [np.zeros(0)]
            for site in np.intersect1d(i[one], i[other]):
                a, b = one & (i == site), other & (i == site)
                u = vector[a] / distance[a, None]
                v = vector[b] / distance[b, None]
                cosine = np.clip(u @ v.T, -1.0, 1.0)
                rows, columns = np.flatnonzero(a)[:, None], np.flatnonzero(b)[None, :]
                # of two neighbours of one kind each angle once
                kept = rows < columns if first == last else rows != columns
                angles.append(np.degrees(np.arccos(cosine[kept])))
            found.append(np.concatenate(angles))
    return found


def mean_angle(runs: Sequence[Sequence[Array]], interval: float = 1.0) -> Observable:
    """Mean of the angles of `angles_of_frames` of each replica, degrees.

    Raises:
        ConfigError: no angles.
    """
    tables = [np.array([(one.sum(), len(one)) for one in frames]) for frames in runs]
    if sum(table[:, 1].sum() for table in tables) == 0:
        raise ConfigError("expected angles, got none within reach")
    method = "mean over angles and frames"
    return function_of_means(lambda m: m[0] / m[1], tables, interval, "deg", method)


def angle_density(frames: Sequence[Array], n_bins: int = 90) -> tuple[Array, Array]:
    """Distribution of angles, divided by sin(angle): an isotropic pair gives a constant.

    Args:
        frames: of `angles_of_frames`.
        n_bins: from 0 to 180 degrees.

    Returns:
        Middles of bins, degrees, and densities [n_bins] with a mean of one over the sphere.

    Raises:
        ConfigError: no angles.
    """
    edges = np.linspace(0.0, 180.0, n_bins + 1)
    counts = np.histogram(np.concatenate(frames), edges)[0].astype(float)
    if counts.sum() == 0:
        raise ConfigError("expected angles, got none within reach")
    sphere = 0.5 * (np.cos(np.radians(edges[:-1])) - np.cos(np.radians(edges[1:])))
    return 0.5 * (edges[1:] + edges[:-1]), counts / counts.sum() / sphere
