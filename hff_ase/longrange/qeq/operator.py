r"""The hardness matrix H of charge equilibration as an operator: products without the matrix.

H q = eta q + k_e J q, with J the interaction of Gaussians (`hff_ase.longrange.qeq.matrix`): pairs
within the cutoff, the smooth part on a mesh, self-interaction and background. Positions are
fixed during a solve, so that everything that depends on them is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.ewald import ReciprocalEwald
from hff_ase.longrange.pairs import sum_pairs
from hff_ase.longrange.pme import ReciprocalPME
from hff_ase.longrange.qeq.matrix import GaussianPairs, background_potential, self_interaction


class PairSum(Protocol):
    """phi_i = sum_j w_ij q_j over the pairs of a real-space sum, weights known."""

    def apply(self, charges: Tensor) -> Tensor:
        """phi [n_atoms], e/Angstrom, without a graph."""

    def potential(self, charges: Tensor) -> Tensor:
        """phi [n_atoms] of fixed charges, differentiable in positions and cell."""


@dataclass(frozen=True)
class PlainPairSum:
    """The reference: weights in the graph, sums by torch."""

    pairs: GaussianPairs

    def apply(self, charges: Tensor) -> Tensor:
        """phi [n_atoms], e/Angstrom, without a graph."""
        i, j, weight = self.pairs
        return sum_pairs(charges, i, j, weight.detach())

    def potential(self, charges: Tensor) -> Tensor:
        """phi [n_atoms], differentiable in all that the weights depend on."""
        return sum_pairs(charges, *self.pairs)


class HardnessOperator:
    """H of a batch at one configuration, eV/e^2.

    Args:
        eta: hardness [n_atoms], eV; widths: of the Gaussians [n_atoms], Angstrom.
        pairs: the real-space sums.
        reciprocal, plan: the smooth part in boxes and what it prepared; plan None without boxes.
        prefactor: k_e, eV Angstrom/e^2.
    """

    def __init__(
        self,
        batch: AtomsBatch,
        eta: Tensor,
        widths: Tensor,
        pairs: Sequence[PairSum],
        reciprocal: ReciprocalPME | ReciprocalEwald,
        plan: Any,
        prefactor: float,
    ) -> None:
        self.batch, self.widths, self.pairs = batch, widths, pairs
        self.reciprocal, self.plan, self.prefactor = reciprocal, plan, prefactor
        with torch.no_grad():
            frozen = batch.moved(batch.positions.detach(), batch.cell.detach())
            own = self_interaction(batch, widths, reciprocal.alpha)
            self.diagonal = eta.detach() + prefactor * own.detach()
            self._frozen = frozen
            self._smooth = _bound(reciprocal, frozen, plan)

    def __call__(self, charges: Tensor) -> Tensor:
        """H q [n_atoms], eV/e, without a graph."""
        with torch.no_grad():
            phi = torch.zeros_like(charges)
            for pairs in self.pairs:
                phi = phi + pairs.apply(charges)
            if self.plan is not None:
                phi = phi + self._in_boxes(self._frozen, charges, self._smooth(charges))
            return self.diagonal * charges + self.prefactor * phi

    def potential(self, charges: Tensor) -> Tensor:
        """k_e J q [n_atoms], eV/e, of fixed charges, differentiable in positions and cell."""
        batch = self.batch
        phi = self_interaction(batch, self.widths, self.reciprocal.alpha) * charges
        for pairs in self.pairs:
            phi = phi + pairs.potential(charges)
        if self.plan is not None:
            smooth = self.reciprocal.potential(batch, charges, self.plan)
            phi = phi + self._in_boxes(batch, charges, smooth)
        return self.prefactor * phi

    def _in_boxes(self, batch: AtomsBatch, charges: Tensor, smooth: Tensor) -> Tensor:
        alpha = self.reciprocal.alpha
        smooth = smooth - background_potential(batch, charges, self.widths, alpha)
        if batch.all_periodic:
            return smooth
        return torch.where(batch.periodic[batch.system], smooth, 0.0)


def _bound(
    reciprocal: ReciprocalPME | ReciprocalEwald, batch: AtomsBatch, plan: Any
) -> Callable[[Tensor], Tensor]:
    """The smooth part's potential for any charges at fixed positions."""
    if plan is not None and isinstance(reciprocal, ReciprocalPME):
        return reciprocal.bind(batch, plan).potential
    return lambda charges: reciprocal.potential(batch, charges, plan)
