r"""A sparse approximate inverse of a matrix whose inverse is short-ranged.

Charges and dipoles screen each other: their matrix is long-ranged, its inverse decays within a few
Angstrom. Each row of the inverse Cholesky factor is therefore nearly the one of a small cluster,
and

.. math:: M^{-1} = G^T G, \quad G_{i,:} = \text{last row of } L^{-1}, \; L L^T = A_{cluster(i)}

with the atoms before i that are closest to it as its cluster: factorised sparse approximate inverse
(Kolotilina and Yeremin, SIAM J. Matrix Anal. Appl. 14, 45 (1993)). It is positive definite whatever
the positions. An atom may have several unknowns; rows are then blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hff_ase.backends import Backend
from hff_ase.batch import AtomsBatch
from hff_ase.pairs import Rows

LARGEST = 32  # atoms of a cluster, the centre included; a liquid has 25 within 5 Angstrom
CHUNK = 2048  # clusters factorised at once, of one unknown per atom: 17 MB per array of matrices

ClusterRows = Callable[[Tensor, Tensor], Tensor]
"""Members [n, size], centre first, -1 behind where there is none, and their positions relative to
the centre [n, size, 3] to the rows of G [n, size, b, b] (`inverse_factor_rows`)."""


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
        rows_of: clusters.
        unknowns: b, of an atom.
        radius: of the clusters, Angstrom.
    """

    def __init__(
        self, batch: AtomsBatch, rows: Rows, rows_of: ClusterRows, unknowns: int, radius: float
    ) -> None:
        n = batch.n_atoms
        partners = nearest_partners(batch, rows, radius)
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
            rows_of(member[chunk], place[chunk])
            for chunk in torch.arange(n, device=batch.device).split(CHUNK // unknowns**2)
        ]
        used = member >= 0
        self.start = torch.cat([used.new_zeros(1, dtype=torch.long), used.sum(1).cumsum(0)])
        self.row = torch.nonzero(used)[:, 0]
        self.column = member[used]
        self.value = torch.cat(values)[used]  # [n_entries, b, b]

    def product(self, kernels: Backend | None) -> Callable[[Tensor], Tensor]:
        """The product with M^-1, [n_atoms] or [n_atoms, b] to the same, by a kernel where there is
        one."""
        if kernels != "numba":
            return self._product
        from hff_ase.kernels.sparse_inverse import block_product, factor_product

        start, column, value = (x.numpy() for x in (self.start, self.column, self.value))
        if value.shape[1] == 1:
            flat = value[:, 0, 0].copy()
            return lambda v: torch.from_numpy(
                factor_product(start, column, flat, v.detach().numpy())
            )
        return lambda v: torch.from_numpy(
            block_product(start, column, value, v.detach().contiguous().numpy())
        )

    def _product(self, vector: Tensor) -> Tensor:
        v = vector.reshape(len(vector), -1)
        half = torch.zeros_like(v)
        half = half.index_add(0, self.row, (self.value @ v[self.column, :, None])[..., 0])
        out = (self.value.mT @ half[self.row, :, None])[..., 0]
        return torch.zeros_like(v).index_add(0, self.column, out).view_as(vector)


def nearest_partners(batch: AtomsBatch, rows: Rows, radius: float) -> Partners:
    """For each atom the `LARGEST` - 1 nearest of those before it, sorted by atom and distance."""
    n = batch.n_atoms
    i, j, vector = _pairs(batch, rows)
    distance = torch.linalg.vector_norm(vector, dim=-1)
    keep = (distance < radius) & (i != j)
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


def inverse_factor_rows(member: Tensor, matrix: Tensor) -> Tensor:
    """Rows of G for clusters of atoms ``member`` [n, size], centre first, -1 where there is none.

    Args:
        matrix: of the clusters [n, size, b, size, b]; what it says of no member does not count.

    Returns:
        [n, size, b, b], zero where there is no member: a row of G per unknown of the centre.
    """
    n, size, b = matrix.shape[:3]
    used = (member >= 0)[:, :, None].expand(-1, -1, b)
    both = used[:, :, :, None, None] & used[:, None, None]
    matrix = torch.where(both, matrix, torch.zeros_like(matrix))
    centre = matrix[:, 0, :, 0, :]
    flat = matrix.flip(1, 3).reshape(n, size * b, size * b)  # the centre last
    flat = flat + torch.diag_embed((~used).flip(1).flatten(1).to(flat))
    lower, _ = torch.linalg.cholesky_ex(flat)
    last = torch.zeros((n, size * b, b), dtype=flat.dtype, device=flat.device)
    last[:, -b:] = torch.eye(b, dtype=flat.dtype, device=flat.device)
    rows = torch.linalg.solve_triangular(lower.mT, last, upper=True)
    rows = rows.view(n, size, b, b).flip(1).mT  # [cluster, member, row of G, unknown of the member]
    alone = torch.zeros_like(rows)
    alone[:, 0] = torch.diag_embed(torch.rsqrt(centre.diagonal(dim1=1, dim2=2)))
    diagonal = rows[:, 0].diagonal(dim1=1, dim2=2)
    good = torch.isfinite(rows).flatten(1).all(1) & (diagonal > 0).all(1)
    return torch.where(good[:, None, None, None], rows, alone)


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
