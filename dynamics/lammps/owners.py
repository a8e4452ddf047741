"""Which process owns each ghost: found by the atoms' names through a directory that all share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hff_ase.errors import SimulationError


def send_around(world: Any, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """An array for each process [n, ...] to an array from each, of one dtype and width."""
    counts = world.alltoall([len(part) for part in parts])
    tail = parts[0].shape[1:]
    width = int(np.prod(tail, dtype=np.int64))
    sent = np.ascontiguousarray(np.concatenate(parts))
    received = np.empty((sum(counts), *tail), sent.dtype)
    how_many = [len(part) * width for part in parts]
    world.Alltoallv([sent, how_many], [received, [count * width for count in counts]])
    return np.split(received, np.cumsum(counts)[:-1])


def owners_of(
    world: Any, own: np.ndarray, ghosts: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What goes to and comes from each process.

    The process tag mod size is asked for where the atom with a tag is: no process needs to know
    about all atoms.

    Args:
        world: an mpi4py communicator; all its processes call this.
        own, ghosts: tags int64.

    Returns:
        For each process, the indices among own atoms that it has as ghosts, and the indices among
        ghosts here that it owns, both in the same order.

    Raises:
        SimulationError: a ghost whose atom no process owns.
    """
    size = world.size
    said = send_around(world, [_with_places(own, own % size == rank) for rank in range(size)])
    directory = np.concatenate([_from_rank(part, rank) for rank, part in enumerate(said)])
    directory = directory[np.argsort(directory[:, 0], kind="stable")]
    asked_for = [np.flatnonzero(ghosts % size == rank) for rank in range(size)]
    asked = send_around(world, [ghosts[index] for index in asked_for])
    answers = send_around(world, [_look_up(directory, tags) for tags in asked])
    owner = np.full((len(ghosts), 2), -1, np.int64)
    for index, answer in zip(asked_for, answers, strict=True):
        owner[index] = answer
    if (owner < 0).any():
        tag = int(ghosts[(owner[:, 0] < 0)][0])
        raise SimulationError(f"expected a process that owns atom {tag}, got none: atoms were lost")
    mine = [np.flatnonzero(owner[:, 0] == rank) for rank in range(size)]
    theirs = send_around(world, [owner[index, 1] for index in mine])
    return theirs, mine


def _with_places(tags: np.ndarray, which: np.ndarray) -> np.ndarray:
    return np.stack([tags[which], np.flatnonzero(which)], 1).astype(np.int64)


def _from_rank(rows: np.ndarray, rank: int) -> np.ndarray:
    """(tag, rank, place)."""
    return np.stack([rows[:, 0], np.full(len(rows), rank), rows[:, 1]], 1)


def _look_up(directory: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """(rank, place) of tags, -1 for unknown ones."""
    if not len(directory):
        return np.full((len(tags), 2), -1, np.int64)
    at = np.searchsorted(directory[:, 0], tags).clip(max=len(directory) - 1)
    found = directory[at]
    return np.where((found[:, 0] == tags)[:, None], found[:, 1:], -1)
