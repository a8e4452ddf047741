"""Parameters of a molecule taken over from the most similar atoms of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from hff_ase.errors import ConfigError
from hff_ase.molecular.templates import Template

__all__ = ["like_others"]

SHELLS = (8.0, 4.0, 2.0, 1.0)  # weights of atoms 0, 1, 2, 3 bonds away
ROWS = {"bond_terms": 2, "angle_terms": 3, "proper_terms": 4, "improper_terms": 4}
Shells = tuple[Counter[tuple[int, int]], ...]
Known = list[tuple[Shells, Any]]


def shells(template: Template) -> list[Shells]:
    """What is around each atom: elements and numbers of bonds of atoms 0, 1, 2, 3 bonds away."""
    bonds = (template.apart == 1).sum(1)
    kinds = list(zip(template.numbers, bonds.tolist(), strict=True))
    return [
        tuple(
            Counter(kinds[k] for k in np.flatnonzero(row == distance))
            for distance in range(len(SHELLS))
        )
        for row in template.apart
    ]


def unlike(one: Shells, other: Shells) -> float:
    """How different two atoms' surroundings are; 0 for the same, infinite for other elements."""
    (first,), (second,) = one[0], other[0]
    if first[0] != second[0]:
        return float("inf")
    return sum(
        weight * float(((a - b) + (b - a)).total())
        for weight, a, b in zip(SHELLS, one, other, strict=True)
    )


def like_others(
    template: Template, charge: int, others: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A molecule's configuration from those of others.

    Each atom gets the mean of the parameters of the atoms of its element with the most similar
    surroundings; charges are then shifted evenly to the whole charge. Bonds, angles, torsions and
    impropers get those of the most similar atoms in the same order, torsions and impropers of
    elements that occur nowhere none.

    Args:
        template: the molecule.
        charge: of the molecule, e.
        others: with name, numbers, bonds, parameters [n_atoms] and rows ``bond_terms`` and so on.

    Raises:
        ConfigError: an element, or a bond or angle, that no other molecule has.
    """
    entry: dict[str, Any] = dict(template.config())
    around = [(Template.of(other), other) for other in others]
    own, known = shells(template), [(shells(t), other) for t, other in around]
    names = {key for other in others for key in other} - {"name", "numbers", "bonds"} - set(ROWS)
    for name in sorted(names):
        entry[name] = [
            _of_atom(template, k, own[k], [(s, other[name]) for s, other in known])
            for k in range(len(own))
        ]
    if "charge" in entry:
        excess = (sum(entry["charge"]) - charge) / len(own)
        entry["charge"] = [value - excess for value in entry["charge"]]
    for name, width in ROWS.items():
        if any(name in other for other in others):
            rows = [
                ([s[int(k)] for k in row[:width]], row[width:])
                for s, other in known
                for row in other.get(name, [])
            ]
            entry[name] = _rows(template, name, own, rows)
    return entry


def _of_atom(
    template: Template, atom: int, own: Shells, known: Sequence[tuple[list[Shells], Any]]
) -> Any:
    found = [(unlike(own, around), values[k]) for s, values in known for k, around in enumerate(s)]
    best = min(distance for distance, _ in found)
    if best == float("inf"):
        raise ConfigError(
            f"expected a prior model with atoms like atom {atom} of {template.name!r} "
            f"(atomic number {template.numbers[atom]}), got none"
        )
    return np.mean([value for distance, value in found if distance == best], axis=0).tolist()


def _rows(
    template: Template, name: str, own: list[Shells], known: list[tuple[list[Shells], list[float]]]
) -> list[list[Any]]:
    found = []
    for atoms in _paths(template, name):
        around = [own[k] for k in atoms]
        orders = _orders(name, len(atoms))
        scored = [
            (min(sum(unlike(around[k], their[o]) for k, o in enumerate(order))
                 for order in orders), values)
            for their, values in known
        ]  # fmt: skip
        best = min((distance for distance, _ in scored), default=float("inf"))
        if best == float("inf"):
            if name in ("proper_terms", "improper_terms"):
                continue
            raise ConfigError(
                f"expected a prior model with {name} like that of atoms {list(atoms)} of "
                f"{template.name!r}, got none"
            )
        mean = np.mean([values for distance, values in scored if distance == best], axis=0)
        found.append([*atoms, *mean.tolist()])
    return found


def _orders(name: str, width: int) -> list[tuple[int, ...]]:
    """Ways to lay a row's atoms over another's: from either end, or about a centre."""
    if name == "improper_terms":
        return [(0, *rest) for rest in permutations(range(1, width))]
    forward = tuple(range(width))
    return [forward, forward[::-1]]


def _paths(template: Template, name: str) -> list[tuple[int, ...]]:
    """Atoms of all bonds, angles or torsions, or of centres with three neighbours."""
    near = [np.flatnonzero(row == 1).tolist() for row in template.apart]
    n = len(near)
    if name == "improper_terms":
        return [(k, *near[k]) for k in range(n) if len(near[k]) == 3]
    paths: list[tuple[int, ...]] = [(k,) for k in range(n)]
    for _ in range(ROWS[name] - 1):
        paths = [(*path, k) for path in paths for k in near[path[-1]] if k not in path]
    return [path for path in paths if path[0] < path[-1]]
