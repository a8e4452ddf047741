"""What LAMMPS has: its units, its box, its atoms, and the elements of its types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import units
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from hff_ase.dynamics.lammps.domain import Frame
from hff_ase.errors import ConfigError, StructureError

# eV in LAMMPS' unit of energy; both have Angstrom and e
ENERGY = {"metal": 1.0, "real": units.mol / units.kcal}
SAME_MASS = 0.05  # amu, within which a mass says which element a type is


def energy_unit(lmp: Any) -> float:
    """An eV in the units of a LAMMPS.

    Raises:
        ConfigError: units without Angstrom.
    """
    name = lmp.extract_global("units")
    if name not in ENERGY:
        raise ConfigError(f"expected LAMMPS units {' or '.join(ENERGY)}, got {name}")
    return ENERGY[name]


def check_box(lmp: Any, n_processes: int) -> None:
    """Refuse boxes for which the long-range sum would be wrong.

    Raises:
        ConfigError: no box, one that is not periodic along all axes, fewer atoms than processes, or
            an integrator that does not ask a fix for forces.
    """
    if lmp.extract_global("respa_levels"):
        raise ConfigError("expected LAMMPS' run_style verlet, got respa: it asks no fix for forces")
    if not lmp.extract_setting("box_exist"):
        raise ConfigError("expected a LAMMPS box with atoms before the force field, got no box")
    check_periodic(lmp)
    n_atoms = int(lmp.get_natoms())
    if n_atoms < n_processes:
        raise ConfigError(
            f"expected at least as many atoms as MPI ranks, got {n_atoms} on {n_processes}"
        )


def check_periodic(lmp: Any) -> None:
    """Refuse a box that is not periodic in all directions.

    Raises:
        ConfigError: it does.
    """
    periodic = lmp.extract_global("periodicity")
    if not all(periodic):
        axes = " ".join(name for name, along in zip("xyz", periodic, strict=True) if not along)
        raise ConfigError(
            f"expected a box that is periodic along x, y and z, got an end along {axes}"
        )


def check_exchange(lmp: Any, tag: np.ndarray) -> None:
    """Refuse settings under which copies of atoms may be missing, and what has no names.

    Args:
        tag: IDs of own atoms.

    Raises:
        ConfigError: both.
    """
    check_periodic(lmp)
    every, delay = lmp.extract_setting("neigh_every"), lmp.extract_setting("neigh_delay")
    if (every, delay) != (1, 0):
        raise ConfigError(
            f"expected neigh_modify delay 0 every 1 as the force field set it, got delay {delay} "
            f"every {every}"
        )
    if lmp.extract_setting("comm_mode"):
        raise ConfigError("expected comm_modify mode single, got multi")
    if len(tag) and tag.min() < 1:
        raise ConfigError("expected atoms with IDs, got some without")


def check_copies(lmp: Any, world: Any, frame: Frame, reach: float) -> None:
    """Refuse too few copies of atoms, as after another ``comm_modify cutoff``, which LAMMPS does
    not tell.

    Called by all processes of a step in which LAMMPS has exchanged atoms: it then has a copy of
    whatever lies in a process's part of the box extended by its cutoff, images included.

    Args:
        world: an mpi4py communicator.
        reach: Angstrom, of copies that must be there.

    Raises:
        ConfigError: too few.
    """
    parts = np.array(world.allgather(_part_of(lmp)))
    needed = images_within(frame.x[: frame.n_own], frame.cell, parts, reach)
    needed[world.rank] -= frame.n_own
    expected, found = sum(world.alltoall(needed.tolist())), len(frame.x) - frame.n_own
    if found < expected:
        raise ConfigError(
            f"expected copies of all atoms within {reach:g} Angstrom of a rank's part of the box, "
            f"{expected}, got {found}: leave comm_modify as the force field set it"
        )


def images_within(x: np.ndarray, cell: np.ndarray, parts: np.ndarray, reach: float) -> np.ndarray:
    """How many images of atoms lie in parts of a box whose faces are moved outwards, int64 [P].

    Args:
        x: [n, 3], Angstrom from the box's origin; cell: [3, 3], rows.
        parts: [P, 2, 3], where they begin and end, in units of the box.
        reach: Angstrom, of the faces.
    """
    inverse = np.linalg.inv(cell)
    beyond = reach * np.linalg.norm(inverse, axis=0)
    inside, low, high = (x @ inverse)[:, None], parts[:, 0] - beyond, parts[:, 1] + beyond
    along = np.floor(high - inside) - np.ceil(low - inside) + 1.0  # [n, P, 3]
    return along.prod(2).sum(0).astype(np.int64)


def _part_of(lmp: Any) -> np.ndarray:
    """Where this process's part of the box begins and ends, [2, 3], in units of the box."""
    if lmp.extract_setting("triclinic"):
        return np.array([lmp.extract_global(f"sub{end}_lambda") for end in ("lo", "hi")])
    low, cell = box_of(lmp)
    part = np.array([lmp.extract_global(f"sub{end}") for end in ("lo", "hi")])
    return (part - low) / np.diag(cell)


