"""What a bond network reads: elements, lengths, angles and torsions around bonds.

The descriptors are those of sGNN (J. Phys. Chem. Lett. 12, 7982 (2021)) with more elements and
valences, as in PhyNEO: one-hot elements of both ends and of their neighbours, bond lengths less
covalent radii, cosines of angles less those of ideal ones, cosines of torsions.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.molecular.assignment import nearest_vectors
from hff_ase.molecular.bond_trees import NOBODY
from hff_ase.molecular.octahedra import LIGANDS, opposite
from hff_ase.molecular.templates import Template

N_ELEMENTS = 20  # H to Ca
RADII = {1: 0.31, 5: 0.84, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57, 15: 1.10, 16: 1.05}  # Angstrom
PER_LENGTH = 10.0  # 1/Angstrom
PER_COSINE = 5.0
SHORTEST = 1e-9  # A^2: three atoms in a line have no torsion


def n_elements(valence: int) -> int:
    """Of the features that say elements."""
    return 2 * valence * N_ELEMENTS


def n_geometric(valence: int) -> int:
    """Of those that change with the geometry: lengths, angles at either end, torsions."""
    return 2 * valence - 1 + valence * (valence - 1) + (valence - 1) ** 2


class Reference(NamedTuple):
    """Of bonds listed as `BondOrders.atoms` lists them: ``elements`` [..., n_elements], lengths and
    cosines [..., 2 valence - 1 + valence (valence - 1)] that geometric features are less by."""

    elements: np.ndarray
    values: np.ndarray


def reference(template: Template, atoms: np.ndarray) -> Reference:
    """What does not change with the geometry.

    Raises:
        ConfigError: an element without a radius.
    """
    unknown = {z for z in template.numbers if z not in RADII}
    if unknown:
        raise ConfigError(
            f"expected elements with radii ({sorted(RADII)}) in {template.name!r}, got "
            f"{sorted(unknown)}"
        )
    numbers = np.array([*template.numbers, 0])[atoms]  # 0 for nobody, which is the last
    elements = (numbers[..., None] == np.arange(1, N_ELEMENTS + 1)).astype(np.float64)
    lengths, cosines = [], []
    radius = np.array([*(RADII[z] for z in template.numbers), 0.0])[atoms]
    for k, m in _lengths(atoms.shape[-1] // 2):
        lengths.append(radius[..., k] + radius[..., m])
    ideal = _ideal_cosines(template)
    for a, apex, b in _angles(atoms.shape[-1] // 2):
        cosines.append(ideal[atoms[..., apex], atoms[..., a], atoms[..., b]])
    return Reference(elements.reshape(*atoms.shape[:-1], -1), np.stack([*lengths, *cosines], -1))


def geometry(batch: AtomsBatch, atoms: Tensor, less: Tensor) -> Tensor:
    """The features that change, [n, n_geometric].

    Args:
        atoms: of the batch, [n, 2 valence], `NOBODY` where there is none.
        less: `Reference.values`, [n, ...].
    """
    valence = atoms.shape[1] // 2
    present = atoms != NOBODY
    places = atoms.clamp(min=0)
    first, second = zip(*_lengths(valence), strict=True)
    i, j = places[:, first], places[:, second]
    flat = nearest_vectors(batch, i.flatten(), j.flatten())
    vectors = flat.view(*i.shape, 3)  # pq, p to its neighbours, q to its
    counts = present[:, first] & present[:, second]
    one = torch.tensor([1.0, 0.0, 0.0], dtype=flat.dtype, device=flat.device)
    vectors = torch.where(counts[..., None], vectors, one)
    lengths = torch.linalg.vector_norm(vectors, dim=2)
    pq, at_p, at_q = vectors[:, :1], vectors[:, 1:valence], vectors[:, valence:]
    cosines, both = [], []
    for around in (torch.cat([pq, at_p], 1), torch.cat([-pq, at_q], 1)):
        unit = around / torch.linalg.vector_norm(around, dim=2, keepdim=True)
        a, b = zip(*itertools.combinations(range(valence), 2), strict=True)
        cosines.append((unit[:, a] * unit[:, b]).sum(2))
    for k, _, m_ in _angles(valence):
        both.append(present[:, k] & present[:, m_])
    n = torch.linalg.cross(pq, at_p)  # (r_q - r_p) x (r_a - r_p)
    m = torch.linalg.cross(at_q, -pq)  # (r_b - r_q) x (r_p - r_q)
    norm = (n.square().sum(2)[:, :, None] * m.square().sum(2)[:, None]).clamp(min=SHORTEST**2)
    torsions = (n @ m.mT) / norm.sqrt()
    ends = present[:, 2 : 1 + valence, None] & present[:, None, 1 + valence :]
    n_lengths = lengths.shape[1]
    changes = [
        (lengths - less[:, :n_lengths]) * PER_LENGTH * counts,
        (torch.cat(cosines, 1) - less[:, n_lengths:]) * PER_COSINE * torch.stack(both, 1),
        (torsions * ends).flatten(1),
    ]
    return torch.cat(changes, 1)


def _lengths(valence: int) -> list[tuple[int, int]]:
    """Columns of the two atoms of each length: p q, p and its neighbours, q and its."""
    at_p, at_q = range(2, 1 + valence), range(1 + valence, 2 * valence)
    return [(0, 1), *((0, k) for k in at_p), *((1, k) for k in at_q)]


def _angles(valence: int) -> list[tuple[int, int, int]]:
    """Columns of the atoms of each angle, the apex in the middle: all at p, all at q."""
    at_p, at_q = range(2, 1 + valence), range(1 + valence, 2 * valence)
    found = [(a, 0, b) for a, b in itertools.combinations((1, *at_p), 2)]
    return found + [(a, 1, b) for a, b in itertools.combinations((0, *at_q), 2)]


def _ideal_cosines(template: Template) -> np.ndarray:
    """By apex and two neighbours [n + 1, n + 1, n + 1], the last row for nobody."""
    n = len(template.numbers)
    found = np.zeros((n + 1, n + 1, n + 1))
    for apex, z in enumerate(template.numbers):
        around = np.flatnonzero(template.apart[apex] == 1).tolist()
        found[apex] = np.cos(np.radians(_ideal_angle(z, len(around))))
        if len(around) == LIGANDS:
            for a, b in itertools.permutations(around, 2):
                found[apex, a, b] = -1.0 if opposite(around, a, b) else 0.0
    return found


def _ideal_angle(z: int, valence: int) -> float:
    """Degrees, of an element with so many bonds."""
    if z == 16:
        return 104.45
    if valence == 2:
        return {8: 104.45, 7: 120.0}.get(z, 180.0)
    if valence == 3:
        return 107.0 if z == 7 else 120.0
    return 109.45
