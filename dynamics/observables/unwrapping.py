"""Positions that are unwrapped across the boundary, from wrapped ones, frame after frame.

Each step takes the image nearest to the frame before; molecules are made whole once, at the
beginning. The displacement is taken in fractions of the cell: at constant volume all schemes agree,
and transport is refused elsewhere.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from hff_ase.dynamics.observables.topology import Topology
from hff_ase.errors import ConfigError
from hff_ase.labels.molecules import find_molecules

Array = NDArray[np.float64]
AMBIGUOUS = 0.4  # of a cell between two frames: the nearest image may be the wrong one


class Unwrapper:
    """Keeps the last frame, so that a trajectory can come in parts.

    Args:
        topology: of the atoms; molecules are made whole in the first frame.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._last: Array | None = None  # fractional, unwrapped
        self._frame = 0

    def add(self, positions: Array, cells: Array) -> Array:
        """The next frames, unwrapped.

        Args:
            positions: [n_frames, n_atoms, 3], Angstrom.
            cells: [n_frames, 3, 3], rows, Angstrom.

        Raises:
            ConfigError: an atom moves by more than 0.4 of a cell between two frames, so that its
                image is a guess: frames too far apart.
        """
        result = np.empty_like(positions)
        for k, (frame, cell) in enumerate(zip(positions, cells, strict=True)):
            fractional = frame @ np.linalg.inv(cell)
            if self._last is None:
                self._last = fractional + self._whole(frame, cell)
            else:
                step = fractional - self._last
                step -= np.round(step)
                farthest = np.abs(step).max()
                if farthest > AMBIGUOUS:
                    atom = int(np.abs(step).max(axis=1).argmax())
                    raise ConfigError(
                        f"expected atoms that move by less than {AMBIGUOUS:g} of a cell between "
                        f"frames, got {farthest:.2f} of atom {atom} at frame {self._frame}: frames "
                        "are too far apart (or not wrapped: say wrapped=False)"
                    )
                self._last = self._last + step
            result[k] = self._last @ cell
            self._frame += 1
        return result

    def _whole(self, positions: Array, cell: Array) -> Array:
        """Cell shifts [n_atoms, 3] that make the molecules of the first frame whole."""
        return whole_offsets(positions, cell, self._topology)


def whole_offsets(positions: Array, cell: Array, topology: Topology) -> Array:
    """Cell shifts [n_atoms, 3] that make the molecules of a frame whole.

    Args:
        positions: [n_atoms, 3], Angstrom.
        cell: [3, 3], rows.
        topology: of the atoms.
    """
    if topology.n_molecules == topology.n_atoms:
        return np.zeros_like(positions)
    atoms = Atoms(topology.symbols.tolist(), positions, cell=cell, pbc=True)
    atoms.set_array("molecule", topology.molecule)
    return find_molecules(atoms).offsets.astype(float)


def unwrap(positions: Array, cells: Array, topology: Topology) -> Array:
    """Unwrapped positions [n_frames, n_atoms, 3] of whole molecules; see `Unwrapper`.

    Raises:
        ConfigError: see `Unwrapper.add`.
    """
    return Unwrapper(topology).add(positions, cells)
