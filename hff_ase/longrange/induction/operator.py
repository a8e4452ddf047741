r"""alpha^-1 + T of induced dipoles as an operator: products without the matrix.

Pairs within the cutoff, the smooth part of the lattice sum, and the polarizabilities. Positions are
fixed during a solve, so that everything that depends on them is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hff_ase.longrange.induction.pairs import DipolePairSum
from hff_ase.longrange.induction.smooth import SmoothDipoles


class DipoleOperator:
    """The problem of a batch at one configuration, in units of k_e.

    Args:
        polarizability: [n_atoms], A^3.
        pairs: the real-space sums.
        smooth: the rest in boxes; None without boxes.
        missing: what is to be taken off the field of charges [n_atoms, 3], e/A^2, in the graph.
    """

    def __init__(
        self,
        polarizability: Tensor,
        pairs: Sequence[DipolePairSum],
        smooth: SmoothDipoles | None,
        missing: Tensor,
    ) -> None:
        self._polarizability, self._missing = polarizability, missing
        self._inverse = 1.0 / polarizability.detach()[:, None]
        self._sums = [*pairs, *([] if smooth is None else [smooth])]

    def field(self, charges: Tensor) -> Tensor:
        """F [n_atoms, 3], e/A^2, without a graph."""
        with torch.no_grad():
            field = -self._missing
            for part in self._sums:
                field = field + part.field(charges)
            return field

    def __call__(self, dipoles: Tensor) -> Tensor:
        """(alpha^-1 + T) mu [n_atoms, 3], e/A^2, without a graph."""
        with torch.no_grad():
            found = self._inverse * dipoles
            for part in self._sums:
                found = found + part.apply(dipoles)
            return found

    def energies(self, charges: Tensor, dipoles: Tensor) -> Tensor:
        """mu_i . [(alpha^-1 + T) mu/2 - F]_i [n_atoms], e^2/A, of fixed dipoles, differentiable in
        all else."""
        energies = 0.5 * dipoles.square().sum(1) / self._polarizability
        energies = energies + (dipoles * self._missing).sum(1)
        for part in self._sums:
            energies = energies + part.energies(charges, dipoles)
        return energies
