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


class Near(NamedTuple):
    """Pairs i, j [n_near] of one molecule whose charges' fields do not count in full, and the part
    of them that is ``missing``."""

    i: Tensor
    j: Tensor
    missing: Tensor


class Sites(NamedTuple):
    """What atoms are: polarizabilities and damping volumes [n_atoms], A^3, and Thole's a."""

    polarizability: Tensor
    volume: Tensor
    thole: float | Tensor

    def detached(self) -> Sites:
        """The same outside any graph."""
        return Sites(self.polarizability.detach(), self.volume.detach(), float(self.thole))

    def exponent(self, r: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """a u^3 of atoms i, j at distances r."""
        return self.thole * r**3 / torch.sqrt(self.volume[i] * self.volume[j])


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
    t1, t2 = thole_factors(r, sites.exponent(r, i, j), alpha)
    zero = torch.zeros_like(r)
    return PlainDipolePairs(
        i, j, vector, torch.where(counts, t1, zero), torch.where(counts, t2, zero)
    )


def thole_factors(r: Tensor, exponent: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """t1 and t2 for distances and a u^3, of the same shape; alpha = 0 for the whole interaction."""
    b1, b2 = 1.0 / r**3, 3.0 / r**5
    s1, s2 = b1, b2
    if alpha > 0:
        gauss = 2.0 * alpha / math.sqrt(math.pi) * torch.exp(-((alpha * r) ** 2))
        s1 = (torch.erfc(alpha * r) / r + gauss) / r**2
        s2 = (3.0 * s1 + 2.0 * alpha**2 * gauss) / r**2
    decay = torch.exp(-exponent)
    return s1 - decay * b1, s2 - (1.0 + exponent) * decay * b2


def missing_field(batch: AtomsBatch, sites: Sites, near: Near, charges: Tensor) -> Tensor:
    """The field of charges that near pairs are not to have, [n_atoms, 3] in e/A^2, in the graph."""
    if not len(near.i):
        return torch.zeros_like(batch.positions)
    vector = nearest_vectors(batch, near.i, near.j)
    r = torch.linalg.vector_norm(vector, dim=1)
    strength = -torch.expm1(-sites.exponent(r, near.i, near.j)) * near.missing / r**3
    pull = strength[:, None] * vector
    at_i, at_j = -pull * charges[near.j, None], pull * charges[near.i, None]
    zero = torch.zeros_like(batch.positions)
    return zero.index_add(0, near.i, at_i).index_add(0, near.j, at_j)
