r"""The preconditioner of charge equilibration: inverse hardness matrices of small clusters.

The clusters hold the bare interaction of Gaussians: what a lattice sum adds to it is nearly
constant over a cluster, and the projection on a fixed total charge takes constants out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.sparse_inverse import SparseInverse, inverse_factor_rows
from hff_ase.pairs import Rows

RADIUS = 5.0  # Angstrom


def charge_inverse(
    batch: AtomsBatch, rows: Rows, eta: Tensor, widths: Tensor, prefactor: float
) -> SparseInverse:
    """M^-1 of the hardness matrix.

    Args:
        batch: the configuration, without a graph.
        rows: a half list.
        eta: hardness [n_atoms], eV; widths: [n_atoms], Angstrom; prefactor: k_e.
    """

    def rows_of(member: Tensor, place: Tensor) -> Tensor:
        atom = member.clamp(min=0)
        s = widths[atom]
        r = torch.cdist(place, place, compute_mode="donot_use_mm_for_euclid_dist")
        inverse = torch.rsqrt(2.0 * (s.square()[:, :, None] + s.square()[:, None, :]))
        found = prefactor * torch.erf(r * inverse) / r.clamp(min=1e-9)
        found.diagonal(dim1=1, dim2=2).copy_(eta[atom] + prefactor / (math.sqrt(math.pi) * s))
        return inverse_factor_rows(member, found[:, :, None, :, None])

    return SparseInverse(batch, rows, rows_of, 1, RADIUS)
