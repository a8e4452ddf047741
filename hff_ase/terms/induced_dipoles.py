"""Induced dipoles: polarisable atoms in the field of charges and of each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.declared import Declared
from hff_ase.errors import ConfigError, StructureError
from hff_ase.longrange.ewald import ReciprocalEwald, splitting_parameter
from hff_ase.molecular.assignment import Assigner
from hff_ase.molecular.parameters import SiteValues, site_values, with_values
from hff_ase.molecular.templates import Templates
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest, Pairs
from hff_ase.terms.exp6 import FACTORS
from hff_ase.terms.term import Fields, Term
from hff_ase.units import COULOMB_CONSTANT


@dataclass(frozen=True, eq=False)
class DipolePlan:
    """Sites of atoms, factors of pairs of one molecule (sorted by key), and wave vectors.

    Attributes:
        site: int64 [n_atoms].
        key: int64 [n_near], i * n_atoms + j of both directions, ascending; factor: [n_near].
        waves: of the Ewald sum; None without boxes.
    """

    site: Tensor
    key: Tensor
    factor: Tensor
    waves: Any


class InducedDipoles(Term):
    r"""Dipoles mu that minimise E = k_e [1/2 mu (alpha^-1 + T) mu - mu . F].

    F is the field of the charges, T couples dipoles, both damped at short range after Thole
    (Chem. Phys. 59, 341 (1981)): with :math:`u = r/(d_i d_j)^{1/6}`, lambda_3 = 1 - exp(-a u^3) and
    lambda_5 = 1 - (1 + a u^3) exp(-a u^3),

    .. math:: F_i = \sum_j s_{ij} \lambda_3 q_j \frac{r_i - r_j}{r^3},\quad
        T_{ij} = \lambda_3 \frac{1}{r^3} - 3 \lambda_5 \frac{r r^T}{r^5}.

    s is a factor for charges of the own molecule by bonds apart; dipoles couple in full, bonded
    ones too (ByteFF-Pol, arXiv 2508.08575). In a box all images count (Ewald; conducting
    surroundings), the damping and s for the pairs within the cutoff.

    Solved by a dense factorisation: for clusters and small boxes.

    Args:
        molecules: each with ``name``, ``numbers``, ``bonds``, ``polarizability`` and ``damping``
            (d), A^3.
        thole: a.
        factors: s for atoms 1, 2, 3 ... bonds apart.
        cutoff: of the real-space part, Angstrom.
        tolerance: relative accuracy of the lattice sum.
        prefactor: k_e, eV Angstrom/e^2.
        max_atoms: of a system.

    Raises:
        ConfigError: a polarizability that is not positive, or numbers that cannot be.
    """

    kind = "induced_dipoles"
    needs = ("charges",)
    gives = ("dipoles",)

    def __init__(
        self,
        molecules: Sequence[Mapping[str, Any]],
        thole: float = 0.39,
        factors: Sequence[float] = FACTORS,
        cutoff: float = 9.0,
        tolerance: float = 1e-6,
        prefactor: float = COULOMB_CONSTANT,
        max_atoms: int = 1500,
    ) -> None:
        super().__init__()
        if not (thole > 0 and 1.0 <= cutoff < math.inf and 1e-14 <= tolerance <= 1e-2):
            raise ConfigError(
                "expected thole > 0, a cutoff of at least 1 A and a tolerance of 1e-14 to 1e-2, "
                f"got {thole}, {cutoff} and {tolerance}"
            )
        self.templates = Templates.of(molecules)
        for name in ("polarizability", "damping"):
            if min(site_values(molecules, name)) <= 0:
                raise ConfigError(f"expected positive values of {name}, got others")
        self.polarizability = SiteValues(self.templates, site_values(molecules, "polarizability"))
        self.damping = SiteValues(self.templates, site_values(molecules, "damping"))
        self.thole, self.factors = float(thole), tuple(float(f) for f in factors)
        self.real_cutoff, self.tolerance = float(cutoff), tolerance
        self.prefactor, self.max_atoms = prefactor, max_atoms
        self.alpha = splitting_parameter(cutoff, tolerance)
        self.reciprocal = ReciprocalEwald(self.alpha, tolerance)
        self._assign = Assigner(self.templates)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        values = {"polarizability": self.polarizability, "damping": self.damping}
        return {
            "molecules": with_values(self.templates, **values),
            "thole": self.thole,
            "factors": list(self.factors),
            "cutoff": self.real_cutoff,
            "tolerance": self.tolerance,
            "prefactor": self.prefactor,
            "max_atoms": self.max_atoms,
        }

    def declared(self) -> dict[str, Declared]:
        """Polarizabilities and damping volumes."""
        return {
            "polarizability.value": Declared("A^3", "log", 0.1, "polarizabilities"),
            "damping.value": Declared("A^3", "log", 0.1, "volumes of Thole's damping"),
            "thole": Declared("1", "log", 0.1, "strength of Thole's damping"),
        }

    def constants(self) -> dict[str, str]:
        """Thole's a."""
        return {"thole": "thole"}

    def requests(self) -> tuple[PairRequest, ...]:
        """Pairs of the real-space sum and, for isolated systems, all pairs."""
        return (PairRequest(self.real_cutoff, "half"), PairRequest(math.inf, "isolated"))

    def refuses_owned(self, neighbors: Neighborhood) -> str | None:
        """All dipoles are solved for together."""
        return "its dipoles are solved for the whole system at once"

    def prepare(self, batch: AtomsBatch) -> DipolePlan:
        """Sites, factors and wave vectors.

        Raises:
            StructureError: a molecule without parameters, one that has come apart, or a system that
                is too large.
        """
        if batch.max_count > self.max_atoms:
            raise StructureError(
                f"expected at most {self.max_atoms} atoms in a system with induced dipoles "
                f"(max_atoms), got {batch.max_count}"
            )
        found = self._assign(batch)
        pairs = [t.pairs(1, len(self.factors)) for t in self.templates.molecules]
        factors = [
            np.array(self.factors)[t.apart[p[:, 0], p[:, 1]] - 1]
            for t, p in zip(self.templates.molecules, pairs, strict=True)
        ]
        atoms, factor = found.listed(pairs), found.tiled(factors)
        key = torch.cat([atoms[:, 0] * batch.n_atoms + atoms[:, 1],
                         atoms[:, 1] * batch.n_atoms + atoms[:, 0]])  # fmt: skip
        order = torch.argsort(key)
        waves = self.reciprocal.prepare(batch) if batch.any_periodic else None
        return DipolePlan(found.site, key[order], factor.repeat(2)[order], waves)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms], eV; gives `dipoles` [n_atoms, 3]."""
        plan: DipolePlan = neighbors.plan(self)
        charges = fields["charges"].double()
        coupling, field = self._system(batch, neighbors, plan, charges)
        inverse = 1.0 / self.polarizability()[plan.site]
        coupling = coupling + torch.diag_embed(self._diagonal(batch, inverse))
        right = batch.pad(field).flatten(1)
        if self.training:
            dipoles = torch.linalg.solve(coupling, right)
        else:  # the energy is stationary in them: its derivative needs none of theirs
            with torch.no_grad():
                factor = torch.linalg.cholesky(coupling)
                dipoles = torch.cholesky_solve(right[..., None], factor)[..., 0]
        both = 0.5 * (coupling @ dipoles[..., None])[..., 0] - right
        shape = (batch.n_systems, -1, 3)
        energies = batch.unpad((dipoles * both).view(shape).sum(-1))
        fields["dipoles"] = batch.unpad(dipoles.view(shape))
        return self.prefactor * energies

    def _diagonal(self, batch: AtomsBatch, inverse: Tensor) -> Tensor:
        """1/alpha [n_systems, 3 n_max]; 1 where systems are padded."""
        padded = batch.pad(inverse)
        present = batch.pad(torch.ones_like(inverse))
        return (padded + (1.0 - present))[..., None].expand(-1, -1, 3).flatten(1)

    def _system(
        self, batch: AtomsBatch, neighbors: Neighborhood, plan: DipolePlan, charges: Tensor
    ) -> tuple[Tensor, Tensor]:
        """T [n_systems, 3 n_max, 3 n_max], 1/A^3, and F [n_atoms, 3], e/A^2."""
        n = batch.max_count
        coupling = batch.positions.new_zeros((batch.n_systems, n, 3, n, 3))
        field = torch.zeros_like(batch.positions)
        real, isolated = self.requests()
        wanted = [(real, self.alpha)] if batch.any_periodic else []
        wanted += [] if batch.all_periodic else [(isolated, 0.0)]
        for request, alpha in wanted:
            pairs = neighbors.pairs(request)
            keep = batch.periodic[batch.system[pairs.i]] == (alpha > 0)
            if request.kind == "half":
                keep = keep & (pairs.distance.detach() < self.real_cutoff)
            pairs = Pairs(*(x[keep] for x in (pairs.i, pairs.j, pairs.vector, pairs.distance)))
            blocks, at_i, at_j = self._pairs(batch, plan, pairs, charges, alpha)
            system = batch.system[pairs.i]
            i, j = batch.index_in_system[pairs.i], batch.index_in_system[pairs.j]
            # [system, i, j, 3, 3] blocks of both directions
            flat = coupling.permute(0, 1, 3, 2, 4).reshape(-1, 3, 3)
            flat = flat.index_add(0, (system * n + i) * n + j, blocks)
            flat = flat.index_add(0, (system * n + j) * n + i, blocks)
            coupling = flat.view(batch.n_systems, n, n, 3, 3).permute(0, 1, 3, 2, 4)
            field = field.index_add(0, pairs.i, at_i).index_add(0, pairs.j, at_j)
        coupling = coupling.reshape(batch.n_systems, 3 * n, 3 * n)
        if batch.any_periodic:
            smooth, smooth_field = self._smooth(batch, plan, charges)
            coupling, field = coupling + smooth, field + smooth_field
        return coupling, field

    def _pairs(
        self, batch: AtomsBatch, plan: DipolePlan, pairs: Pairs, charges: Tensor, alpha: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Blocks of T [n_pairs, 3, 3], and the fields at i and at j [n_pairs, 3]."""
        r, vector = pairs.distance, pairs.vector  # from i to j
        b1, b2 = 1.0 / r**3, 3.0 / r**5
        if alpha > 0:
            gauss = 2.0 * alpha / math.sqrt(math.pi) * torch.exp(-((alpha * r) ** 2))
            b0 = torch.erfc(alpha * r) / r
            s1 = (b0 + gauss) / r**2
            s2 = (3.0 * s1 + 2.0 * alpha**2 * gauss) / r**2
        else:
            s1, s2 = b1, b2
        volume = self.damping()[plan.site]
        au3 = self.thole * r**3 / torch.sqrt(volume[pairs.i] * volume[pairs.j])
        decay = torch.exp(-au3)
        lambda3, lambda5 = 1.0 - decay, 1.0 - (1.0 + au3) * decay
        t1, t2 = s1 - (1.0 - lambda3) * b1, s2 - (1.0 - lambda5) * b2
        one = torch.eye(3, dtype=r.dtype, device=r.device)
        blocks = t1[:, None, None] * one - t2[:, None, None] * vector[:, :, None] * vector[:, None]
        f1 = s1 - (1.0 - self._factors(batch, plan, pairs) * lambda3) * b1
        pull = f1[:, None] * vector
        return blocks, -pull * charges[pairs.j, None], pull * charges[pairs.i, None]

    def _factors(self, batch: AtomsBatch, plan: DipolePlan, pairs: Pairs) -> Tensor:
        """s of each pair [n_pairs]: 1 unless the two are near in one molecule, and this their
        nearest image."""
        if not len(plan.key):
            return torch.ones_like(pairs.distance)
        key = pairs.i * batch.n_atoms + pairs.j
        place = torch.searchsorted(plan.key, key).clamp(max=len(plan.key) - 1)
        near = plan.key[place] == key
        if batch.any_periodic:
            home = batch.positions[pairs.j] - batch.positions[pairs.i]
            inverse = torch.linalg.inv(batch.cell)[batch.system[pairs.i]]
            # between this image and the nearest one there is no lattice vector
            own = (pairs.vector[:, None] @ inverse)[:, 0].detach()
            nearest = (home[:, None] @ inverse)[:, 0].detach()
            nearest = nearest - nearest.round() * batch.periodic[batch.system[pairs.i], None]
            near = near & ((own - nearest).abs() < 0.5).all(1)
        return torch.where(near, plan.factor[place], 1.0)

    def _smooth(
        self, batch: AtomsBatch, plan: DipolePlan, charges: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The reciprocal-space part of T and F, without what a dipole does to itself."""
        cos, sin, weight = self.reciprocal.waves(batch, plan.waves)  # [system, atom, wave]
        present = batch.pad(torch.ones_like(charges))[..., None]
        cos, sin = cos * present, sin * present
        reciprocal = torch.linalg.inv(batch.cell).mT
        k = plan.waves.index @ (2.0 * math.pi * reciprocal)  # [system, wave, 3]
        flat = (batch.n_systems, 3 * batch.max_count, -1)
        c = torch.einsum("snk,ska->snak", cos, k).reshape(flat)
        s = torch.einsum("snk,ska->snak", sin, k).reshape(flat)
        coupling = (c * weight[:, None]) @ c.mT + (s * weight[:, None]) @ s.mT
        self_field = 4.0 * self.alpha**3 / (3.0 * math.sqrt(math.pi))
        here = (present * batch.periodic[:, None, None])[..., 0]
        own = (here * self_field)[..., None].expand(-1, -1, 3).flatten(1)
        q = batch.pad(charges)
        s_cos, s_sin = (q[:, None] @ cos)[:, 0] * weight, (q[:, None] @ sin)[:, 0] * weight
        field = torch.einsum("snk,ska->sna", sin * s_cos[:, None] - cos * s_sin[:, None], k)
        return coupling - torch.diag_embed(own), batch.unpad(field)
