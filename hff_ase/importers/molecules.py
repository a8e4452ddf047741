"""Molecules of an imported force field: what it knows, and one of each beside the others."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from hff_ase.domain import KnownMolecule
from hff_ase.molecular.templates import Templates

APART = 3.5  # Angstrom between the molecules of an example


def known_molecules(templates: Templates, charges: Tensor) -> tuple[KnownMolecule, ...]:
    """The molecules of templates, with the whole charge of each from those of all sites [n_sites],
    e."""
    values, known = charges.tolist(), []
    for template, first in zip(templates.molecules, templates.first, strict=True):
        charge = round(sum(values[first : first + len(template.numbers)]))
        known.append(KnownMolecule(template.name, template.graph, charge))
    return tuple(known)


def side_by_side(molecules: Iterable[tuple[KnownMolecule, NDArray[np.float64]]]) -> Atoms:
    """Molecules with their positions [n_atoms, 3], Angstrom, beside each other along x, without a
    cell; ids and total charge are kept."""
    together, charge, edge = Atoms(), 0.0, 0.0
    for index, (known, given) in enumerate(molecules):
        positions = given.copy()
        positions[:, 0] += edge - positions[:, 0].min()
        edge = float(positions[:, 0].max()) + APART
        molecule = Atoms(list(known.graph.numbers), positions)
        molecule.set_array("molecule", np.full(len(molecule), index))
        together += molecule
        charge += known.charge
    together.info["charge"] = charge
    return together
