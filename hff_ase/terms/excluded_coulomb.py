"""Coulomb energy of excluded pairs of a molecule, subtracted from a term that counts all pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.molecular.assignment import Assigner, nearest_vectors, refuses_cut_molecules
from hff_ase.molecular.templates import Templates
from hff_ase.neighborhood import Neighborhood
from hff_ase.terms.exp6 import FACTORS
from hff_ase.terms.term import Fields, Term
from hff_ase.units import COULOMB_CONSTANT


class ExcludedCoulomb(Term):
    """E = -k_e sum (1 - s) q_i q_j / r over pairs of one molecule that are few bonds apart.

    Beside a `Coulomb` term without damping, which sums over all pairs (and in a box over all their
    images), what remains is s k_e q_i q_j / r for the nearest images.

    Args:
        molecules: each with ``name``, ``numbers`` and ``bonds``.
        factors: s for atoms 1, 2, 3 ... bonds apart.
        prefactor: k_e, eV Angstrom/e^2.
    """

    kind = "excluded_coulomb"
    needs = ("charges",)

    def __init__(
        self,
        molecules: Sequence[Mapping[str, Any]],
        factors: Sequence[float] = FACTORS,
        prefactor: float = COULOMB_CONSTANT,
    ) -> None:
        super().__init__()
        self.templates = Templates.of(molecules)
        self.factors, self.prefactor = tuple(float(f) for f in factors), prefactor
        self._assign = Assigner(self.templates)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "molecules": self.templates.config(),
            "factors": list(self.factors),
            "prefactor": self.prefactor,
        }

    def refuses_owned(self, neighbors: Neighborhood) -> str | None:
        """Molecules are found as a whole."""
        return refuses_cut_molecules(neighbors)

    def prepare(self, batch: AtomsBatch) -> tuple[Tensor, Tensor]:
        """Atoms of the pairs [n_pairs, 2], and 1 - s [n_pairs].

        Raises:
            StructureError: a molecule without parameters, or one that has come apart.
        """
        found = self._assign(batch)
        pairs = [t.pairs(1, len(self.factors)) for t in self.templates.molecules]
        missing = [
            1.0 - np.array(self.factors)[t.apart[p[:, 0], p[:, 1]] - 1]
            for t, p in zip(self.templates.molecules, pairs, strict=True)
        ]
        return found.listed(pairs), found.tiled(missing)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms], eV."""
        pairs, missing = neighbors.plan(self)
        i, j = pairs.unbind(1)
        charges = fields["charges"].double()
        r = torch.linalg.vector_norm(nearest_vectors(batch, i, j), dim=1)
        half = -0.5 * self.prefactor * missing * charges[i] * charges[j] / r
        return half.new_zeros(batch.n_atoms).index_add(0, i, half).index_add(0, j, half)
