"""Frames with bond angles closed or opened far beyond what dynamics reaches.

A network that never saw two hydrogens of a methyl group meet may find a valley behind the barrier
(docs/decisions/methyl-wall.md); its teacher knows better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import find_mic
from scipy.spatial.transform import Rotation

from hff_ase.topology import Connectivity, perceive

SHARE = 0.3  # of the molecules of a frame, and at least one
CLOSED, OPENED = (25.0, 105.0), (115.0, 175.0)  # degrees
CLOSE = 0.75  # of the angles are closed
NEAREST = 0.8  # of the sum of covalent radii, and Angstrom: the least distance of what has moved
TRIES = 20
WEIGHT = 0.2  # of their forces of several eV/Angstrom in the loss


def distorted(frames: Sequence[Atoms], number: int, seed: int) -> list[Atoms]:
    """Copies of some of the frames in which molecules have one angle that is far from its own."""
    rng, found = np.random.default_rng(seed), list[Atoms]()
    for k in rng.permutation(len(frames))[:number]:
        atoms = frames[k].copy()
        topology = perceive(atoms)
        large = [members for members in topology.members if len(members) > 2]
        chosen = [members for members in large if rng.random() < SHARE] or large[:1]
        if sum(bend(atoms, members, topology, rng) for members in chosen):
            atoms.info |= {"weight": WEIGHT, "distorted": True}
            found.append(atoms)
    return found


def bend(
    atoms: Atoms, members: np.ndarray, topology: Connectivity, rng: np.random.Generator
) -> bool:
    """Turn what hangs on one bond of a molecule about the atom at the vertex, in place."""
    neighbors = topology.neighbors
    vertices = [j for j in members if len(neighbors[j]) > 1]
    for _ in range(TRIES):
        j = int(rng.choice(vertices))
        i, k = (int(a) for a in rng.choice(neighbors[j], 2, replace=False))
        moved = topology.beyond(j, i)
        if k in moved:  # a ring
            continue
        vectors = displacements(atoms, atoms.positions - atoms.positions[j])
        axis = np.cross(vectors[i], vectors[k])
        norms = np.linalg.norm(vectors[i]) * np.linalg.norm(vectors[k])
        if np.linalg.norm(axis) < 0.05 * norms:
            continue
        angle = np.degrees(np.arccos(np.clip(vectors[i] @ vectors[k] / norms, -1.0, 1.0)))
        wanted = rng.uniform(*(CLOSED if rng.random() < CLOSE else OPENED))
        turn = Rotation.from_rotvec(np.radians(angle - wanted) * axis / np.linalg.norm(axis))
        place = atoms.positions[moved] + turn.apply(vectors[moved]) - vectors[moved]
        if room(atoms, moved, place):
            atoms.positions[moved] = place
            return True
    return False


def room(atoms: Atoms, moved: Sequence[int], place: np.ndarray) -> bool:
    """Whether moved atoms at new places stay off all others."""
    others = np.setdiff1d(np.arange(len(atoms)), moved)
    radii = covalent_radii[atoms.numbers]
    vectors = (place[:, None] - atoms.positions[others]).reshape(-1, 3)
    distance = np.linalg.norm(displacements(atoms, vectors), axis=1).reshape(len(moved), -1)
    least = np.maximum(NEAREST * (radii[moved, None] + radii[others]), NEAREST)
    return bool((distance > least).all())


def displacements(atoms: Atoms, vectors: np.ndarray) -> np.ndarray:
    """Vectors [n, 3] to the nearest images."""
    return find_mic(vectors, atoms.cell, atoms.pbc)[0] if atoms.pbc.any() else vectors
