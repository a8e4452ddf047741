r"""Charge equilibration by preconditioned conjugate gradients, batched over systems.

Minimises chi . q + q . H q / 2 with sum q fixed in each system. The search directions are kept at
zero sum by projecting the preconditioner, P = M^-1 - M^-1 1 1^T M^-1/(1^T M^-1 1), the exact
elimination of the constraint: the total charge is right at every iteration.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.conjugate_gradients import ConjugateGradients, Operator, Wording

WORDING = Wording("charge equilibration", "charge-equilibration matrix", "e", "charge_tolerance")


class ChargeSolver:
    """The minimum for one H.

    Args:
        batch: the systems.
        hardness: product with H [n_atoms] -> [n_atoms].
        precondition: product with M^-1, symmetric positive definite.
        tolerance: of the estimated error of each charge, e.
    """

    def __init__(
        self, batch: AtomsBatch, hardness: Operator, precondition: Operator, tolerance: float
    ) -> None:
        self.batch, self.precondition = batch, precondition
        self._solver = ConjugateGradients(
            batch, hardness, precondition, tolerance, WORDING, self._project
        )
        self._per_lambda = precondition(torch.ones_like(batch.positions[:, 0]))
        self._softness = batch.system_sum(self._per_lambda)

    @property
    def iterations(self) -> int:
        """Of the last solution, the most of any system."""
        return self._solver.iterations

    def charges(self, chi: Tensor, guess: Tensor | None = None) -> Tensor:
        """The minimum's charges [n_atoms], e.

        Args:
            chi: electronegativities [n_atoms], eV.
            guess: charges to start from, of the right total.

        Raises:
            StructureError: H is not positive definite, or too many iterations.
        """
        if guess is None:
            ratio = self.batch.charge / self._softness
            guess = self._project(-chi)[0] + self._per_lambda * ratio[self.batch.system]
        return self._solver.solve(-chi, guess)

    def response(self, vector: Tensor) -> Tensor:
        """M vector [n_atoms], M as in `hff_ase.longrange.qeq.equilibration`; of zero sum.

        Raises:
            StructureError: as `charges`.
        """
        return self._solver.solve(vector, self._project(vector)[0])

    def _project(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """P residual, and the residual less the constant of each system that P takes out.

        That constant (the chemical potential) is orders of magnitude larger than what is left near
        convergence: kept, its rounding would soon be all there is in scalar products.
        """
        step = self.precondition(residual)
        level = (self.batch.system_sum(step) / self._softness)[self.batch.system]
        return step - level * self._per_lambda, residual - level
