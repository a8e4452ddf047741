"""Shared by lattice sums: reciprocal lattices, and a limit on their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
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


@dataclass(frozen=True)
class SmoothSum:
    """A part of the potential of given charges, with its energy E = 1/2 sum_i q_i phi_i explicitly
    differentiated, without a graph.

    Attributes:
        phi: float64 [n_atoms], e/Angstrom; also dE/dq, since phi is linear and symmetric in q.
        d_positions: dE/dx [n_atoms, 3], e^2/Angstrom^2.
        d_cell: dE/dcell [n_systems, 3, 3] at fixed Cartesian positions, e^2/Angstrom^2.
    """

    phi: Tensor
    d_positions: Tensor
    d_cell: Tensor

    def __add__(self, other: SmoothSum) -> SmoothSum:
        return SmoothSum(
            self.phi + other.phi, self.d_positions + other.d_positions, self.d_cell + other.d_cell
        )


def cell_gradient(
    batch: AtomsBatch, reciprocal: Tensor, virial: Tensor, d_positions: Tensor
) -> Tensor:
    """dE/dcell at fixed positions, [n_systems, 3, 3].

    A strain of the cell h alone is one of everything less one of the positions x:
    dE/dh = h^-T (virial - x^T dE/dx).

    Args:
        reciprocal: h^-T [n_systems, 3, 3].
        virial: dE/dstrain with positions moving along, [n_systems, 3, 3].
        d_positions: dE/dx [n_atoms, 3].
    """
    moved = batch.system_sum(batch.positions[:, :, None] * d_positions[:, None, :])
    return reciprocal @ (virial - moved)


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
