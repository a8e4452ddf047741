"""Shared by numba kernels that loop over rows of pairs (`hff_ase.pairs.Rows`)."""

from __future__ import annotations

from functools import partial
from typing import Any

from hff_ase.kernels.jit import jit


@partial(jit, inline="always")
def displacement(
    positions: Any, cell: Any, shift: Any, slot: int, i: int, k: int
) -> tuple[float, float, float]:
    """The vector from atom i to the image of atom k that a slot of its row stands for, Angstrom.

    ``positions`` [n_atoms, 3] and ``cell`` [3, 3] (rows) in Angstrom, ``shift`` [n_slots, 3] in
    cell vectors.
    """
    a, b, c = shift[slot, 0], shift[slot, 1], shift[slot, 2]
    x = positions[k, 0] - positions[i, 0] + a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
    y = positions[k, 1] - positions[i, 1] + a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
    z = positions[k, 2] - positions[i, 2] + a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
    return x, y, z
