"""Electrostatic energy of charges, dipoles and quadrupoles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.longrange.ewald import ReciprocalEwald, splitting_parameter
from hff_ase.longrange.multipoles.moments import (
    Moments,
    bare_factors,
    pair_energies,
    screened_factors,
)
from hff_ase.longrange.multipoles.smooth import smooth_energies
from hff_ase.longrange.pme import ReciprocalPME
from hff_ase.molecular.assignment import Assigner, nearest_vectors
from hff_ase.molecular.templates import Templates
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest, Pairs
from hff_ase.terms.pairwise import share_pairs
from hff_ase.terms.slater import BEYOND_FIVE
from hff_ase.terms.term import Fields, Term
from hff_ase.units import COULOMB_CONSTANT


class MultipolePlan(NamedTuple):
    """Pairs of molecules [n_near, 2] that do not count in full, the ``missing`` part of their
    energy [n_near], and wave vectors or a mesh (None without boxes)."""

    near: Tensor
    missing: Tensor
    lattice: Any


class Multipoles(Term):
    r"""E = k_e sum s_ij L_i L_j (1/r), with L = q + mu . d + Theta/3 : d d the source of an atom.

    Charges, dipoles and quadrupoles are those that `FixedMultipoles` gives; s is a factor for atoms
    of one molecule. In a box the sum goes over all images (Ewald, conducting surroundings, a
    uniform background for a net charge; Smith, CCP5 Newsletter 46, 18 (1998)) and s counts for
    nearest images; molecules without a cell are summed directly. Moments turn with their frames, so
    that forces hold their torques.

    Args:
        molecules: each with ``name``, ``numbers`` and ``bonds``.
        factors: s for atoms 1, 2, 3 ... bonds apart.
        cutoff: of the real-space part, Angstrom.
        tolerance: relative accuracy of the lattice sum.
        method: of its smooth part, "pme" (mesh) or "ewald" (exact, slow).
        prefactor: k_e, eV Angstrom/e^2.

    Raises:
        ConfigError: an unknown method, a cutoff or tolerance that cannot be.
    """

    kind = "multipoles"
    needs = ("charges", "permanent_dipoles", "permanent_quadrupoles")

    def __init__(
        self,
        molecules: Sequence[Mapping[str, Any]],
        factors: Sequence[float] = BEYOND_FIVE,
        cutoff: float = 9.0,
        tolerance: float = 1e-6,
        method: str = "pme",
        prefactor: float = COULOMB_CONSTANT,
    ) -> None:
        super().__init__()
        if method not in ("pme", "ewald"):
            raise ConfigError(f"expected the multipole method 'ewald' or 'pme', got {method!r}")
        if not (1.0 <= cutoff < math.inf and 1e-14 <= tolerance <= 1e-2):
            raise ConfigError(
                "expected a cutoff of at least 1 A and a tolerance of 1e-14 to 1e-2, got "
                f"{cutoff} and {tolerance}"
            )
        self.templates = Templates.of(molecules)
        self.factors = tuple(float(f) for f in factors)
        self.real_cutoff, self.tolerance = float(cutoff), tolerance
        self.method, self.prefactor = method, prefactor
        self.alpha = splitting_parameter(cutoff, tolerance)
        self.reciprocal: ReciprocalEwald | ReciprocalPME
        if method == "pme":
            self.reciprocal = ReciprocalPME(self.alpha, tolerance)
        else:
            self.reciprocal = ReciprocalEwald(self.alpha, tolerance)
        self._assign = Assigner(self.templates)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "molecules": self.templates.config(),
            "factors": list(self.factors),
            "cutoff": self.real_cutoff,
            "tolerance": self.tolerance,
            "method": self.method,
            "prefactor": self.prefactor,
        }

    def requests(self) -> tuple[PairRequest, ...]:
        """Pairs of the real-space sum, and for molecules all pairs."""
        return (PairRequest(self.real_cutoff, "half"), PairRequest(math.inf, "isolated"))

    def refuses_owned(self, neighbors: Neighborhood) -> str | None:
        """Molecules are found as a whole."""
        return "its molecules must be whole"

    def prepare(self, batch: AtomsBatch) -> MultipolePlan:
        """Excluded pairs, and wave vectors or a mesh.

        Raises:
            StructureError: a molecule that is not among those of the term, or has come apart.
        """
        found = self._assign(batch)
        pairs = [t.pairs(1, len(self.factors)) for t in self.templates.molecules]
        missing = [
            1.0 - np.array(self.factors)[t.apart[p[:, 0], p[:, 1]] - 1]
            for t, p in zip(self.templates.molecules, pairs, strict=True)
        ]
        lattice = self.reciprocal.prepare(batch) if batch.any_periodic else None
        return MultipolePlan(found.listed(pairs), found.tiled(missing), lattice)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms], eV."""
        plan: MultipolePlan = neighbors.plan(self)
        moments = Moments(*(fields[name] for name in self.needs))
        i, j = plan.near.unbind(1)
        vector = nearest_vectors(batch, i, j)
        near = Pairs(i, j, vector, torch.linalg.vector_norm(vector, dim=1))
        missing = -plan.missing * _between(near, moments, bare_factors(near.distance, 4))
        energies = share_pairs(missing, near, batch.n_atoms)
        if batch.any_periodic:
            energies = energies + smooth_energies(batch, moments, self.reciprocal, plan.lattice)
            pairs = neighbors.pairs(self.requests()[0])
            within = batch.periodic[batch.system[pairs.i]]
            within = within & (pairs.distance.detach() < self.real_cutoff)
            real = _between(pairs, moments, screened_factors(pairs.distance, self.alpha, 4))
            energies = energies + share_pairs(torch.where(within, real, 0.0), pairs, batch.n_atoms)
        if not batch.all_periodic:
            pairs = neighbors.pairs(self.requests()[1])
            direct = _between(pairs, moments, bare_factors(pairs.distance, 4))
            energies = energies + share_pairs(direct, pairs, batch.n_atoms)
        return self.prefactor * energies


def _between(pairs: Pairs, moments: Moments, factors: list[Tensor]) -> Tensor:
    """L_i L_j of pairs [n_pairs], e^2/A."""
    return pair_energies(factors, pairs.vector, moments.at(pairs.i), moments.at(pairs.j))
