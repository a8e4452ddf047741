"""Parts of a list of frames: to train on and held out, or as many as fit into one pass."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from ase import Atoms

from hff_ase.errors import ConfigError


def split_by_segment(
    frames: Sequence[Atoms], length: int, held_out: Collection[int]
) -> tuple[list[Atoms], list[Atoms]]:
    """Split correlated frames by whole segments of `length` frames: (training, held out).

    Raises:
        ConfigError: segments of less than one frame.
    """
    if length < 1:
        raise ConfigError(f"expected segments of at least 1 frame, got {length}")
    train: list[Atoms] = []
    test: list[Atoms] = []
    for index, atoms in enumerate(frames):
        (test if index // length in held_out else train).append(atoms)
    return train, test


def split_at_random(
    frames: Sequence[Atoms], fraction: float, seed: int, segment: int = 1
) -> tuple[list[Atoms], list[Atoms]]:
    """Hold out a random fraction of the segments of `segment` frames: (training, held out).

    Frames of a trajectory resemble their neighbours: choose segments long enough to be
    independent. Isolated atoms always stay in training, where they fix reference energies.

    Raises:
        ConfigError: not a fraction, or nothing would be left on one side.
    """
    if not 0.0 < fraction < 1.0 or segment < 1:
        raise ConfigError(
            f"expected a fraction between 0 and 1 of segments of at least 1 frame, got {fraction} "
            f"and {segment}"
        )
    isolated = [atoms for atoms in frames if len(atoms) == 1]
    systems = [atoms for atoms in frames if len(atoms) > 1]
    n_segments = -(-len(systems) // segment)
    n_held = max(1, round(fraction * n_segments))
    if n_held >= n_segments:
        raise ConfigError(
            f"expected more segments than are held out, got {n_segments} segments of {segment} "
            f"frames and a fraction of {fraction}"
        )
    order = np.random.default_rng(seed).permutation(n_segments)
    train, test = split_by_segment(systems, segment, set(order[:n_held].tolist()))
    return isolated + train, test


def chunks(frames: Sequence[Atoms], atoms_at_once: int) -> Iterator[list[Atoms]]:
    """Frames in order, as many at a time as have at most this many atoms (at least one)."""
    chunk: list[Atoms] = []
    n_atoms = 0
    for atoms in frames:
        if chunk and n_atoms + len(atoms) > atoms_at_once:
            yield chunk
            chunk, n_atoms = [], 0
        chunk.append(atoms)
        n_atoms += len(atoms)
    if chunk:
        yield chunk
