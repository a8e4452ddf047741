r"""Charge equilibration by preconditioned conjugate gradients, batched over systems.

Minimises chi . q + q . H q / 2 with sum q fixed in each system. The search directions are kept at
zero sum by projecting the preconditioner, P = M^-1 - M^-1 1 1^T M^-1/(1^T M^-1 1), the exact
elimination of the constraint: the total charge is right at every iteration. M being close to H, P
times the residual is an estimate of the charges' error, and that is what the tolerance limits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import StructureError

Operator = Callable[[Tensor], Tensor]
MAX_ITERATIONS = 200
# A solution handed in as the guess is accepted as it is, whatever rounding does to its residual.
SLACK = 1.0 + 1e-6


class ConjugateGradients:
    """The minimum for one H.

    Args:
        batch: the systems.
        hardness: product with H [n_atoms] -> [n_atoms].
        precondition: product with M^-1, symmetric positive definite.
        tolerance: of the estimated error of each charge, e.

    Attributes:
        iterations: of the last solve, the most of any system.
    """

    def __init__(
        self, batch: AtomsBatch, hardness: Operator, precondition: Operator, tolerance: float
    ) -> None:
        self.batch, self.hardness, self.precondition = batch, hardness, precondition
        self.tolerance = tolerance
        self.iterations = 0
        self._per_lambda = precondition(torch.ones_like(batch.positions[:, 0]))
        self._softness = batch.system_sum(self._per_lambda)

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
        return self._solve(-chi, guess)

    def response(self, vector: Tensor) -> Tensor:
        """M vector [n_atoms], M as in `hff_ase.longrange.qeq.equilibration`; of zero sum.

        Raises:
            StructureError: as `charges`.
        """
        return self._solve(vector, self._project(vector)[0])

    def _project(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """P residual, and the residual less the constant of each system that P takes out.

        That constant (the chemical potential) is orders of magnitude larger than what is left near
        convergence: kept, its rounding would soon be all there is in scalar products.
        """
        step = self.precondition(residual)
        level = (self.batch.system_sum(step) / self._softness)[self.batch.system]
        return step - level * self._per_lambda, residual - level

    def _solve(self, right: Tensor, x: Tensor) -> Tensor:
        system, limit = self.batch.system, self.tolerance * SLACK
        residual = right - self.hardness(x)
        direction = torch.zeros_like(x)
        old = torch.ones_like(self._softness)
        for iteration in range(MAX_ITERATIONS + 1):
            step, residual = self._project(residual)
            error = self._largest(step)
            active = ~(error <= limit)  # a nan stays active
            if not bool(active.any()):
                self.iterations = iteration
                return x
            if iteration == MAX_ITERATIONS:
                break
            product = self.batch.system_sum(residual * step)
            ratio = torch.where(active, product / old, 0.0)
            direction = step + ratio[system] * direction if iteration else step
            image = self.hardness(direction)
            curvature = self.batch.system_sum(direction * image)
            indefinite = active & ~(curvature > 0)
            if bool(indefinite.any()):
                self._refuse_indefinite(indefinite)
            # A system that is done stays where it is.
            length = torch.where(active, product / curvature, 0.0)[system]
            x = x + length * direction
            residual = residual - length * image
            old = torch.where(active, product, old)
            limit = self.tolerance
        worst = int(torch.nan_to_num(error, nan=torch.inf).argmax())
        raise StructureError(
            f"expected charge equilibration to converge to {self.tolerance:.1e} e, got an "
            f"estimated error of {float(error[worst]):.1e} e (structure {worst}) after "
            f"{MAX_ITERATIONS} iterations: a looser charge_tolerance, or solver='dense'"
        )

    def _largest(self, step: Tensor) -> Tensor:
        """Largest entry of each system, [n_systems]."""
        if self.batch.n_systems == 1:
            return step.abs().max()[None]
        zero = torch.zeros_like(self._softness)
        return zero.scatter_reduce(0, self.batch.system, step.abs(), "amax")

    def _refuse_indefinite(self, where: Tensor) -> None:
        system = int(torch.nonzero(where)[0, 0])
        raise StructureError(
            "expected a positive definite charge-equilibration matrix, got one that is not "
            f"(structure {system}): atoms too close, or a tolerance too loose"
        )
