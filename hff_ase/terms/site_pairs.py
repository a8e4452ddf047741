"""Pair terms with parameters of molecules' sites: exclusions, switch, tail, kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.kept import Kept
from hff_ase.kernels.pair import MOST_KINDS, ElementTables
from hff_ase.kernels.pair.tables import Table, interpolated, tabulate
from hff_ase.molecular.assignment import (
    Assigner,
    Assignment,
    nearest_vectors,
    refuses_cut_molecules,
)
from hff_ase.molecular.parameters import SiteValues, numbered, site_values, with_values
from hff_ase.molecular.templates import Templates
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest
from hff_ase.terms.pairwise import ElementPairTerm, KernelInput, share_pairs, switch_off
from hff_ase.terms.term import Fields

Parameters = tuple[Tensor, ...]
"""Of one site, in the order of the term's `names`, that broadcast with distances."""

_TABLES: Kept[Table] = Kept()
_TAILS: Kept[Tensor] = Kept()
NODES = 48  # of the quadrature of a tail


@dataclass(frozen=True, eq=False)
class SitePlan:
    """Sites of a batch's molecules, and their pairs that do not count in full.

    Attributes:
        site: int64 [n_atoms]; kind: int32 [n_atoms], its kind.
        near: int64 [n_pairs, 2] of atoms of one molecule; missing: float64 [n_pairs], the part of
            their energy that does not count.
    """

    site: Tensor
    kind: Tensor
    near: Tensor
    missing: Tensor


