"""Potential of Gaussian charges over a list of pairs, by numba kernels."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.qeq import cpu as kernels
from hff_ase.kernels.qeq.table import boys_table
from hff_ase.kernels.threads import FEWEST, share
from hff_ase.pairs import Rows

_cpu: Any = kernels  # typed loosely: argument lists are kept as tuples


@cache
def _table() -> NDArray[np.float64]:
    return boys_table()


class FusedPairSum:
    """phi_i = sum_j w_ij q_j with w = erf(r/g)/r - erf(alpha r)/r, for one configuration.

    The weights are computed once and serve every product; derivatives are recomputed from the
    positions, so that nothing else is kept per pair.

    Args:
        widths: standard deviations s of the Gaussians [n_atoms], Angstrom; g^2 = 2 (s_i^2 + s_j^2).
        rows: a half list.
        included: bool [n_systems], the systems whose pairs count.
        alpha: splitting parameter, 1/Angstrom; 0 for the whole interaction.
        cutoff: Angstrom.
    """

    def __init__(
        self,
        batch: AtomsBatch,
        widths: Tensor,
        rows: Rows,
        included: Tensor,
        alpha: float,
        cutoff: float,
    ) -> None:
        self._batch = batch
        arrays = (batch.positions, batch.cell, batch.system, included, widths)
        geometry = (_array(x) for x in arrays)
        pairs = (_array(x) for x in (rows.start, rows.count, rows.j, rows.shift))
        self._start = _array(rows.start)
        self._arguments = (*geometry, *pairs, alpha, cutoff, _table())
        n_atoms, n_slots = batch.n_atoms, rows.j.shape[0]
        kept, partner = np.zeros(n_atoms, np.int32), np.empty(n_slots, np.int32)
        self._packed = (kept, partner, np.empty(n_slots))
        share(_cpu.pair_weights, n_atoms, *self._arguments, *self._packed)

    def apply(self, charges: Tensor) -> Tensor:
        """phi [n_atoms], e/Angstrom, without a graph."""
        return torch.from_numpy(_cpu.pair_product(self._start, *self._packed, _array(charges)))

    def potential(self, charges: Tensor) -> Tensor:
        """phi [n_atoms] of fixed charges, differentiable once in positions and cell."""
        return _Potential.apply(self._batch.positions, self._batch.cell, charges, self)

    def gradient(self, left: Tensor, charges: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of left . phi: [n_atoms, 3] and [n_systems, 3, 3]."""
        # A fixed number of blocks: the sums do not depend on the number of threads.
        n_blocks, n_atoms = kernels.BLOCKS, self._batch.n_atoms
        to_atoms = np.zeros((n_blocks, n_atoms, 3))
        to_cells = np.zeros((n_blocks, self._batch.n_systems, 3, 3))
        sums = (to_atoms, to_cells)
        fewest = 1 if n_atoms >= FEWEST else n_blocks + 1
        what = (*self._arguments, _array(left), _array(charges), *sums)
        share(_cpu.pair_gradient, n_blocks, *what, fewest=fewest)
        return torch.from_numpy(to_atoms.sum(0)), torch.from_numpy(to_cells.sum(0))


class _Potential(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, cell: Tensor, charges: Tensor, pairs: FusedPairSum
    ) -> Tensor:
        ctx.charges, ctx.pairs = charges.detach(), pairs
        return pairs.apply(charges)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        to_positions, to_cell = ctx.pairs.gradient(grads[0], ctx.charges)
        return to_positions, to_cell, None, None


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().numpy())
