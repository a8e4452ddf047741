r"""Preconditioned conjugate gradients for many systems at once: A x = b, A positive definite.

One solver for whatever is solved self-consistently (charges, induced dipoles). The preconditioner
M^-1 is close to A^-1, so that M^-1 times the residual is an estimate of the solution's error, and
that is what the tolerance limits, entry by entry. A system's result does not depend on the others:
one that has converged stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import StructureError

Operator = Callable[[Tensor], Tensor]
Projection = Callable[[Tensor], tuple[Tensor, Tensor]]
MAX_ITERATIONS = 200
# A solution handed in as the guess is accepted as it is, whatever rounding does to its residual.
SLACK = 1.0 + 1e-6


class Wording(NamedTuple):
    """How messages name a problem, its matrix, the unit of its solution, and its tolerance."""

    problem: str
    matrix: str
    unit: str
    option: str


class ConjugateGradients:
    """Solutions for one A.

    Args:
        batch: the systems.
        matrix: product with A, [n_atoms, ...] to the same.
        precondition: product with M^-1, symmetric positive definite.
        tolerance: of the estimated error of each entry of x.
        wording: for messages.
        project: M^-1 r and r for a residual r, both without what a constraint takes out; None
            where there is none.
        polish: add the last estimate of the error to the solution. It costs no product; for an M
            that is close enough to A.

    Attributes:
        iterations: of the last solution, the most of any system.
    """

    def __init__(
        self,
        batch: AtomsBatch,
        matrix: Operator,
        precondition: Operator,
        tolerance: float,
        wording: Wording,
        project: Projection | None = None,
        polish: bool = False,
    ) -> None:
        self.batch, self.matrix, self.precondition = batch, matrix, precondition
        self.tolerance, self.wording, self.polish = tolerance, wording, polish
        self.project: Projection = project or (lambda r: (precondition(r), r))
        self.iterations = 0

    def solve(self, right: Tensor, x: Tensor) -> Tensor:
        """x with A x = ``right``, from a guess; the guess itself where it is good enough.

        Raises:
            StructureError: A is not positive definite, or too many iterations.
        """
        system, limit = self.batch.system, self.tolerance * SLACK
        residual = right - self.matrix(x)
        direction = torch.zeros_like(x)
        old = torch.ones(self.batch.n_systems, dtype=x.dtype, device=x.device)
        for iteration in range(MAX_ITERATIONS + 1):
            step, residual = self.project(residual)
            error = self._largest(step)
            active = ~(error <= limit)  # a nan stays active
            if not bool(active.any()):
                self.iterations = iteration
                return x + step if self.polish and iteration else x
            if iteration == MAX_ITERATIONS:
                break
            product = self._dot(residual, step)
            ratio = torch.where(active, product / old, 0.0)
            direction = step + _by_atom(ratio[system], x) * direction if iteration else step
            image = self.matrix(direction)
            curvature = self._dot(direction, image)
            indefinite = active & ~(curvature > 0)
            if bool(indefinite.any()):
                refuse_indefinite(indefinite, self.wording)
            # A system that is done stays where it is.
            length = _by_atom(torch.where(active, product / curvature, 0.0)[system], x)
            x = x + length * direction
            residual = residual - length * image
            old = torch.where(active, product, old)
            limit = self.tolerance
        worst = int(torch.nan_to_num(error, nan=torch.inf).argmax())
        name, unit = self.wording.problem, self.wording.unit
        raise StructureError(
            f"expected {name} to converge to {self.tolerance:.1e} {unit}, got an "
            f"estimated error of {float(error[worst]):.1e} {unit} (structure {worst}) after "
            f"{MAX_ITERATIONS} iterations: a looser {self.wording.option}, or solver='dense'"
        )

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Scalar products of each system, [n_systems]."""
        return self.batch.system_sum((a * b).flatten(1).sum(1) if a.ndim > 1 else a * b)

    def _largest(self, step: Tensor) -> Tensor:
        """Largest entry of each system, [n_systems]."""
        size = step.abs()
        size = size.flatten(1).amax(1) if size.ndim > 1 else size
        if self.batch.n_systems == 1:
            return size.max()[None]
        zero = torch.zeros(self.batch.n_systems, dtype=size.dtype, device=size.device)
        return zero.scatter_reduce(0, self.batch.system, size, "amax")


def refuse_indefinite(where: Tensor, wording: Wording) -> None:
    """Refuse the first system of which bool [n_systems] says that its matrix is not definite.

    Raises:
        StructureError: always.
    """
    system = int(torch.nonzero(where)[0, 0])
    raise StructureError(
        f"expected a positive definite {wording.matrix}, got one that is not "
        f"(structure {system}): atoms too close, or a tolerance too loose"
    )


def _by_atom(factor: Tensor, like: Tensor) -> Tensor:
    """A factor per atom [n_atoms] that multiplies [n_atoms, ...]."""
    return factor.view(-1, *[1] * (like.ndim - 1))
