"""Fingerprints of clusters without a model: distances between their elements."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from scipy.spatial.distance import cdist

REACH, WIDTH = 6.0, 0.25  # Angstrom: farthest distance that is looked at, and of the Gaussians


def distance_features(structures: Sequence[Atoms]) -> np.ndarray:
    """One vector per structure that does not depend on orientation, position or order of atoms.

    For each pair of elements the distances up to 6 Angstrom, smeared to 0.25 Angstrom and fading to
    zero at the end, per atom; and the share of each element.

    Args:
        structures: without periods.

    Returns:
        float64 [n_structures, n_pairs * n_shells + n_elements].
    """
    elements = sorted({int(z) for atoms in structures for z in set(atoms.numbers)})
    shells = np.arange(WIDTH, REACH, WIDTH)
    rows = []
    for atoms in structures:
        distance = cdist(atoms.positions, atoms.positions)
        np.fill_diagonal(distance, np.inf)
        fade = 0.5 * (1 + np.cos(np.pi * np.minimum(distance / REACH, 1.0)))
        of = {z: np.flatnonzero(atoms.numbers == z) for z in elements}
        parts = []
        for a, b in combinations_with_replacement(elements, 2):
            between, weight = distance[np.ix_(of[a], of[b])], fade[np.ix_(of[a], of[b])]
            near = weight > 0
            gaussians = np.exp(-0.5 * ((between[near][:, None] - shells) / WIDTH) ** 2)
            parts.append((weight[near][:, None] * gaussians).sum(axis=0) / len(atoms))
        shares = [len(of[z]) / len(atoms) for z in elements]
        rows.append(np.concatenate([*parts, shares]))
    return np.array(rows)
