r"""Fields of charges and dipoles over pairs, damped at short range after Thole.

With r from i to j the gradient of the potential at i is t1 r q_j + t1 mu_j - t2 r (r . mu_j), where
t1 = s1 - (1 - lambda_3)/r^3 and t2 = s2 - 3 (1 - lambda_5)/r^5. s1, s2 are 1/r^3 and 3/r^5 or, in a
box, what is left of them in real space (Smith, CCP5 Newsletter 46, 18 (1998)):
s_n = (1/r d/dr)^n of erfc(alpha r)/r, up to the sign. All follow from dt_n/dr = -r t_{n+1}.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.molecular.assignment import nearest_vectors
from hff_ase.pairs import Pairs

FORMS = ("cubic", "linear")  # of Thole's damping


class Near(NamedTuple):
    """Pairs i, j [n_near] of one molecule whose fields do not count in full, and the part of them
    that is ``missing``; of charges only, or of induced dipoles too."""

    i: Tensor
    j: Tensor
    missing: Tensor
    of_dipoles: bool = False

    def missing_of(self, i: Tensor, j: Tensor, n_atoms: int) -> Tensor:
        """The missing part of the coupling of any two atoms' dipoles, of the shape of i and j."""
        none = torch.zeros(i.shape, dtype=self.missing.dtype, device=i.device)
        if not self.of_dipoles or not len(self.i):
            return none
        low, high = torch.minimum(self.i, self.j), torch.maximum(self.i, self.j)
        known, order = torch.sort(low * n_atoms + high)
        key = torch.minimum(i, j) * n_atoms + torch.maximum(i, j)
        place = torch.searchsorted(known, key).clamp(max=len(known) - 1)
        return torch.where(known[place] == key, self.missing[order][place], none)