class SitePairTerm(ElementPairTerm):
    """sum_{i<j} s_ij f_ab(r_ij) over pairs within a cutoff, a and b the sites of the two atoms.

    s is a factor by the number of bonds between two atoms of a molecule, 1 for others. With a
    ``switch_width`` f goes to zero before the cutoff with two continuous derivatives, with 0 it is
    cut sharply, as published force fields do. What is cut off can be put back for a liquid that is
    uniform beyond (``tail``): E = 2 pi N^2/V <int f (1 - s) r^2 dr>, over all pairs of sites.

    A term whose f is a sum of ``parts`` gives them in `energy_of`, one with a single f in `energy`.

    Class attributes:
        names: of the parameters of a site.

    Args:
        molecules: each with ``name``, ``numbers``, ``bonds`` and the parameters [n_atoms].
        factors: factor for atoms that are 1, 2, 3 ... bonds apart; 1 for those farther apart.
        cutoff: Angstrom.
        switch_width: Angstrom.
        tail: whether to add what is cut off.
    """

    names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        molecules: Sequence[Mapping[str, Any]],
        factors: Sequence[float],
        cutoff: float = 10.0,
        switch_width: float = 1.0,
        tail: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= switch_width < cutoff < math.inf:
            raise ConfigError(
                f"expected 0 <= switch_width < cutoff, got {switch_width} and {cutoff} A"
            )
        self.templates = Templates.of(molecules)
        self.values = nn.ModuleDict(
            {name: SiteValues(self.templates, site_values(molecules, name)) for name in self.names}
        )
        self.factors = tuple(float(f) for f in factors)
        self.switch_width, self.tail = float(switch_width), bool(tail)
        self.pair_request = PairRequest(float(cutoff), "half")
        self._assign = Assigner(self.templates)
        rows = zip(*(value.row.tolist() for value in self.site_parameters()), strict=True)
        unique, kind = numbered(list(rows))
        self.n_kinds = len(unique)
        first = [kind.index(k) for k in range(self.n_kinds)]
        self.register_buffer("kind_of_site", torch.tensor(kind), persistent=False)
        self.register_buffer("site_of_kind", torch.tensor(first), persistent=False)

    kind_of_site: Tensor
    site_of_kind: Tensor

    def site_parameters(self) -> list[SiteValues]:
        """The parameters in the order of `names`."""
        found = [self.values[name] for name in self.names]
        return [value for value in found if isinstance(value, SiteValues)]

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        values = dict(zip(self.names, self.site_parameters(), strict=True))
        return {
            "molecules": with_values(self.templates, **values),
            "factors": list(self.factors),
            "cutoff": self.pair_request.cutoff,
            "switch_width": self.switch_width,
            "tail": self.tail,
        }

    def requests(self) -> tuple[PairRequest, ...]:
        """A half list within the cutoff."""
        return (self.pair_request,)

    def energy(self, r: Tensor, first: Parameters, second: Parameters) -> Tensor:
        """f(r), eV, for the parameters of the two sites, in the order of `names`."""
        raise NotImplementedError

    def energy_of(
        self, parts: tuple[str, ...], r: Tensor, first: Parameters, second: Parameters
    ) -> Tensor:
        """The sum of some of `parts` of f(r), eV."""
        return self.energy(r, first, second)

    def wanted(self, neighbors: Neighborhood) -> tuple[str, ...]:
        """The parts that are not left out."""
        return tuple(part for part in self.parts if not neighbors.leaves_out(self, part))

    def refuses_owned(self, neighbors: Neighborhood) -> str | None:
        """Molecules are found as a whole, and a tail is that of the whole box."""
        if self.tail:
            return "its tail sums over all atoms"
        return refuses_cut_molecules(neighbors)

    def prepare(self, batch: AtomsBatch) -> SitePlan:
        """Sites and excluded pairs.

        Raises:
            StructureError: a molecule without parameters, or one that has come apart.
        """
        found: Assignment = self._assign(batch)
        near, missing = [], []
        for template in self.templates.molecules:
            pairs = template.pairs(1, len(self.factors))
            apart = template.apart[pairs[:, 0], pairs[:, 1]]
            part = 1.0 - np.array(self.factors)[apart - 1]
            near.append(pairs[part != 0.0])
            missing.append(part[part != 0.0])
        kind = self.kind_of_site.to(batch.device)[found.site].to(torch.int32)
        return SitePlan(found.site, kind, found.listed(near), found.tiled(missing))

    def plan(self, neighbors: Neighborhood) -> SitePlan:
        """The prepared plan."""
        found: SitePlan = neighbors.plan(self)
        return found

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms], eV."""
        plan = self.plan(neighbors)
        energies = super().forward(batch, neighbors, fields)
        if len(plan.missing):
            energies = energies - self._excluded(batch, neighbors, plan)
        return energies + self._tail(batch, neighbors, plan) if self.tail else energies

    def pair_energies(self, batch: AtomsBatch, neighbors: Neighborhood) -> Tensor:
        """Atomic energies [n_atoms] of all pairs, eV, in torch."""
        plan = self.plan(neighbors)
        pairs = neighbors.pairs(self.pair_request)
        sites = self._of(plan, pairs.i, pairs.j)
        energy = self._switched(self.wanted(neighbors), pairs.distance, *sites)
        return share_pairs(energy, pairs, batch.n_atoms)

    def kernel_input(self, batch: AtomsBatch, neighbors: Neighborhood) -> KernelInput | None:
        """Tables for each two kinds of sites; None where they are too many."""
        if self.n_kinds > MOST_KINDS:
            return None
        plan = self.plan(neighbors)
        parts, device = self.wanted(neighbors), batch.device
        table = _TABLES.of(self, lambda: self._tabulate(parts, device), (parts, device))
        return KernelInput(ElementTables(plan.kind, table, self.n_kinds))

    def _tabulate(self, parts: tuple[str, ...], device: torch.device) -> Table:
        n = self.n_kinds
        values = [value()[self.site_of_kind].detach() for value in self.site_parameters()]
        first = tuple(v.repeat_interleave(n)[:, None] for v in values)
        second = tuple(v.repeat(n)[:, None] for v in values)
        cutoff = self.pair_request.cutoff

        def function(r: Tensor) -> Tensor:
            value = self.energy_of(parts, r, first, second)
            width = self.switch_width  # a sharp end is left to the kernel
            return value * switch_off(r, cutoff - width, cutoff) if width else value

        return tabulate(function, cutoff, n * n, device)

    def _of(self, plan: SitePlan, i: Tensor, j: Tensor) -> tuple[Parameters, Parameters]:
        """Parameters of the atoms of pairs."""
        atoms = [value()[plan.site] for value in self.site_parameters()]
        return tuple(v.index_select(0, i) for v in atoms), tuple(
            v.index_select(0, j) for v in atoms
        )

    def _switched(
        self, parts: tuple[str, ...], r: Tensor, first: Parameters, second: Parameters
    ) -> Tensor:
        cutoff, width = self.pair_request.cutoff, self.switch_width
        value = self.energy_of(parts, r, first, second)
        if width:
            return value * switch_off(r, cutoff - width, cutoff)
        return torch.where(r < cutoff, value, 0.0)

    def _excluded(self, batch: AtomsBatch, neighbors: Neighborhood, plan: SitePlan) -> Tensor:
        """The excess energy of excluded pairs of one molecule, [n_atoms]."""
        i, j = plan.near.unbind(1)
        r = torch.linalg.vector_norm(nearest_vectors(batch, i, j), dim=1)
        given = self.kernel_input(batch, neighbors) if neighbors.fast else None
        if given is None or given.elements is None:
            energy = self._switched(self.wanted(neighbors), r, *self._of(plan, i, j))
        else:  # from the same table: what cancels is large and steep
            function = plan.kind[i].long() * self.n_kinds + plan.kind[j].long()
            energy = interpolated(given.elements.table, function, r)
            energy = torch.where(r < self.pair_request.cutoff, energy, 0.0)
        half = 0.5 * plan.missing * energy
        return half.new_zeros(batch.n_atoms).index_add(0, i, half).index_add(0, j, half)

    def _tail(self, batch: AtomsBatch, neighbors: Neighborhood, plan: SitePlan) -> Tensor:
        """An equal share of each box's tail to each of its atoms, [n_atoms]."""
        n = self.n_kinds
        one_hot = torch.nn.functional.one_hot(plan.kind.long(), n).double()
        counts = batch.system_sum(one_hot)  # [n_systems, n_kinds]
        pairs = 0.5 * (counts[:, :, None] * counts[:, None, :] + torch.diag_embed(counts))
        total, parts = batch.counts.double(), self.wanted(neighbors)
        if neighbors.fast and neighbors.parameters is None:  # no function of the parameters
            with torch.no_grad():
                key = (parts, batch.device)
                integrals = _TAILS.of(self, lambda: self._tail_integrals(parts), key)
        else:
            integrals = self._tail_integrals(parts)
        mean = (pairs * integrals).sum((1, 2)) / (0.5 * total * (total + 1.0))
        energy = 2.0 * math.pi * total.square() / batch.volume * mean
        energy = torch.where(batch.periodic, energy, 0.0)
        return (energy / total)[batch.system]

    def _tail_integrals(self, parts: tuple[str, ...]) -> Tensor:
        """int f (1 - s) r^2 dr of each two kinds, [n_kinds, n_kinds], eV A^3."""
        device = self.site_of_kind.device
        x, w = (torch.as_tensor(v, device=device) for v in np.polynomial.legendre.leggauss(NODES))
        u, w = 0.5 * (x + 1.0), 0.5 * w
        cutoff, width = self.pair_request.cutoff, self.switch_width
        values = [value()[self.site_of_kind] for value in self.site_parameters()]
        first = tuple(v[:, None, None] for v in values)
        second = tuple(v[None, :, None] for v in values)
        r = cutoff / u  # beyond the cutoff
        found = (self.energy_of(parts, r, first, second) * w * cutoff**3 / u**4).sum(-1)
        if width:
            r = cutoff - width * (1.0 - u)
            off = 1.0 - switch_off(r, cutoff - width, cutoff)
            value = self.energy_of(parts, r, first, second)
            found = found + (value * off * w * width * r**2).sum(-1)
        return found


def geometric_mean(product: Tensor) -> Tensor:
    """The root of a product; with the derivative 0 where one factor is 0, not an infinite one."""
    positive = product > 0.0
    return torch.where(positive, torch.where(positive, product, 1.0).sqrt(), 0.0)
