"""Shorter lattice vectors of the same lattice, for meshes of skewed cells.

A mesh is spread along the lattice vectors. Where they are far from orthogonal, B-splines reach far
along the long diagonal and the error of forces grows, to ten times the tolerance at angles of ten
degrees; the same lattice has vectors of which the product of lengths is at most twice the volume
(Minkowski reduced), and on those the mesh is as good as in any other box, and smaller.
"""

from __future__ import annotations

import numpy as np
import torch
from ase.geometry.minkowski_reduction import minkowski_reduce
from torch import Tensor

# Product of lengths over volume from which a cell is reduced; fcc has sqrt(2).
SKEWED = 1.42


def reductions(cell: Tensor, periodic: Tensor) -> Tensor | None:
    """Integer matrices M, float64 [n, 3, 3]: the rows of M cell are reduced lattice vectors.

    The identity where a cell is not skewed or not periodic; None where none is. Determinants are 1
    or -1.

    Args:
        cell: [n, 3, 3], lattice vectors as rows, Angstrom.
        periodic: bool [n].
    """
    lengths = torch.linalg.vector_norm(cell.detach(), dim=-1).prod(-1)
    skewed = periodic & (lengths > SKEWED * torch.linalg.det(cell.detach()).abs())
    which = torch.nonzero(skewed)[:, 0].tolist()
    if not which:
        return None
    found = torch.eye(3, dtype=torch.float64).repeat(len(cell), 1, 1)
    for index in which:
        rows = cell[index].detach().cpu().numpy().astype(np.float64)
        found[index] = torch.as_tensor(np.asarray(minkowski_reduce(rows)[1], dtype=np.float64))
    return found.to(cell.device)
