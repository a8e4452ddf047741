"""Bonds, angles, torsions and impropers of molecules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hff_ase.batch import AtomsBatch
from hff_ase.declared import Declared
from hff_ase.errors import ConfigError
from hff_ase.molecular.assignment import Assigner, nearest_vectors, refuses_cut_molecules
from hff_ase.molecular.parameters import numbered
from hff_ase.molecular.templates import Templates
from hff_ase.neighborhood import Neighborhood
from hff_ase.terms.term import Fields, Term

# name -> atoms in it, parameters of it
KINDS = {"bonds": (2, 2), "angles": (3, 2), "propers": (4, 4), "impropers": (4, 1)}
ORDERS = (1.0, 2.0, 3.0, 4.0)  # n of the torsions' cosines
SIGNS = (1.0, -1.0, 1.0, -1.0)  # phases 0, pi, 0, pi


@dataclass(frozen=True, eq=False)
class Lists:
    """Atoms of a batch [n, width] and rows of parameters [n] for each kind."""

    atoms: dict[str, Tensor]
    rows: dict[str, Tensor]


class Bonded(Term):
    r"""Harmonic bonds and angles, cosine torsions, and impropers about a centre.

    .. math:: E = \sum \tfrac12 k (r - r_0)^2 + \sum \tfrac12 k (\theta - \theta_0)^2
        + \sum \sum_{n=1}^4 K_n [1 + \cos(n\phi - \delta_n)]
        + \sum \tfrac{K}{3} \sum_{3} [1 + \cos(2\phi - \pi)]

    with :math:`\delta_n` = 0, pi, 0, pi, and an improper's sum over the three cyclic permutations
    of the atoms around its centre (the form of ByteFF-Pol's published topologies, Nat. Commun.
    2026). Bonds of this form cannot break.

    Args:
        molecules: each with ``name``, ``numbers``, ``bonds``, and rows of atoms and parameters:
            ``bond_terms`` [i, j, k (eV/A^2), r0 (A)], ``angle_terms`` [i, j, k, k (eV/rad^2),
            theta0 (rad)], ``proper_terms`` [i, j, k, l, K1..K4 (eV)], ``improper_terms`` [centre,
            a, b, c, K (eV)].

    Raises:
        ConfigError: a row of another width, or twice the same molecule.
    """

    kind = "bonded"
    parts = ("bonds", "angles", "propers", "impropers")

    def __init__(self, molecules: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.templates = Templates.of(molecules)
        self._assign = Assigner(self.templates)
        self._atoms: dict[str, list[np.ndarray]] = {}
        self._rows: dict[str, list[np.ndarray]] = {}
        self.values = nn.ParameterDict()
        for name, (width, n_values) in KINDS.items():
            entries = [entry.get(f"{name[:-1]}_terms", []) for entry in molecules]
            self._read(name, entries, width, n_values)

    def _read(self, name: str, entries: Sequence[Any], width: int, n_values: int) -> None:
        """Lists of atoms, and rows of parameters: one for terms of a class with the same values."""
        self._atoms[name], keys = [], list[Any]()
        for template, rows in zip(self.templates.molecules, entries, strict=True):
            if any(len(row) != width + n_values for row in rows):
                raise ConfigError(
                    f"expected {name} of {template.name!r} as {width} atoms and {n_values} "
                    f"parameters, got rows of {sorted({len(row) for row in rows})}"
                )
            atoms = [tuple(int(k) for k in row[:width]) for row in rows]
            self._atoms[name].append(np.array(atoms, dtype=np.int64).reshape(-1, width))
            for of_term, row in zip(atoms, rows, strict=True):
                kind = tuple(template.classes[list(of_term)].tolist())
                values = tuple(float(x) for x in row[width:])
                keys.append((template.name, min(kind, kind[::-1]), values))
        unique, row_of = numbered(keys)
        cuts = np.cumsum([len(rows) for rows in self._atoms[name]])[:-1]
        self._rows[name] = np.split(np.array(row_of, dtype=np.int64), cuts)
        table = torch.tensor([values for *_, values in unique], dtype=torch.float64)
        self.values[name] = nn.Parameter(table.reshape(-1, n_values))

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        entries = self.templates.config()
        for name in KINDS:
            table = self.values[name].detach().double().cpu().numpy()
            parts = zip(entries, self._atoms[name], self._rows[name], strict=True)
            for entry, atoms, rows in parts:
                entry[f"{name[:-1]}_terms"] = [
                    [*map(int, of), *map(float, table[row])]
                    for of, row in zip(atoms, rows, strict=True)
                ]
        return {"molecules": entries}

    def declared(self) -> dict[str, Declared]:
        """Force constants and equilibrium values."""
        return {
            "values.bonds": Declared("eV/A^2, A", "none", (1.0, 0.01), "k and r0 of bonds"),
            "values.angles": Declared("eV/rad^2, rad", "none", (0.3, 0.02), "k, theta0 of angles"),
            "values.propers": Declared("eV", "none", 0.05, "K1 to K4 of torsions"),
            "values.impropers": Declared("eV", "none", 0.1, "K of impropers"),
        }

    def refuses_owned(self, neighbors: Neighborhood) -> str | None:
        """Molecules are found as a whole."""
        return refuses_cut_molecules(neighbors)

    def prepare(self, batch: AtomsBatch) -> Lists:
        """The lists of the batch's molecules.

        Raises:
            StructureError: a molecule without parameters, or one that has come apart.
        """
        found = self._assign(batch)
        return Lists(
            {name: found.listed(self._atoms[name]) for name in KINDS},
            {name: found.tiled(self._rows[name]) for name in KINDS},
        )

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms], eV: of each term an equal share to each of its atoms."""
        lists: Lists = neighbors.plan(self)
        energies = torch.zeros_like(batch.positions[:, 0])
        for name, (width, _) in KINDS.items():
            atoms, rows = lists.atoms[name], lists.rows[name]
            if not len(rows) or neighbors.leaves_out(self, name):
                continue
            values = self.values[name].double().index_select(0, rows)
            of_terms = ENERGIES[name](batch, atoms, values) / width
            for column in range(width):
                energies = energies.index_add(0, atoms[:, column], of_terms)
        return energies


