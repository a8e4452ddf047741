r"""A sparse approximate inverse of the hardness matrix.

Charges screen each other: H holds 1/r, but its inverse decays within a few Angstrom. Each row of
the inverse Cholesky factor is therefore nearly the one of a small cluster, and

.. math:: M^{-1} = G^T G, \quad G_{i,:} = \text{last row of } L^{-1}, \; L L^T = H_{cluster(i)}

with the atoms before i that are closest to it as its cluster: factorised sparse approximate inverse
(Kolotilina and Yeremin, SIAM J. Matrix Anal. Appl. 14, 45 (1993)). It is positive definite whatever
the positions. The clusters hold the bare interaction of Gaussians: what a lattice sum adds to it is
nearly constant over a cluster, and the projection on a fixed total charge takes constants out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hff_ase.backends import Backend
from hff_ase.batch import AtomsBatch
from hff_ase.pairs import Rows

RADIUS = 5.0  # Angstrom
LARGEST = 32  # atoms of a cluster, the centre included; a liquid has 25 within the radius
CHUNK = 2048  # clusters factorised at once: 17 MB per array of matrices


class Partners(NamedTuple):
    """Pairs i > j [n_pairs] of a half list, one per pair of atoms, and r_j - r_i [n_pairs, 3]."""

    i: Tensor
    j: Tensor
    vector: Tensor


class SparseInverse:
    """M^-1 = G^T G of a batch at one configuration.

    Args:
        batch: the configuration, without a graph.
        rows: a half list.
        eta: hardness [n_atoms], eV; widths: [n_atoms], Angstrom; prefactor: k_e.
    """

    def __init__(
        self, batch: AtomsBatch, rows: Rows, eta: Tensor, widths: Tensor, prefactor: float
    ) -> None:
        n = batch.n_atoms
        partners = nearest_partners(batch, rows)
        rank = torch.arange(len(partners.i), device=batch.device)
        first = torch.searchsorted(partners.i, torch.arange(n + 1, device=batch.device))
        slot = rank - first[partners.i] + 1  # the centre has slot 0
        size = int(slot.max()) + 1 if len(slot) else 1
        member = torch.full((n, size), -1, device=batch.device)
        member[:, 0] = torch.arange(n, device=batch.device)
        member[partners.i, slot] = partners.j
        place = batch.positions.new_zeros((n, size, 3))
        place[partners.i, slot] = partners.vector
        values = [
            inverse_factor_rows(member[chunk], place[chunk], eta, widths, prefactor)
            for chunk in torch.arange(n, device=batch.device).split(CHUNK)
        ]
        used = member >= 0
        self.start = torch.cat([used.new_zeros(1, dtype=torch.long), used.sum(1).cumsum(0)])
        self.row = torch.nonzero(used)[:, 0]
        self.column = member[used]
        self.value = torch.cat(values)[used]

    def product(self, kernels: Backend | None) -> Callable[[Tensor], Tensor]:
        """The product with M^-1, [n_atoms] to [n_atoms], by a kernel where there is one."""
        if kernels != "numba":
            return self._product
        from hff_ase.kernels.qeq.cpu import factor_product

        start, column, value = (x.numpy() for x in (self.start, self.column, self.value))
        return lambda vector: torch.from_numpy(
            factor_product(start, column, value, vector.detach().numpy())
        )

    def _product(self, vector: Tensor) -> Tensor:
        half = torch.zeros_like(vector)
        half = half.index_add(0, self.row, self.value * vector[self.column])
        return torch.zeros_like(vector).index_add(0, self.column, self.value * half[self.row])


def nearest_partners(batch: AtomsBatch, rows: Rows) -> Partners:
    """For each atom the `LARGEST` - 1 nearest of those before it, sorted by atom and distance."""
    n = batch.n_atoms
    i, j, vector = _pairs(batch, rows)
    distance = torch.linalg.vector_norm(vector, dim=-1)
    keep = (distance < RADIUS) & (i != j)
    i, j, vector, distance = i[keep], j[keep], vector[keep], distance[keep]
    flip = (i < j)[:, None]
    vector = torch.where(flip, -vector, vector)
    i, j = torch.maximum(i, j), torch.minimum(i, j)
    # Of several images of one atom the nearest is taken: a cluster of distinct atoms.
    order = torch.argsort(distance, stable=True)
    order = order[torch.argsort((i * n + j)[order], stable=True)]
    key = (i * n + j)[order]
    order = order[torch.cat([key.new_ones(1, dtype=torch.bool), key[1:] != key[:-1]])[: len(key)]]
    order = order[torch.argsort(distance[order], stable=True)]
    order = order[torch.argsort(i[order], stable=True)]
    first = torch.searchsorted(i[order], torch.arange(n, device=batch.device))
    rank = torch.arange(len(order), device=batch.device) - first[i[order]]
    order = order[rank < LARGEST - 1]
    return Partners(i[order], j[order], vector[order])


def inverse_factor_rows(
    member: Tensor, place: Tensor, eta: Tensor, widths: Tensor, prefactor: float
) -> Tensor:
    """Rows of G for clusters of atoms ``member`` [n, size], centre first, -1 where there is none.

    Args:
        place: positions of the members relative to the centre [n, size, 3], Angstrom.

    Returns:
        [n, size], zero where there is no member.
    """
    used = member >= 0
    atom = member.clamp(min=0)
    s = widths[atom]
    r = torch.cdist(place, place, compute_mode="donot_use_mm_for_euclid_dist")
    inverse = torch.rsqrt(2.0 * (s.square()[:, :, None] + s.square()[:, None, :]))
    own = eta[atom] + prefactor / (math.sqrt(math.pi) * s)
    matrix = prefactor * torch.erf(r * inverse) / r.clamp(min=1e-9)
    both = used[:, :, None] & used[:, None, :]
    matrix = torch.where(both, matrix, torch.zeros_like(matrix))
    diagonal = torch.where(used, own, torch.ones_like(own))
    matrix.diagonal(dim1=1, dim2=2).copy_(diagonal)
    lower, _ = torch.linalg.cholesky_ex(matrix.flip(1, 2))  # the centre last
    last = torch.zeros_like(own)
    last[:, -1] = 1.0
    row = torch.linalg.solve_triangular(lower.mT, last[..., None], upper=True)[..., 0].flip(1)
    jacobi = torch.zeros_like(row)
    jacobi[:, 0] = torch.rsqrt(own[:, 0])
    return torch.where(torch.isfinite(row).all(1, keepdim=True) & (row[:, :1] > 0), row, jacobi)


def _pairs(batch: AtomsBatch, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """i, j [n_pairs] and r_j - r_i [n_pairs, 3] of a list in rows."""
    count = rows.count.long()
    before = torch.cumsum(count, 0) - count
    i = torch.repeat_interleave(torch.arange(batch.n_atoms, device=batch.device), count)
    slot = torch.arange(len(i), device=batch.device) + (rows.start.long() - before)[i]
    j, shift = rows.j[slot].long(), rows.shift[slot].to(batch.cell)
    vector = batch.positions[j] - batch.positions[i]
    vector = vector + torch.einsum("pa,pab->pb", shift, batch.cell[batch.system[i]])
    return i, j, vector
