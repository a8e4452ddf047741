"""What starts induced dipoles: the inverse of alpha^-1 + T of small clusters.

The clusters hold the bare damped interaction; what farther dipoles add changes the spectrum of
M^-1 (alpha^-1 + T) to no more than 0.7 ... 1.5 in a liquid (docs/decisions/dipole-solver.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hff_ase.backends import Backend
from hff_ase.batch import AtomsBatch
from hff_ase.longrange.induction.pairs import Near, Sites, thole_factors
from hff_ase.longrange.sparse_inverse import SparseInverse, inverse_factor_rows
from hff_ase.pairs import Rows

RADIUS = 3.0  # Angstrom


def dipole_inverse(
    batch: AtomsBatch,
    rows: Rows,
    sites: Sites,
    kernels: Backend | None,
    near: Near | None = None,
) -> SparseInverse:
    """M^-1 of alpha^-1 + T.

    Args:
        batch: the configuration, without a graph.
        rows: a half list.
        sites: of its atoms.
        kernels: that may be used.
        near: pairs whose dipoles do not couple in full; None where all do.
    """
    plain = sites.form != "cubic" or near is not None

    def rows_of(member: Tensor, place: Tensor) -> Tensor:
        if kernels == "numba" and not plain:
            from hff_ase.kernels.induction.clusters import dipole_rows

            return dipole_rows(
                member, place, sites.polarizability, sites.volume, float(sites.thole)
            )
        return inverse_factor_rows(member, cluster_matrix(member, place, sites, near))

    return SparseInverse(batch, rows, rows_of, 3, RADIUS)


def cluster_matrix(member: Tensor, place: Tensor, sites: Sites, near: Near | None = None) -> Tensor:
    """alpha^-1 + T of clusters, [n, size, 3, size, 3]."""
    atom = member.clamp(min=0)
    i, j = atom[:, :, None], atom[:, None, :]
    vector = place[:, None, :, :] - place[:, :, None, :]
    r = torch.linalg.vector_norm(vector, dim=-1).clamp(min=1e-3)
    t1, t2 = thole_factors(r, sites.decays(r, i, j), 0.0)
    if near is not None:
        first, second = torch.broadcast_tensors(i, j)
        kept = 1.0 - near.missing_of(first, second, len(sites.polarizability))
        t1, t2 = kept * t1, kept * t2
    one = torch.eye(3, dtype=r.dtype, device=r.device)
    blocks = t1[..., None, None] * one
    blocks = blocks - t2[..., None, None] * vector[..., :, None] * vector[..., None, :]
    own = (1.0 / sites.polarizability[atom])[..., None, None] * one
    blocks.diagonal(dim1=1, dim2=2).copy_(own.permute(0, 2, 3, 1))
    return blocks.permute(0, 1, 3, 2, 4)
