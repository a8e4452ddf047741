"""Checks that what cannot matter does not: place, orientation, order, images of atoms."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from ase import Atoms

from hff_ase.fields import TENSORS, VECTORS
from hff_ase.potential import HybridPotential
from hff_ase.testing.compare import (
    Arrays,
    assert_close,
    evaluate,
    label,
    precision,
    samples_for,
)
from hff_ase.testing.structures import random_rotation

PER_ATOM = ("field", "forces", "atomic energies")


def _compare(
    potential: HybridPotential,
    structures: list[Atoms],
    changed: list[Atoms],
    back: Callable[[int, str, np.ndarray], np.ndarray],
    what: str,
    tolerance: float | None,
) -> None:
    """Results of changed structures, mapped back, against those of the originals."""
    tolerance = precision(potential) if tolerance is None else tolerance
    before: list[Arrays] = evaluate(potential, structures)
    after = evaluate(potential, changed)
    for k, atoms in enumerate(structures):
        for name, expected in before[k].items():
            got = back(k, name, after[k][name])
            assert_close(f"{name} of {label(atoms)} {what}", got, expected, tolerance)


def check_translation(
    potential: HybridPotential,
    structures: Iterable[Atoms] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> None:
    """Moving a whole system changes nothing.

    A mesh (PME) keeps this only to its own accuracy: give that as the tolerance.
    """
    rng = np.random.default_rng(seed)
    structures = samples_for(potential, structures)
    changed = [atoms.copy() for atoms in structures]
    for atoms in changed:
        atoms.positions += rng.normal(scale=5.0, size=3)
    _compare(potential, structures, changed, lambda k, n, x: x, "after a translation", tolerance)


def check_lattice_shift(
    potential: HybridPotential,
    structures: Iterable[Atoms] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> None:
    """Moving single atoms by lattice vectors changes nothing.

    Trajectories are unwrapped (transport properties need that) or wrapped: both are the same
    configuration.
    """
    rng = np.random.default_rng(seed)
    structures = [atoms for atoms in samples_for(potential, structures) if atoms.pbc.any()]
    changed = [atoms.copy() for atoms in structures]
    for atoms in changed:
        atoms.positions += rng.integers(-3, 4, (len(atoms), 3)) @ np.asarray(atoms.cell)
    if structures:
        _compare(
            potential, structures, changed, lambda k, n, x: x, "after lattice shifts", tolerance
        )


def check_rotation(
    potential: HybridPotential,
    structures: Iterable[Atoms] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> None:
    """Under rotations and reflections energies stay, forces and stress turn along.

    Per-atom fields with one number per atom (charges) stay, so a dipole turns along as well.
    """
    rng = np.random.default_rng(seed)
    structures = samples_for(potential, structures)
    for improper in (False, True):
        rotations = [random_rotation(rng, improper) for _ in structures]
        changed = [
            rotated(atoms, rotation) for atoms, rotation in zip(structures, rotations, strict=True)
        ]

        def back(
            k: int, name: str, x: np.ndarray, turned: list[np.ndarray] = rotations
        ) -> np.ndarray:
            if name == "forces" or name in {f"field {field!r}" for field in VECTORS}:
                return x @ turned[k]
            tensor = name == "stress" or name in {f"field {field!r}" for field in TENSORS}
            return turned[k].T @ x @ turned[k] if tensor else x

        what = "after a reflection and rotation" if improper else "after a rotation"
        _compare(potential, structures, changed, back, what, tolerance)


def rotated(atoms: Atoms, rotation: np.ndarray) -> Atoms:
    """A structure and its lattice under a matrix of O(3), the cell kept right-handed."""
    atoms = atoms.copy()
    cell = np.asarray(atoms.cell) @ rotation.T
    # A mirrored cell is left-handed; the same lattice with two vectors exchanged is not.
    cell = cell[[1, 0, 2]] if np.linalg.det(rotation) < 0 else cell
    atoms.set_cell(cell)
    atoms.positions = atoms.positions @ rotation.T
    return atoms


def check_permutation(
    potential: HybridPotential,
    structures: Iterable[Atoms] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> None:
    """The order of the atoms does not matter."""
    rng = np.random.default_rng(seed)
    structures = samples_for(potential, structures)
    orders = [rng.permutation(len(atoms)) for atoms in structures]
    changed = [atoms[order] for atoms, order in zip(structures, orders, strict=True)]

    def back(k: int, name: str, x: np.ndarray) -> np.ndarray:
        return x[np.argsort(orders[k])] if name.startswith(PER_ATOM) else x

    _compare(potential, structures, changed, back, "in another order", tolerance)
