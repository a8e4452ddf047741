"""Charges and dipoles over a list of pairs, by numba kernels."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.explicit import given_gradient
from hff_ase.kernels.induction import cpu as kernels
from hff_ase.kernels.induction.table import boys_table
from hff_ase.kernels.threads import FEWEST, share
from hff_ase.pairs import Rows

_cpu: Any = kernels  # typed loosely: argument lists are kept as tuples


@cache
def _table() -> NDArray[np.float64]:
    return boys_table()


class FusedDipolePairs:
    """`hff_ase.longrange.induction.pairs.DipolePairSum` for one configuration.

    The factors are computed once and serve every product; derivatives are computed anew from the
    positions, of sums of energies over whole systems.

    Args:
        batch: the configuration, in a graph or not.
        volume: [n_atoms], damping volumes, A^3.
        thole: Thole's a.
        rows: a half list.
        included: bool [n_systems], the systems whose pairs count.
        alpha: splitting parameter, 1/Angstrom; 0 for the whole interaction.
        cutoff: Angstrom.
    """

    def __init__(
        self,
        batch: AtomsBatch,
        volume: Tensor,
        thole: float,
        rows: Rows,
        included: Tensor,
        alpha: float,
        cutoff: float,
    ) -> None:
        self._batch = batch
        shape = volume.rsqrt()
        arrays = (batch.positions, batch.cell, batch.system, included, shape)
        geometry = (_array(x) for x in arrays)
        pairs = (_array(x) for x in (rows.start, rows.count, rows.j, rows.shift))
        self._start = _array(rows.start)
        self._arguments = (*geometry, thole, *pairs, alpha, cutoff, _table())
        n_atoms, n_slots = batch.n_atoms, rows.j.shape[0]
        kept, partner = np.zeros(n_atoms, np.int32), np.empty(n_slots, np.int32)
        self._packed = (kept, partner, np.empty((n_slots, 5)))
        share(_cpu.pair_factors, n_atoms, *self._arguments, *self._packed)

    def field(self, charges: Tensor) -> Tensor:
        """F of charges [n_atoms, 3], e/A^2, without a graph."""
        return torch.from_numpy(_cpu.pair_field(self._start, *self._packed, _array(charges)))

    def apply(self, dipoles: Tensor) -> Tensor:
        """T mu [n_atoms, 3], e/A^2, without a graph."""
        return torch.from_numpy(_cpu.pair_product(self._start, *self._packed, _array(dipoles)))

    def energies(self, charges: Tensor, dipoles: Tensor) -> Tensor:
        """mu_i . (T mu/2 - F)_i [n_atoms], e^2/A, of fixed dipoles."""
        # A fixed number of blocks: the sums do not depend on the number of threads.
        batch, n_blocks = self._batch, kernels.BLOCKS
        to_atoms = np.zeros((n_blocks, batch.n_atoms, 5))
        to_cells = np.zeros((n_blocks, batch.n_systems, 3, 3))
        fewest = 1 if batch.n_atoms >= FEWEST else n_blocks + 1
        what = (*self._arguments, _array(charges), _array(dipoles), to_atoms, to_cells)
        share(_cpu.pair_energies, n_blocks, *what, fewest=fewest)
        atoms, cells = torch.from_numpy(to_atoms.sum(0)), torch.from_numpy(to_cells.sum(0))
        energies, d_positions, d_charges = atoms[:, 0], atoms[:, 1:4], atoms[:, 4]
        return given_gradient(energies, batch, d_positions, cells, charges, d_charges)


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().numpy())
