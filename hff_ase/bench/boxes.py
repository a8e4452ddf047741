"""The systems that are measured: boxes of any size, and batches of copies."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from hff_ase.dynamics.build import build_box
from hff_ase.errors import ConfigError

PACKED = 5000  # atoms; packing more takes minutes, repeating a packed box does not
RATTLE = 0.03  # Angstrom, about the thermal motion of a bonded atom


def large_box(recipe: str, n_atoms: int, seed: int = 0, packed: int = PACKED) -> Atoms:
    """A box of about ``n_atoms`` atoms: one of at most ``packed`` atoms, repeated for more.

    Repeats are rattled, so that they are not a crystal of copies for a neighbour search or a cache.

    Raises:
        ConfigError: no positive number of atoms.
        RecipeError: the recipe cannot be read or packed.
    """
    if n_atoms < 1:
        raise ConfigError(f"expected at least 1 atom, got {n_atoms}")
    if n_atoms <= packed:
        return build_box(recipe, n_atoms, seed=seed)
    repeats = factors(n_atoms, packed)
    cells = int(np.prod(repeats))
    cell = build_box(recipe, round(n_atoms / cells), seed=seed)
    charge = cell.info.get("charge", 0.0) * cells
    box = cell.repeat(repeats)
    box.info = {"charge": charge}
    return rattled(box, seed)


def factors(n_atoms: int, packed: int = PACKED) -> tuple[int, int, int]:
    """Repeats along each axis, as equal as possible, of a box of at most ``packed`` atoms."""
    repeats = [1, 1, 1]
    while n_atoms / np.prod(repeats) > packed:
        repeats[int(np.argmin(repeats))] += 1
    return repeats[0], repeats[1], repeats[2]


def rattled(atoms: Atoms, seed: int) -> Atoms:
    """A copy with a small random displacement of every atom."""
    moved = atoms.copy()
    moved.positions += np.random.default_rng(seed).normal(0.0, RATTLE, moved.positions.shape)
    return moved


def copies(atoms: Atoms, n_systems: int) -> list[Atoms]:
    """``n_systems`` copies for one batch, all but the first rattled differently."""
    return [atoms, *(rattled(atoms, seed) for seed in range(1, n_systems))]
