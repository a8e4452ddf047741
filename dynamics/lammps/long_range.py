"""The smooth part of 1/r over the charges of all processes: by the package's own mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.ewald import explicit_corrections
from hff_ase.terms.coulomb import Coulomb

if TYPE_CHECKING:
    from hff_ase.dynamics.lammps.exchange import MPIHalo


class LongRange(Protocol):
    """What sums over the charges of all processes."""

    def renew(self, names: np.ndarray) -> None:
        """Own atoms are these now, or have moved as far as they may together; called by all."""

    def close(self) -> None:
        """Nothing is asked for any more."""

    def reciprocal(
        self, positions: Tensor, cell: Tensor, charges: Tensor, halo: MPIHalo
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `hff_ase.halo.Halo.reciprocal`."""


class OwnMesh:
    """One mesh (or one set of waves) that all processes add to and transform whole.

    Args:
        coulomb: whose sum it is.
    """

    def __init__(self, coulomb: Coulomb) -> None:
        self.coulomb = coulomb
        self._plan: Any = None

    def renew(self, names: np.ndarray) -> None:
        """Choose the mesh again."""
        self._plan = None

    def close(self) -> None:
        """Nothing is to be ended."""

    def reciprocal(
        self, positions: Tensor, cell: Tensor, charges: Tensor, halo: MPIHalo
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `hff_ase.halo.Halo.reciprocal`."""
        n = len(charges)
        batch, q = charges_in_box(positions, cell, charges)
        method = self.coulomb.reciprocal
        if self._plan is None:
            self._plan = method.prepare(batch)
        found = method.explicit(batch, q, self._plan, halo)
        found = found + explicit_corrections(batch, q, self.coulomb.alpha, halo)
        return found.phi[:n], found.d_positions[:n], found.d_cell


def charges_in_box(positions: Tensor, cell: Tensor, charges: Tensor) -> tuple[AtomsBatch, Tensor]:
    """Own atoms of a process as a batch with their charges, without a graph; of a process without
    atoms a charge of nothing, so that sums are there.

    Args:
        positions: [n, 3], Angstrom; cell: [1, 3, 3]; charges: [n], e.
    """
    if not len(charges):
        positions, charges = positions.new_zeros(1, 3), charges.new_zeros(1)
    batch = AtomsBatch.of(
        {
            "positions": positions.detach(),
            "numbers": torch.ones_like(charges, dtype=torch.int64),
            "system": torch.zeros_like(charges, dtype=torch.int64),
            "cell": cell.detach(),
            "periodic": torch.ones(1, dtype=torch.bool, device=cell.device),
            "charge": charges.new_zeros(1),
        }
    )
    return batch, charges.detach().contiguous()