def about_narrow_domains(lmp: Any, world: Any, reach: float) -> str | None:
    """What to say where ghosts come from farther than the next process; None where they do not.

    Right all the same, since LAMMPS passes copies on; called by all processes.

    Args:
        world: an mpi4py communicator.
        reach: Angstrom, of ghosts.
    """
    low, high = _part_of(lmp)
    part = (high - low) / np.linalg.norm(np.linalg.inv(box_of(lmp)[1]), axis=0)  # between faces
    smallest = np.min(world.allgather(part.tolist()), axis=0)
    grid = lmp.extract_global("procgrid")
    narrow = [
        f"{width:.3g} along {axis}"
        for width, n, axis in zip(smallest, grid, "xyz", strict=True)
        if n > 1 and width < reach
    ]
    if not narrow:
        return None
    return (
        f"WARNING: ghosts reach {reach:.3g} Angstrom, farther than the narrowest part of a rank "
        f"({', '.join(narrow)}): right, but fewer ranks may be quicker"
    )


def box_of(lmp: Any) -> tuple[np.ndarray, np.ndarray]:
    """The box's origin [3] and its cell [3, 3], rows, Angstrom."""
    low, high, xy, yz, xz, *_ = lmp.extract_box()
    x, y, z = np.subtract(high, low)
    return np.array(low), np.array([[x, 0.0, 0.0], [xy, y, 0.0], [xz, yz, z]])


def frame_of(lmp: Any) -> Frame:
    """Own atoms and copies of this process, as they are now."""
    low, cell = box_of(lmp)
    n_own, n_all = lmp.extract_setting("nlocal"), lmp.extract_setting("nall")
    x, tag, kind = (atoms_of(lmp, name, n_all) for name in ("x", "id", "type"))
    return Frame(x.reshape(-1, 3) - low, tag.astype(np.int64), kind.astype(np.int64), n_own, cell)


def atoms_of(lmp: Any, name: str, n: int) -> np.ndarray:
    """A view of the first n rows of an array of atoms, [n] or [n, 3]."""
    if not n:
        return np.empty(0)
    return np.asarray(lmp.numpy.extract_atom(name, nelem=n))[:n]


def numbers_of_types(lmp: Any, types: Sequence[str] | None, known: Sequence[str]) -> np.ndarray:
    """Atomic number of each type, int64 [n_types + 1] (types count from 1).

    Args:
        types: chemical symbols in the order of the types; None reads them off the masses.
        known: what the model knows.

    Raises:
        ConfigError: symbols that are none, too few or too many of them, or a mass that tells no
            element.
        StructureError: an element that the model does not know.
    """
    n_types = lmp.extract_setting("ntypes")
    if types is None:
        types = [_element_of(lmp, kind, known) for kind in range(1, n_types + 1)]
    if len(types) != n_types:
        raise ConfigError(
            f"expected an element for each of {n_types} atom types, got {len(types)}: "
            f"{' '.join(types)}"
        )
    for kind, symbol in enumerate(types, 1):
        if symbol not in atomic_numbers or symbol == "X":
            raise ConfigError(f"expected a chemical symbol for type {kind}, got {symbol!r}")
        if symbol not in known:
            raise StructureError(
                f"model knows {' '.join(known)}; LAMMPS has {symbol} (atom type {kind})"
            )
    numbers = [atomic_numbers[symbol] for symbol in types]
    return np.array([numbers[-1], *numbers], np.int64)  # no atom is of type 0


def _element_of(lmp: Any, kind: int, known: Sequence[str]) -> str:
    masses = lmp.numpy.extract_atom("mass")
    if masses is None:
        raise ConfigError("expected elements of the atom types (types=), got none and no masses")
    mass = float(np.asarray(masses).ravel()[kind])
    fits = [
        s for s in chemical_symbols[1:] if abs(atomic_masses[atomic_numbers[s]] - mass) < SAME_MASS
    ]
    if len(fits) != 1:
        raise ConfigError(
            f"expected a mass of {' '.join(known)} for atom type {kind}, got {mass:g}: name the "
            "elements of all types"
        )
    return fits[0]
