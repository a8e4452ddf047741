"""Charges and dipoles over a list of pairs, by numba kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.explicit import given_gradient
from hff_ase.kernels.induction import cpu as kernels
from hff_ase.kernels.induction.table import radial_table
from hff_ase.kernels.threads import FEWEST, share
from hff_ase.pairs import Rows

if TYPE_CHECKING:  # whose sums these are
    from hff_ase.longrange.induction.pairs import Sites

_cpu: Any = kernels  # typed loosely: argument lists are kept as tuples


class FusedDipolePairs:
    """`hff_ase.longrange.induction.pairs.DipolePairSum` for one configuration.

    The factors are computed once and serve every product and the derivatives, which are those of
    sums of energies over whole systems.

    Args:
        batch: the configuration, in a graph or not.
        sites: what atoms are, outside any graph.
        rows: a half list.
        included: bool [n_systems], the systems whose pairs count.
        alpha: splitting parameter, 1/Angstrom; 0 for the whole interaction.
        cutoff: Angstrom.
    """

    def __init__(
        self,
        batch: AtomsBatch,
        sites: Sites,
        rows: Rows,
        included: Tensor,
        alpha: float,
        cutoff: float,
    ) -> None:
        self._batch, self._in_boxes = batch, alpha > 0.0
        linear = sites.form == "linear"
        shape = sites.volume ** (-1.0 / 6.0 if linear else -0.5)
        arrays = (batch.positions, batch.cell, batch.system, included, shape)
        geometry = (_array(x) for x in arrays)
        pairs = (_array(x) for x in (rows.start, rows.count, rows.j, rows.shift))
        what = (*geometry, float(sites.thole), linear, *pairs, cutoff, radial_table(alpha, cutoff))
        n_atoms, n_slots = batch.n_atoms, rows.j.shape[0]
        kept, partner = np.zeros(n_atoms, np.int32), np.empty(n_slots, np.int32)
        packed = (kept, partner, np.empty((n_slots, 6)))
        share(_cpu.pair_factors, n_atoms, *what, *packed)
        self._packed = (_array(rows.start), *packed)

    def field(self, charges: Tensor) -> Tensor:
        """F of charges [n_atoms, 3], e/A^2, without a graph."""
        return torch.from_numpy(_cpu.pair_field(*self._packed, _array(charges)))

    def apply(self, dipoles: Tensor) -> Tensor:
        """T mu [n_atoms, 3], e/A^2, without a graph."""
        return torch.from_numpy(_cpu.pair_product(*self._packed, _array(dipoles)))

    def energies(self, charges: Tensor, dipoles: Tensor) -> Tensor:
        """mu_i . (T mu/2 - F)_i [n_atoms], e^2/A, of fixed dipoles."""
        # A fixed number of blocks: the sums do not depend on the number of threads.
        batch, n_blocks = self._batch, kernels.BLOCKS
        to_atoms = np.zeros((n_blocks, batch.n_atoms, 5))
        to_strain = np.zeros((n_blocks, batch.n_systems, 3, 3))
        fewest = 1 if batch.n_atoms >= FEWEST else n_blocks + 1
        sources = (_array(charges), _array(dipoles))
        what = (_array(batch.system), *self._packed, *sources, to_atoms, to_strain)
        share(_cpu.pair_energies, n_blocks, *what, fewest=fewest)
        atoms, virial = torch.from_numpy(to_atoms.sum(0)), torch.from_numpy(to_strain.sum(0))
        energies, d_positions, d_charges = atoms[:, 0], atoms[:, 1:4], atoms[:, 4]
        cells = self._to_cells(virial, d_positions) if self._in_boxes else None
        return given_gradient(energies, batch, d_positions, cells, charges, d_charges)

    def _to_cells(self, virial: Tensor, d_positions: Tensor) -> Tensor:
        """dE/dcell at fixed positions [n_systems, 3, 3]: a strain of the cell h alone is one of
        everything less one of the positions x, h^-T (virial - x^T dE/dx)."""
        batch = self._batch.detached()
        moved = batch.system_sum(batch.positions[:, :, None] * d_positions[:, None, :])
        cells = torch.linalg.inv_ex(batch.cell)[0].mT @ (virial - moved)
        return cells if batch.all_periodic else cells * batch.periodic[:, None, None]


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().numpy())
