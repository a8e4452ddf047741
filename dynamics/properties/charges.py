"""Atomic charges of frames: those that a model predicted, or the fixed ones of a topology."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import numpy as np
from ase.io import iread
from numpy.typing import NDArray

from hff_ase.dynamics.observables.reading import ASE_SUFFIXES
from hff_ase.dynamics.observables.thermodynamic import box_dipole
from hff_ase.dynamics.observables.universe import atomic_charges
from hff_ase.dynamics.properties.frames import Frames
from hff_ase.dynamics.properties.material import Material
from hff_ase.dynamics.properties.state import VOLUME, Stretch
from hff_ase.errors import ConfigError

Array = NDArray[np.float64]


def charges_of_frames(stretch: Stretch) -> Iterator[tuple[float, Array]]:
    """Time in ps and atomic charges [n_atoms] of every frame that ASE reads.

    Raises:
        ConfigError: frames without charges.
    """
    if stretch.trajectory is None:
        raise ConfigError("expected frames, got a run without a trajectory")
    frames = islice(iread(stretch.trajectory, index=":"), stretch.frames)
    for index, atoms in enumerate(frames):
        if atoms.calc is not None and "charges" in atoms.calc.results:
            charges = np.asarray(atoms.calc.results["charges"], dtype=float)
        elif atoms.has("initial_charges"):
            charges = atoms.get_initial_charges()
        else:
            raise ConfigError(
                f"expected charges in the frames of {stretch.trajectory.name}, got none in frame "
                f"{index}: a model that predicts them writes them"
            )
        if stretch.interval is not None:
            time = index * stretch.interval
        else:
            time = float(atoms.info.get("time_ps", index))
        yield time, charges


def box_dipoles(material: Material) -> tuple[list[Array], float]:
    """Dipole of the box [n_frames, 3], e Angstrom, of each replica; time between frames, ps.

    Every molecule carries its formal charge (`box_dipole`).

    Raises:
        ConfigError: no charges.
    """
    topology, found, interval = material.topology, [], 1.0
    formal = topology.formal_charges()
    for frames, charges_at in charged_frames(material, VOLUME):
        dipoles, times = [], []
        for part in frames:
            charges = charges_at(part.times)
            dipoles.append(box_dipole(part.positions, charges, topology.molecule, formal))
            times.append(part.times)
        interval = float(np.median(np.diff(np.concatenate(times))))
        found.append(np.concatenate(dipoles))
    return found, interval


def charged_frames(
    material: Material, held: str
) -> Iterator[tuple[Frames, Callable[[Array], Array]]]:
    """Frames of each replica, and what gives the charges at times that rise.

    The charges are [n_times, n_atoms], or [n_atoms] where they are fixed, e.

    Raises:
        ConfigError: no charges.
    """
    for frames, stretch in zip(material.frames(held), material.stretches(held), strict=True):
        if stretch.trajectory is not None and stretch.trajectory.suffix not in ASE_SUFFIXES:
            fixed = atomic_charges(stretch.topology, stretch.trajectory)
            yield frames, partial(_fixed, fixed)
        else:
            yield frames, partial(_at, charges_of_frames(stretch))


def _fixed(charges: Array, times: Array) -> Array:
    """The same charges at any time."""
    return charges


def _at(table: Iterator[tuple[float, Array]], times: Array) -> Array:
    """The charges [n_times, n_atoms] at these times; earlier frames are passed by."""
    kept = []
    for wanted in times:
        for time, charges in table:
            if time >= wanted - 1e-9:
                kept.append(charges)
                break
    if len(kept) != len(times):
        raise ConfigError("expected charges in every frame, got fewer frames than positions")
    return np.stack(kept)
