r"""Partial radial distribution functions and running coordination numbers, frame by frame.

.. math:: g_{ab}(r) = \frac{V n_{ab}(r)}{N_a N_b \, \tfrac43\pi (r_+^3 - r_-^3)}, \qquad
    n(r) = \frac{N_b}{V} \int_0^r 4 \pi r'^2 g \, dr'

n_ab counts ordered pairs in a shell; N_a (N_a - 1) for a pair of one kind, so that an ideal gas of
few atoms has g = 1. Errors come from blocks of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.trajectory import Trajectory
from hff_ase.errors import ConfigError, StructureError

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Masks = Mapping[str, tuple[Mask, Mask]]
REACH, WIDTH = 10.0, 0.02  # Angstrom
N_BLOCKS = 20


@dataclass(frozen=True, eq=False)
class PairDistributions:
    """Radial distribution functions of pairs of elements (or of species, of centres).

    Attributes:
        distance: [n_shells], middles of shells, Angstrom.
        edges: [n_shells + 1], Angstrom.
        g: [n_shells] by pair, such as ``Li-O``.
        blocks: [n_blocks, n_shells] by pair, ``g`` of consecutive parts of the run.
        error: [n_shells] of ``g``, standard error over blocks of frames; nan with fewer than three.
        coordination: [n_shells] by pair, mean number of the second kind around one of the first
            up to the outer edge of each shell.
        density: mean number density of the second kind by pair, 1/Angstrom^3.
        counts: how many of the first and of the second kind by pair.
        volume: mean, Angstrom^3.
        n_frames: that were counted.
    """

    distance: Array
    edges: Array
    g: dict[str, Array]
    blocks: dict[str, Array]
    error: dict[str, Array]
    coordination: dict[str, Array]
    density: dict[str, float]
    counts: dict[str, tuple[int, int]]
    volume: float
    n_frames: int


def pair_masks(symbols: NDArray[np.str_], pairs: Sequence[str]) -> dict[str, tuple[Mask, Mask]]:
    """Which sites are the first and the second of each pair such as ``Li-O``; else left out."""
    found = {}
    for name in pairs:
        first, second = ((symbols == kind) for kind in name.split("-", 1))
        same = bool(np.array_equal(first, second))
        if first.sum() * (second.sum() - int(same)) > 0:
            found[name] = (first, second)
    return found


def count_shells(
    search: Callable[..., tuple[NDArray[np.int64], NDArray[np.int64], Array]],
    positions: Array,
    cell: Array,
    masks: Masks,
    edges: Array,
) -> dict[str, Array]:
    """Ordered pairs in each shell [n_shells] by name, of one frame.

    Args:
        search: ``compute`` of a vesin.NeighborList of the full list up to the last edge.
        positions: [n_sites, 3], Angstrom.
        cell: [3, 3].
        masks: of `pair_masks`.
        edges: [n_shells + 1], equally wide, from zero.
    """
    i, j, distance = search(positions, cell, True, "ijd")
    shell = np.minimum((distance / edges[1]).astype(np.int64), len(edges) - 1)
    inside = shell < len(edges) - 1
    i, j, shell = i[inside], j[inside], shell[inside]
    return {
        name: np.bincount(shell[first[i] & second[j]], minlength=len(edges) - 1).astype(float)
        for name, (first, second) in masks.items()
    }


def pair_distributions(
    parts: Iterable[Trajectory],
    pairs: Sequence[str],
    reach: float = REACH,
    width: float = WIDTH,
    every: int = 1,
) -> PairDistributions:
    """Radial distribution functions of a trajectory in chunks.

    Args:
        parts: chunks of `stream`, or [trajectory]; with centres of molecules, pairs are of species.
        pairs: such as ``Li-O``; those that are not present are left out.
        reach, width: of all shells and of one, Angstrom; beyond half the cell images are counted.
        every: only every n-th frame: neighbouring ones tell nothing new.

    Raises:
        ConfigError: none of the pairs is there.
        StructureError: no frames.
    """
    from vesin import NeighborList

    n_shells = round(reach / width)
    edges: Array = width * np.arange(n_shells + 1.0)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    search = NeighborList(cutoff=float(edges[-1]), full_list=True)
    masks: dict[str, tuple[Mask, Mask]] = {}
    frames: dict[str, list[Array]] = {}
    volumes, index = [], 0
    for part in parts:
        if not masks:
            masks = pair_masks(part.topology.symbols, pairs)
            if not masks:
                raise ConfigError(f"expected pairs of the elements there, got {', '.join(pairs)}")
            frames = {name: [] for name in masks}
        for positions, cell in zip(part.positions, part.cells, strict=True):
            index += 1
            if (index - 1) % every:
                continue
            volume = float(abs(np.linalg.det(cell)))
            volumes.append(volume)
            counted = count_shells(search.compute, positions, cell, masks, edges)
            for name, found in counted.items():
                frames[name].append((found * volume).astype(np.float32))  # 500 x 20,000: 40 MB
    if not volumes:
        raise StructureError("expected frames to count pairs in, got none")
    return _summary(frames, masks, edges, shells, np.array(volumes))


def _summary(
    frames: dict[str, list[Array]], masks: Masks, edges: Array, shells: Array, volumes: Array
) -> PairDistributions:
    """Means and errors of histograms of single frames."""
    g, blocks, error, coordination, density, counts = {}, {}, {}, {}, {}, {}
    for name, (first, second) in masks.items():
        n_first, n_second = int(first.sum()), int(second.sum())
        others = n_second - int(np.array_equal(first, second))
        each = np.stack(frames[name]).astype(float)  # times volume
        scaled = each / (n_first * others * shells)
        g[name] = scaled.mean(axis=0)
        parts = [part.mean(axis=0) for part in np.array_split(scaled, N_BLOCKS) if len(part)]
        blocks[name] = np.array(parts)
        spread = np.std(parts, axis=0, ddof=1) if len(parts) > 2 else np.full(len(shells), np.nan)
        error[name] = spread / np.sqrt(len(parts))
        coordination[name] = np.cumsum((each / volumes[:, None]).mean(axis=0)) / n_first
        density[name] = float(np.mean(n_second / volumes))
        counts[name] = (n_first, n_second)
    return PairDistributions(
        0.5 * (edges[1:] + edges[:-1]),
        edges,
        g,
        blocks,
        error,
        coordination,
        density,
        counts,
        float(volumes.mean()),
        len(volumes),
    )


def first_minimum(distance: Array, g: Array, within: tuple[float, float] = (1.0, 6.0)) -> float:
    """Distance of the first minimum after the first peak, Angstrom, of a smoothed function.

    Args:
        distance, g: [n_shells].
        within: where the peak is looked for.

    Raises:
        ConfigError: no peak above 1, or no minimum after it.
    """
    width = distance[1] - distance[0]
    half = max(round(0.1 / width), 1)
    smooth = np.convolve(np.pad(g, half, mode="edge"), np.ones(2 * half + 1) / (2 * half + 1))
    smooth = smooth[2 * half : 2 * half + len(g)]
    inside = np.flatnonzero((distance >= within[0]) & (distance <= within[1]))
    rising = [
        k
        for k in inside
        if smooth[k] > 1.0 and smooth[k] >= smooth[max(k - half, 0) : k + half + 1].max()
    ]
    if not rising:
        raise ConfigError(f"expected a peak above 1 within {within} A, got none")
    peak = rising[0]
    for k in range(peak + 1, len(g) - half):
        if smooth[k] <= smooth[max(k - 3 * half, 0) : k + 3 * half + 1].min():
            return float(distance[k])
    raise ConfigError(f"expected a minimum behind the peak at {distance[peak]:.2f} A, got none")
