"""Minimising a quadratic energy of charges under a fixed total charge, and the response to it.

E = chi . q + q . H q / 2 with sum q = Q has its minimum at q = -H^-1 (chi - lambda 1), lambda such
that the sum is right. H is positive definite. Its response to a change d of the gradient of E at
fixed q is dq = -M d with M = H^-1 - H^-1 1 1^T H^-1 / (1^T H^-1 1), a symmetric matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError


def solve_charges(batch: AtomsBatch, hardness: Tensor, chi: Tensor) -> Tensor:
    """Charges [n_atoms] in the graph of H [n_systems, n, n] and chi [n_atoms], any order."""
    hardness = hardness + _padding(batch)
    right = torch.stack([batch.pad(-chi), batch.pad(torch.ones_like(chi))], -1)
    free, per_lambda = torch.linalg.solve(hardness, right).unbind(-1)
    missing = (batch.charge - free.sum(-1)) / per_lambda.sum(-1)
    return batch.unpad(free + missing[:, None] * per_lambda)


def _padding(batch: AtomsBatch) -> Tensor:
    """Ones on the diagonal where a system has no atom, so that every system can be solved."""
    slots = torch.arange(batch.max_count, device=batch.device)
    return torch.diag_embed((slots >= batch.counts[:, None]).double())


class Response(Protocol):
    """The linear response of the minimum's charges."""

    def response(self, vector: Tensor) -> Tensor:
        """M vector [n_atoms]."""


@dataclass(frozen=True)
class Factor:
    """H of each system factorised: ``lower`` [n_systems, n, n], ``per_lambda`` = H^-1 1."""

    batch: AtomsBatch
    lower: Tensor
    per_lambda: Tensor

    def charges(self, chi: Tensor) -> Tensor:
        """The minimum's charges [n_atoms]."""
        free = self._inverse(-chi)
        missing = (self.batch.charge - free.sum(-1)) / self.per_lambda.sum(-1)
        return self.batch.unpad(free + missing[:, None] * self.per_lambda)

    def response(self, vector: Tensor) -> Tensor:
        """M vector [n_atoms]; its sum over each system is zero."""
        free = self._inverse(vector)
        excess = free.sum(-1) / self.per_lambda.sum(-1)
        return self.batch.unpad(free - excess[:, None] * self.per_lambda)

    def _inverse(self, vector: Tensor) -> Tensor:
        return torch.cholesky_solve(self.batch.pad(vector)[..., None], self.lower)[..., 0]


def factorize(batch: AtomsBatch, hardness: Tensor) -> Factor:
    """Cholesky factors of H [n_systems, n, n].

    Raises:
        StructureError: H of a system is not positive definite (atoms on top of each other).
    """
    lower, info = torch.linalg.cholesky_ex(hardness + _padding(batch))
    if bool(info.any()):
        system = int(torch.nonzero(info)[0, 0])
        raise StructureError(
            "expected a positive definite charge-equilibration matrix, got one that is not "
            f"(structure {system}): atoms too close, or a tolerance too loose"
        )
    ones = batch.pad(torch.ones(batch.n_atoms, dtype=lower.dtype, device=batch.device))
    per_lambda = torch.cholesky_solve(ones[..., None], lower)[..., 0]
    return Factor(batch, lower, per_lambda)


class ImplicitCharges(torch.autograd.Function):
    """The minimum's charges as a function of dE/dq at fixed charges: first derivatives only."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, charges: Tensor, solver: Response) -> Tensor:
        """``charges``, which solve for ``gradient`` [n_atoms] being constant in each system."""
        ctx.solver = solver
        return charges.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """-M grad: one more right-hand side for the current solver."""
        _refuse_second_derivatives()
        return -ctx.solver.response(grads[0]), None, None


class EnergyAtMinimum(torch.autograd.Function):
    """Marks energies that hold for fixed charges and so have the right first derivatives only."""

    @staticmethod
    def forward(ctx: Any, energies: Tensor) -> Tensor:
        """``energies`` as they are."""
        return energies.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The gradient as it is."""
        _refuse_second_derivatives()
        return grads[0]


def _refuse_second_derivatives() -> None:
    if torch.is_grad_enabled():
        raise ConfigError(
            "expected charge equilibration in training mode where derivatives are differentiated "
            "again (create_graph), got eval mode; call .train() on the model"
        )
