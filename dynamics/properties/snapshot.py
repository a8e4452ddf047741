"""The box at the end of a run, for the page."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.topology import Topology

MOST_ATOMS = 20_000  # that a page shows


def snapshot(
    positions: NDArray[np.float64], cell: NDArray[np.float64], topology: Topology
) -> dict[str, Any] | None:
    """A frame for JSON, whole molecules with their centres in the cell; None for too large a box.

    Args:
        positions: [n_atoms, 3], Angstrom, whole molecules.
        cell: [3, 3].
        topology: of the atoms.
    """
    if topology.n_atoms > MOST_ATOMS:
        return None
    weights = topology.masses[:, None] * positions
    summed = np.stack([np.bincount(topology.molecule, w) for w in weights.T], axis=1)
    centres = summed / topology.molecule_masses[:, None]
    shift = -np.floor(centres @ np.linalg.inv(cell)) @ cell
    moved = positions + shift[topology.molecule]
    return {
        "symbols": topology.symbols.tolist(),
        "positions": moved.round(2).tolist(),
        "cell": cell.round(3).tolist(),
        "molecule": topology.molecule.tolist(),
    }
