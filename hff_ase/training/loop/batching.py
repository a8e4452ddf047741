"""Which frames make up each step: a function of seed and epoch, with similar work per step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from hff_ase.data.dataset import Dataset
from hff_ase.neighbors import NeighborList
from hff_ase.pairs import PairRequest

POOL = 32  # batches filled together: enough to balance, few enough to stay random


def edge_counts(dataset: Dataset, cutoff: float) -> np.ndarray:
    """Directed neighbour pairs within ``cutoff`` (Angstrom) of every frame, int64 [n_frames]."""
    request = PairRequest(cutoff, "full")
    counts = np.zeros(len(dataset), dtype=np.int64)
    for index in range(len(dataset)):
        neighbors = NeighborList((request,))
        neighbors.build(dataset[index][0])
        counts[index] = int(neighbors.rows(request).count.sum())
    return counts


def epoch_batches(
    costs: np.ndarray,
    seed: int,
    epoch: int,
    batch_size: int = 1,
    max_cost: float | None = None,
) -> list[list[int]]:
    """All frames in random order, in batches.

    Args:
        costs: work per frame (atoms or edges), [n_frames].
        batch_size: frames per batch; the last few batches of an epoch may have one less.
        max_cost: instead of it, the largest sum of costs of a batch (a single frame may exceed it).
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(costs))
    size = batch_size if max_cost is None else max(int(max_cost / max(np.mean(costs), 1e-9)), 1)
    batches: list[list[int]] = []
    for pool in _pools(order, size):
        if max_cost is None:
            dealt = deal(pool, costs, math.ceil(len(pool) / size), size)
        else:
            dealt = _packed(pool, costs, max_cost)
        batches += [dealt[k] for k in rng.permutation(len(dealt))]
    return batches


def _pools(order: np.ndarray, size: int) -> Iterator[list[int]]:
    for start in range(0, len(order), POOL * size):
        yield [int(k) for k in order[start : start + POOL * size]]


def deal(
    frames: Sequence[int], costs: np.ndarray, n_parts: int, size: int | None = None
) -> list[list[int]]:
    """Frames in ``n_parts`` parts of similar cost: the costliest first, each to the cheapest part.

    Args:
        size: the most frames of a part.
    """
    parts: list[list[int]] = [[] for _ in range(n_parts)]
    total = np.zeros(n_parts)
    for frame in sorted(frames, key=lambda k: -costs[k]):  # stable: ties stay in random order
        part = int(np.argmin(total))
        parts[part].append(frame)
        total[part] += costs[frame]
        if size is not None and len(parts[part]) >= size:
            total[part] = np.inf
    return parts


def _packed(frames: Sequence[int], costs: np.ndarray, max_cost: float) -> list[list[int]]:
    """As few parts as hold no more than ``max_cost`` each."""
    n_parts = max(math.ceil(sum(float(costs[k]) for k in frames) / max_cost), 1)
    while True:
        parts = deal(frames, costs, n_parts)
        worst = (
            max(sum(float(costs[k]) for k in part) for part in parts if len(part) > 1)
            if any(len(part) > 1 for part in parts)
            else 0.0
        )
        if worst <= max_cost or n_parts >= len(frames):
            return [part for part in parts if part]
        n_parts += 1
