"""The arrays of a batch, each declared once, and operations on all of them.

An array has a row per atom, per system, per bond or per molecule of a batch; one of integers may
refer to the rows of another scope (bonds name atoms, ``system`` names systems). From these
declarations follows how any array is picked from, put together or rearranged, so that nothing that
handles batches lists their arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hff_ase.errors import ConfigError

__all__ = ["Declaration", "declare"]

Scope = Literal["atom", "system", "bond", "molecule"]


@dataclass(frozen=True)
class Declaration:
    """What an array of a batch is.

    Attributes:
        scope: what it has a row for.
        dtype: its type.
        shape: of a row.
        refers: for integers that are row numbers, of what; None for plain values.
        meaning: one line, with the unit.
    """

    scope: Scope
    dtype: torch.dtype
    shape: tuple[int, ...] = ()
    refers: Scope | None = None
    meaning: str = ""


FLOAT, INT = torch.float64, torch.int64
ARRAYS: dict[str, Declaration] = {
    "positions": Declaration("atom", FLOAT, (3,), None, "Angstrom"),
    "numbers": Declaration("atom", INT, (), None, "atomic numbers"),
    "system": Declaration("atom", INT, (), "system", "system of each atom, ascending"),
    "cell": Declaration("system", FLOAT, (3, 3), None, "lattice vectors as rows, Angstrom"),
    "periodic": Declaration("system", torch.bool, (), None, "in three directions or in none"),
    "charge": Declaration("system", FLOAT, (), None, "total charge, e"),
    "molecule": Declaration("atom", INT, (), "molecule", "molecule of each atom"),
    "bonds": Declaration("bond", INT, (2,), "atom", "the two atoms of each bond"),
    "types": Declaration("atom", INT, (), None, "atom types of a molecular force field"),
    "masses": Declaration("atom", FLOAT, (), None, "amu, where they are not the standard ones"),
}
ALWAYS = ("positions", "numbers", "system", "cell", "periodic", "charge")  # in every batch


def declare(name: str, declaration: Declaration) -> None:
    """Declare a further array, so that batches can carry it (`AtomsBatch.further`).

    Args:
        name: under which batches hold it.
        declaration: what it has rows for and what its values mean.

    Raises:
        ConfigError: the name stands for another array already.
    """
    if ARRAYS.get(name, declaration) != declaration:
        raise ConfigError(f"expected a new name for an array, got {name!r}: {ARRAYS[name]}")
    ARRAYS[name] = declaration


def check_declared(name: str) -> Declaration:
    """The declaration of an array.

    Raises:
        ConfigError: no array of this name is declared.
    """
    if name not in ARRAYS:
        raise ConfigError(f"expected one of the arrays {sorted(ARRAYS)}, got {name!r}")
    return ARRAYS[name]


def pick(
    arrays: Mapping[str, Tensor],
    rows: Mapping[Scope, Tensor],
    renumbered: Mapping[Scope, Tensor],
) -> dict[str, Tensor]:
    """Some rows of every array, in any order.

    Args:
        arrays: by name.
        rows: int64 per scope, which rows to take; scopes that are not named stay whole.
        renumbered: int64 per scope [rows before], the new number of each old row that is kept.
    """
    out = {}
    for name, array in arrays.items():
        what = ARRAYS[name]
        if what.scope in rows:
            array = array.index_select(0, rows[what.scope])
        if what.refers is not None and what.refers in renumbered:
            array = renumbered[what.refers][array]
        out[name] = array
    return out


def join(
    parts: Sequence[Mapping[str, Tensor]], sizes: Sequence[Mapping[Scope, int]]
) -> dict[str, Tensor]:
    """The arrays that all parts have, one part after the other.

    Args:
        parts: arrays by name, of each part.
        sizes: rows per scope, of each part.
    """
    names = [name for name in parts[0] if all(name in part for part in parts)]
    out = {}
    for name in names:
        refers, arrays, before = ARRAYS[name].refers, [], 0
        for part, size in zip(parts, sizes, strict=True):
            arrays.append(part[name] + before if refers is not None and before else part[name])
            before += 0 if refers is None else size[refers]
        out[name] = torch.cat(arrays)
    return out


def inverse(rows: Tensor, n: int) -> Tensor:
    """Where each of ``n`` old rows went, int64 [n]; -1 for those that were not taken."""
    place = rows.new_full((n,), -1)
    place[rows] = torch.arange(rows.shape[0], device=rows.device)
    return place
