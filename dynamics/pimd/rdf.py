"""Radial distribution functions over beads: pairs from vesin, counted in shells.

Every bead is a sample of the quantum distribution, so the function is the mean over beads and time
of what each bead has; that of the centroids would be too sharp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from hff_ase.dynamics.observables.rdf import count_shells, pair_masks
from hff_ase.errors import StructureError
from hff_ase.files import write_whole

Array = NDArray[np.float64]
REACH, WIDTH = 6.0, 0.02  # Angstrom
MOST_PAIRS = 6  # that are chosen where none are named


@dataclass(frozen=True)
class Distributions:
    """Radial distribution functions of pairs of elements.

    Attributes:
        distance: [n_shells], middles of shells, Angstrom.
        g: [n_shells] by pair of elements, such as ``O-H``.
    """

    distance: Array
    g: dict[str, Array]


def lightest_pairs(symbols: Sequence[str]) -> tuple[str, ...]:
    """Pairs of elements in order of their reduced mass: quantum effects are largest in the first.

    Bonds of hydrogen come first; of an element that is there once, no pair with itself.
    """

    def mass(name: str) -> float:
        return float(atomic_masses[atomic_numbers[name]])

    kinds = sorted(set(symbols), key=mass, reverse=True)
    pairs = []
    for index, first in enumerate(kinds):
        for second in kinds[index:]:
            if first != second or symbols.count(first) > 1:
                reduced = 1 / (1 / mass(first) + 1 / mass(second))
                pairs.append((reduced, f"{first}-{second}"))
    return tuple(name for _, name in sorted(pairs)[:MOST_PAIRS])


def distributions(
    frames: Sequence[Atoms], pairs: Sequence[str], reach: float = REACH, width: float = WIDTH
) -> Distributions:
    """Radial distribution functions, the mean over frames of a periodic system.

    g(r) = V n(r) / (N_a N_b 4 pi r^2 dr), n(r) ordered pairs in the shell; N_a (N_a - 1) for a
    pair of one element, so that an ideal gas of few atoms has g = 1.

    Args:
        frames: of one composition, in the same order of atoms.
        pairs: such as ``O-H``; those whose elements are not there are left out.
        reach, width: of all shells, and of one, Angstrom.

    Raises:
        StructureError: no frames, or frames without periods.
    """
    from vesin import NeighborList

    if not frames or not all(atoms.pbc.all() for atoms in frames):
        raise StructureError(f"expected periodic frames, got {len(frames)}, not all periodic")
    edges = np.linspace(0.0, reach, round(reach / width) + 1)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    symbols = np.array(frames[0].get_chemical_symbols())
    masks = pair_masks(symbols, pairs)
    g = {name: np.zeros(len(shells)) for name in masks}
    search = NeighborList(cutoff=reach, full_list=True)
    for atoms in frames:
        cell = np.asarray(atoms.cell)
        counted = count_shells(search.compute, atoms.positions, cell, masks, edges)
        for name, (first, second) in masks.items():
            expected = first.sum() * (second.sum() - int(np.array_equal(first, second)))
            density = expected / atoms.get_volume()
            g[name] += counted[name] / (density * shells * len(frames))
    return Distributions(0.5 * (edges[1:] + edges[:-1]), g)


def write_table(path: Path, quantum: Distributions, classical: Distributions | None) -> None:
    """A text file of columns: distance, the quantum functions, then the classical ones."""
    columns = {"r[A]": quantum.distance} | quantum.g
    if classical is not None:
        columns |= {f"classical_{name}": values for name, values in classical.g.items()}
    lines = ["# " + " ".join(f"{name:>14}" for name in columns)]
    table = np.stack(list(columns.values()), axis=1)
    lines += ["  " + " ".join(f"{value:14.6f}" for value in row) for row in table]
    write_whole(path, ("\n".join(lines) + "\n").encode())
