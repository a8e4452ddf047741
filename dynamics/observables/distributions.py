"""Distributions of atomic charges by element and state, and of angles between neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def angle_histogram(
    trajectory: Trajectory,
    first: str,
    middle: str,
    last: str,
    reach_first: float,
    reach_last: float,
    n_bins: int = 90,
) -> tuple[Array, Array]:
    """Distribution of angles first-middle-last between neighbours, divided by sin(angle).

    An isotropic pair of neighbours gives a constant.

    Args:
        trajectory: of atoms.
        first, middle, last: elements.
        reach_first, reach_last: how far the outer atoms may be from the middle one, Angstrom.
        n_bins: from 0 to 180 degrees.

    Returns:
        Middles of bins, degrees, and densities [n_bins] with a mean of one over the sphere.

    Raises:
        ConfigError: no such angle in the trajectory.
    """
    from vesin import NeighborList

    symbols = trajectory.topology.symbols
    search = NeighborList(cutoff=max(reach_first, reach_last), full_list=True)
    edges = np.linspace(0.0, 180.0, n_bins + 1)
    counts = np.zeros(n_bins)
    for positions, cell in zip(trajectory.positions, trajectory.cells, strict=True):
        i, j, distance, vector = search.compute(positions, cell, True, "ijdD")
        centre = symbols[i] == middle
        one = centre & (symbols[j] == first) & (distance < reach_first)
        other = centre & (symbols[j] == last) & (distance < reach_last)
        for site in np.intersect1d(i[one], i[other]):
            a, b = one & (i == site), other & (i == site)
            u = vector[a] / distance[a, None]
            v = vector[b] / distance[b, None]
            cosine = np.clip(u @ v.T, -1.0, 1.0)
            same = np.flatnonzero(a)[:, None] == np.flatnonzero(b)[None, :]
            counts += np.histogram(np.degrees(np.arccos(cosine[~same])), edges)[0]
    if counts.sum() == 0:
        raise ConfigError(f"expected angles {first}-{middle}-{last} within reach, got none")
    sphere = 0.5 * (np.cos(np.radians(edges[:-1])) - np.cos(np.radians(edges[1:])))
    return 0.5 * (edges[1:] + edges[:-1]), counts / counts.sum() / sphere
