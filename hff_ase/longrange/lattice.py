"""What lattice sums share: reciprocal lattices, and a limit on their size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hff_ase.errors import StructureError

# Mesh points or wave vectors of one system; 1e8 take about 3 GB. A million-atom liquid needs 1e7.
MAX_POINTS = 10**8


def reciprocal_lattice(cell: Tensor) -> tuple[Tensor, Tensor]:
    """Rows b_a with b_a . a_b = delta_ab (no 2 pi), [n, 3, 3] in 1/Angstrom, and volumes [n].

    By cross products: for 3x3 matrices far quicker than a general solver.

    Args:
        cell: lattice vectors as rows, [n, 3, 3], Angstrom.
    """
    faces = torch.linalg.cross(cell.roll(-1, 1), cell.roll(-2, 1), dim=-1)
    determinant = (cell[:, 0] * faces[:, 0]).sum(-1)
    return faces / determinant[:, None, None], determinant.abs()


def refuse_huge(points: int, what: str, lengths: Sequence[float]) -> None:
    """Refuse a box whose lattice sum would not fit into memory.

    Raises:
        StructureError: names the box and the size it would need.
    """
    if points > MAX_POINTS:
        box = " x ".join(f"{length:.4g}" for length in lengths)
        raise StructureError(
            f"expected a box whose Coulomb sum needs at most {MAX_POINTS:.2g} {what}, got "
            f"{points:.2g} for {box} A: turn pbc off for a molecule in an empty box"
        )
