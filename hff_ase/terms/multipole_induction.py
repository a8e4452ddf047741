"""Induced dipoles in the field of charges, dipoles and quadrupoles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.declared import Declared
from hff_ase.errors import ConfigError
from hff_ase.longrange.induction.pairs import FORMS, Sites
from hff_ase.longrange.multipoles.moments import (
    Moments,
    bare_factors,
    pair_fields,
    screened_factors,
)
from hff_ase.longrange.multipoles.smooth import smooth_field
from hff_ase.molecular.assignment import nearest_vectors
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import Pairs
from hff_ase.terms.induced_dipoles import DipolePlan, InducedDipoles
from hff_ase.terms.slater import BEYOND_FIVE
from hff_ase.terms.term import Fields

THOLE = {"linear": 5.0, "cubic": 0.39}


class MultipoleInduction(InducedDipoles):
    r"""`InducedDipoles` in the field of all the moments that `FixedMultipoles` gives.

    With B_n = 1, 3, 15 times r^-(2n+1), damped by lambda_3, lambda_5 and lambda_7, and d = r_i -
    r_j, the field and the coupling are

    .. math:: F_i = \sum_j s_{ij} \bigl[B_1 (q_j d - \mu_j) + B_2 d (\mu_j \cdot d)
        - \tfrac13 (2 B_2 \Theta_j d - B_3 d (d \Theta_j d))\bigr],\quad
        T_{ij} = s_{ij} [B_1 - B_2 d d^T].

    Unlike there the factors s count for dipoles as for permanent moments, so that atoms of one
    molecule that are few bonds apart polarise each other not at all (PhyNEO). The damping is that
    of Thole's exponential density by a u (``linear``) or by a u^3 (``cubic``), u = r/(d_i d_j)^1/6.

    Args:
        molecules: each with ``name``, ``numbers``, ``bonds`` and ``polarizability``, A^3, which is
            also the volume d of the damping where no molecule has a ``damping`` of its own: then
            one parameter is both.
        form: of the damping, "linear" or "cubic".
        thole: a; by default 5 (linear) or 0.39 (cubic).
        factors: s for atoms 1, 2, 3 ... bonds apart.
        **settings: the other arguments of `InducedDipoles`, with its defaults.

    Raises:
        ConfigError: an unknown form, or as `InducedDipoles`.
    """

    kind = "multipole_induction"
    needs = ("charges", "permanent_dipoles", "permanent_quadrupoles")
    masks_dipoles = True

    def __init__(
        self,
        molecules: Sequence[Mapping[str, Any]],
        form: str = "linear",
        thole: float | None = None,
        factors: Sequence[float] = BEYOND_FIVE,
        **settings: Any,
    ) -> None:
        if form not in FORMS:
            raise ConfigError(f"expected a form of damping among {', '.join(FORMS)}, got {form!r}")
        entries = [{"damping": entry.get("polarizability"), **entry} for entry in molecules]
        super().__init__(entries, THOLE[form] if thole is None else thole, factors, **settings)
        self.form = form
        self.one_volume = not any("damping" in entry for entry in molecules)
        if self.one_volume:
            del self.damping

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().config(), "form": self.form}

    def declared(self) -> dict[str, Declared]:
        """Polarizabilities and, where they are others, damping volumes."""
        found = super().declared()
        if self.one_volume:
            del found["damping.value"]
        return found

    def sites(self, plan: DipolePlan) -> Sites:
        """Site data of the atoms of a batch."""
        if not self.one_volume:
            return super().sites(plan)
        polarizability = self.polarizability()[plan.site]
        return Sites(polarizability, polarizability, self.thole, self.form)

    def prepare(self, batch: AtomsBatch) -> DipolePlan:
        """As `InducedDipoles`, with a lattice sum for the permanent moments."""
        plan = super().prepare(batch)
        return replace(plan, lattice=self.mesh.prepare(batch) if batch.any_periodic else None)

    def sources(
        self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields, plan: DipolePlan
    ) -> tuple[Tensor, Tensor | None]:
        """No bare charges, and the field of all moments."""
        moments = Moments(*(fields[name].double() for name in self.needs))
        sites = self.sites(plan)
        real, isolated = self.requests()[:2]
        near = plan.near
        vector = nearest_vectors(batch, near.i, near.j)
        pairs = Pairs(near.i, near.j, vector, torch.linalg.vector_norm(vector, dim=1))
        field = -_pair_field(pairs, moments, sites, near.missing)
        if batch.any_periodic:
            field = field + smooth_field(batch, moments, self.mesh, plan.lattice)
            pairs = neighbors.pairs(real)
            within = batch.periodic[batch.system[pairs.i]]
            within = within & (pairs.distance.detach() < real.cutoff)
            field = field + _pair_field(pairs, moments, sites, within.double(), self.alpha)
        if not batch.all_periodic:
            pairs = neighbors.pairs(isolated)
            one = torch.ones_like(pairs.distance)
            field = field + _pair_field(pairs, moments, sites, one)
        return torch.zeros_like(moments.charges), field


def _pair_field(
    pairs: Pairs, moments: Moments, sites: Sites, weight: Tensor, alpha: float = 0.0
) -> Tensor:
    """The damped field over pairs with a factor ``weight`` [n_pairs], [n_atoms, 3] in e/A^2; with
    ``alpha`` > 0 the real-space part of a lattice sum."""
    i, j, vector, r = pairs.i, pairs.j, pairs.vector, pairs.distance
    bare = bare_factors(r, 3)
    whole = screened_factors(r, alpha, 3) if alpha > 0 else bare
    decays = sites.decays(r, i, j)
    factors = [
        weight * (w - decay * b) for w, b, decay in zip(whole[1:], bare[1:], decays, strict=True)
    ]
    at_i = pair_fields(factors, vector, moments.at(j))
    at_j = pair_fields(factors, -vector, moments.at(i))
    field = torch.zeros_like(moments.dipoles)
    return field.index_add(0, i, at_i).index_add(0, j, at_j)