class Sites(NamedTuple):
    """Properties of atoms: polarizabilities and damping volumes [n_atoms], A^3, Thole's a, and the
    form of the damping, ``cubic`` (of a u^3) or ``linear`` (of a u)."""

    polarizability: Tensor
    volume: Tensor
    thole: float | Tensor
    form: str = "cubic"

    def detached(self) -> Sites:
        """The same outside any graph."""
        polarizability, volume = self.polarizability.detach(), self.volume.detach()
        return Sites(polarizability, volume, float(self.thole), self.form)

    def decays(self, r: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""1 - lambda_3, 1 - lambda_5 and 1 - lambda_7 of atoms i, j at distances r.

        With u = r/(d_i d_j)^(1/6) and y = a u^3 they are exp(-y) times 1, 1 + y, 1 + y + 3/5 y^2,
        or with y = a u, exp(-y) times 1 + y + y^2/2, the same + y^3/6, the same + y^4/30 (Thole,
        Chem. Phys. 59, 341 (1981); van Duijnen and Swart, J. Phys. Chem. A 102, 2399 (1998)).
        """
        product = self.volume[i] * self.volume[j]
        if self.form == "cubic":
            y = self.thole * r**3 / torch.sqrt(product)
            decay = torch.exp(-y)
            return decay, (1.0 + y) * decay, (1.0 + y + 0.6 * y**2) * decay
        y = self.thole * r * product ** (-1.0 / 6.0)
        decay = torch.exp(-y)
        third = 1.0 + y + 0.5 * y**2
        fifth = third + y**3 / 6.0
        return third * decay, fifth * decay, (fifth + y**4 / 30.0) * decay


class DipolePairSum(Protocol):
    """The sum over a list of pairs, without self-interaction."""

    def field(self, charges: Tensor) -> Tensor:
        """Of charges [n_atoms], [n_atoms, 3] in e/A^2, without a graph."""

    def apply(self, dipoles: Tensor) -> Tensor:
        """T mu [n_atoms, 3], e/A^2, without a graph."""

    def energies(self, charges: Tensor, dipoles: Tensor) -> Tensor:
        """mu_i . (T mu/2 - F)_i [n_atoms], e^2/A, of fixed dipoles, differentiable in positions,
        cell and charges."""


@dataclass(frozen=True)
class PlainDipolePairs:
    """The reference: everything in the graph, sums by torch. ``t1``, ``t2`` [n_pairs]."""

    i: Tensor
    j: Tensor
    vector: Tensor
    t1: Tensor
    t2: Tensor

    def field(self, charges: Tensor) -> Tensor:
        """See `DipolePairSum`."""
        with torch.no_grad():
            return self.field_in_graph(charges)

    def field_in_graph(self, charges: Tensor) -> Tensor:
        """`field` as a function of all that it depends on."""
        return -self._gradient(charges, None)

    def apply(self, dipoles: Tensor) -> Tensor:
        """See `DipolePairSum`."""
        with torch.no_grad():
            return self._gradient(None, dipoles)

    def energies(self, charges: Tensor, dipoles: Tensor) -> Tensor:
        """See `DipolePairSum`."""
        return (dipoles * self._gradient(charges, 0.5 * dipoles)).sum(1)

    def blocks(self) -> Tensor:
        """T of each pair [n_pairs, 3, 3]."""
        one = torch.eye(3, dtype=self.t1.dtype, device=self.t1.device)
        outer = self.vector[:, :, None] * self.vector[:, None]
        return self.t1[:, None, None] * one - self.t2[:, None, None] * outer

    def _gradient(self, charges: Tensor | None, dipoles: Tensor | None) -> Tensor:
        """Of the potential of charges and dipoles, [n_atoms, 3]."""
        i, j, v = self.i, self.j, self.vector
        at_i = at_j = torch.zeros_like(v)
        if charges is not None:
            pull = self.t1[:, None] * v
            at_i, at_j = pull * charges[j, None], -pull * charges[i, None]
            n = len(charges)
        if dipoles is not None:
            at_i = at_i + self._block(dipoles[j])
            at_j = at_j + self._block(dipoles[i])
            n = len(dipoles)
        return v.new_zeros((n, 3)).index_add(0, i, at_i).index_add(0, j, at_j)

    def _block(self, dipoles: Tensor) -> Tensor:
        along = (self.vector * dipoles).sum(1)
        return self.t1[:, None] * dipoles - (self.t2 * along)[:, None] * self.vector


def plain_pairs(
    batch: AtomsBatch, sites: Sites, pairs: Pairs, alpha: float, cutoff: float
) -> PlainDipolePairs:
    """Pairs of boxes within the cutoff with ``alpha`` > 0, all pairs of molecules with 0."""
    i, j, vector, r = pairs.i, pairs.j, pairs.vector, pairs.distance
    counts = batch.periodic[batch.system[i]] == (alpha > 0)
    if alpha > 0:
        counts = counts & (r.detach() < cutoff)
    t1, t2 = thole_factors(r, sites.decays(r, i, j), alpha)
    zero = torch.zeros_like(r)
    return PlainDipolePairs(
        i, j, vector, torch.where(counts, t1, zero), torch.where(counts, t2, zero)
    )


def missing_pairs(batch: AtomsBatch, sites: Sites, near: Near) -> PlainDipolePairs:
    """Minus the excluded interaction of near pairs' charges and dipoles."""
    i, j = near.i, near.j
    vector = nearest_vectors(batch, i, j)
    r = torch.linalg.vector_norm(vector, dim=1)
    t1, t2 = thole_factors(r, sites.decays(r, i, j), 0.0)
    return PlainDipolePairs(i, j, vector, -near.missing * t1, -near.missing * t2)


def thole_factors(r: Tensor, decays: tuple[Tensor, ...], alpha: float) -> tuple[Tensor, Tensor]:
    """t1 and t2 for distances and 1 - lambda_3, 1 - lambda_5; alpha = 0 for the whole
    interaction."""
    b1, b2 = 1.0 / r**3, 3.0 / r**5
    s1, s2 = b1, b2
    if alpha > 0:
        gauss = 2.0 * alpha / math.sqrt(math.pi) * torch.exp(-((alpha * r) ** 2))
        s1 = (torch.erfc(alpha * r) / r + gauss) / r**2
        s2 = (3.0 * s1 + 2.0 * alpha**2 * gauss) / r**2
    return s1 - decays[0] * b1, s2 - decays[1] * b2


def missing_field(batch: AtomsBatch, sites: Sites, near: Near, charges: Tensor) -> Tensor:
    """The excluded field of near pairs' charges, [n_atoms, 3] in e/A^2, in the graph."""
    if near.of_dipoles or not len(near.i):
        return torch.zeros_like(batch.positions)
    vector = nearest_vectors(batch, near.i, near.j)
    r = torch.linalg.vector_norm(vector, dim=1)
    strength = (1.0 - sites.decays(r, near.i, near.j)[0]) * near.missing / r**3
    pull = strength[:, None] * vector
    at_i, at_j = -pull * charges[near.j, None], pull * charges[near.i, None]
    zero = torch.zeros_like(batch.positions)
    return zero.index_add(0, near.i, at_i).index_add(0, near.j, at_j)
