"""Reciprocal lattices, by cross products: for 3x3 matrices far quicker than a general solver."""

from __future__ import annotations

import torch
from torch import Tensor


def reciprocal_lattice(cell: Tensor) -> tuple[Tensor, Tensor]:
    """Rows b_a with b_a . a_b = delta_ab (no 2 pi), [n, 3, 3] in 1/Angstrom, and volumes [n].

    Args:
        cell: lattice vectors as rows, [n, 3, 3], Angstrom.
    """
    faces = torch.linalg.cross(cell.roll(-1, 1), cell.roll(-2, 1), dim=-1)
    determinant = (cell[:, 0] * faces[:, 0]).sum(-1)
    return faces / determinant[:, None, None], determinant.abs()