def bond_energies(batch: AtomsBatch, atoms: Tensor, values: Tensor) -> Tensor:
    """k/2 (r - r0)^2 [n]; atoms [n, 2]; values k, r0 [n, 2]."""
    r = torch.linalg.vector_norm(nearest_vectors(batch, atoms[:, 0], atoms[:, 1]), dim=1)
    return 0.5 * values[:, 0] * (r - values[:, 1]).square()


def angle_energies(batch: AtomsBatch, atoms: Tensor, values: Tensor) -> Tensor:
    """k/2 (theta - theta0)^2 [n]; atoms [n, 3], the apex in the middle."""
    a = nearest_vectors(batch, atoms[:, 1], atoms[:, 0])
    b = nearest_vectors(batch, atoms[:, 1], atoms[:, 2])
    # as an arctangent: an arccosine has no derivative where atoms lie in a line
    sine = torch.linalg.vector_norm(torch.linalg.cross(a, b), dim=1)
    theta = torch.atan2(sine, (a * b).sum(1))
    return 0.5 * values[:, 0] * (theta - values[:, 1]).square()


def cosine_of_dihedral(batch: AtomsBatch, atoms: Tensor) -> Tensor:
    """cos phi [n] of atoms [n, 4] in a chain."""
    b1 = nearest_vectors(batch, atoms[:, 0], atoms[:, 1])
    b2 = nearest_vectors(batch, atoms[:, 1], atoms[:, 2])
    b3 = nearest_vectors(batch, atoms[:, 2], atoms[:, 3])
    m, n = torch.linalg.cross(b1, b2), torch.linalg.cross(b2, b3)
    norms = torch.linalg.vector_norm(m, dim=1) * torch.linalg.vector_norm(n, dim=1)
    return (m * n).sum(1) / norms.clamp(min=1e-12)  # three atoms in a line


def proper_energies(batch: AtomsBatch, atoms: Tensor, values: Tensor) -> Tensor:
    """sum_n K_n [1 + cos(n phi - delta_n)] [n], by Chebyshev's polynomials of cos phi."""
    c = cosine_of_dihedral(batch, atoms)
    multiples = torch.stack([c, 2 * c**2 - 1, 4 * c**3 - 3 * c, 8 * c**4 - 8 * c**2 + 1], dim=1)
    return (values * (1.0 + c.new_tensor(SIGNS) * multiples)).sum(1)


def improper_energies(batch: AtomsBatch, atoms: Tensor, values: Tensor) -> Tensor:
    """K/3 [1 + cos(2 phi - pi)] [n] summed over the three turns of a, b, c about the centre."""
    total = torch.zeros_like(values[:, 0])
    for turn in ((0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2)):
        c = cosine_of_dihedral(batch, atoms[:, [turn[0], turn[1], turn[2], turn[3]]])
        total = total + 2.0 - 2.0 * c.square()
    return values[:, 0] / 3.0 * total


ENERGIES = {
    "bonds": bond_energies,
    "angles": angle_energies,
    "propers": proper_energies,
    "impropers": improper_energies,
}
