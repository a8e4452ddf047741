"""Octahedral centres (PF6): which ligands lie opposite each other, which no graph can tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from hff_ase.molecular.templates import Template

LIGANDS = 6


def in_opposite_pairs(
    template: Template, atoms: Atoms, members: np.ndarray, places: list[int]
) -> list[int]:
    """Places of a molecule's atoms, chosen so that the first and fourth ligand of an octahedral
    centre, the second and fifth, and the third and sixth lie opposite each other.

    That is the order in which templates list them. Ligands are single atoms of one element.

    Args:
        template: of the molecule.
        atoms: of its system.
        members: indices of its atoms there.
        places: of these in the template, by graph.
    """
    degree = np.bincount(np.array(template.bonds, dtype=np.int64).reshape(-1), minlength=1)
    chosen = list(places)
    for centre in np.flatnonzero(degree == LIGANDS).tolist():
        ligands = [b if a == centre else a for a, b in template.bonds if centre in (a, b)]
        if len({template.numbers[k] for k in ligands}) > 1 or any(degree[k] > 1 for k in ligands):
            continue
        local = {place: index for index, place in enumerate(places)}
        present = [local[place] for place in ligands]
        others = members[present]
        vectors = atoms.get_distances(int(members[local[centre]]), others, mic=True, vector=True)
        unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
        for index, place in zip(_paired(unit @ unit.T), _by_halves(ligands), strict=True):
            chosen[present[index]] = place
    return chosen


def opposite(ligands: Sequence[int], first: int, second: int) -> bool:
    """Whether two ligands of an octahedral centre are opposite, as a template lists them."""
    if len(ligands) != LIGANDS or first not in ligands or second not in ligands:
        return False
    half = LIGANDS // 2
    return first != second and ligands.index(first) % half == ligands.index(second) % half


def _paired(cosines: np.ndarray) -> list[int]:
    """Ligands in pairs, the one that is most opposite behind each."""
    left, order = list(range(len(cosines))), list[int]()
    while left:
        first = left.pop(0)
        other = min(left, key=lambda k: cosines[first, k])
        left.remove(other)
        order += [first, other]
    return order


def _by_halves(ligands: list[int]) -> list[int]:
    """First and fourth, second and fifth, third and sixth."""
    half = len(ligands) // 2
    return [place for k in range(half) for place in (ligands[k], ligands[k + half])]
