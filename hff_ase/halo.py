"""Halo: the exchange of a process that owns some of the atoms with the others.

A host with domain decomposition gives each process its own atoms and, around them, ghosts: copies
of atoms that others own. Terms call the halo where a result depends on more than the ghosts within
one cutoff: between the layers of a network, for the total charge, for the charges of ghosts and for
the long range. Every call is collective, and each is a node of the graph whose backward pass is the
adjoint call, so that one backward pass on every process gives the exact gradient of the total.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Halo", "allreduce", "exchange", "reciprocal_energies"]


class Halo(Protocol):
    """The exchange between processes. Own atoms come first in every process, then the ghosts.

    Attributes:
        n_own: number of own atoms.
        n_atoms: number of own atoms and ghosts.
        n_total: number of atoms of the whole system, over all processes.
        share: this process's part of what all compute alike, 0 for one without atoms; the sum is 1.
    """

    n_own: int
    n_atoms: int
    n_total: int
    share: float

    def forward(self, own: Tensor) -> Tensor:
        """Values of own atoms [n_own, ...] to own atoms and ghosts [n_atoms, ...]."""

    def reverse(self, everything: Tensor) -> Tensor:
        """Values of own atoms and ghosts [n_atoms, ...], those of ghosts added to their owners':
        [n_own, ...]."""

    def allreduce(self, values: Tensor) -> Tensor:
        """The sum over all processes, of a tensor of the same shape in each."""

    def within(self, cutoff: float) -> Halo:
        """The exchange with ghosts that may lie within a distance of own atoms (Angstrom) only:
        the first ones of all ghosts, or all of them."""

    def reciprocal(
        self, positions: Tensor, cell: Tensor, charges: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The smooth part of 1/r of all charges, self term and background included.

        Args:
            positions: [n_own, 3], Angstrom; cell: [1, 3, 3]; charges: [n_own], e.

        Returns:
            phi [n_own], e/Angstrom; dE/dx [n_own, 3] and the part of dE/dcell [1, 3, 3] of this
            process (their sum over processes with atoms is the whole), of
            E = 1/2 sum_i q_i phi_i, e^2/A^2.
        """


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, halo: Halo) -> Tensor:
        ctx.halo, ctx.n_ghosts = halo, values.shape[0] - halo.n_own
        return halo.forward(values[: halo.n_own])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        own = ctx.halo.reverse(grads[0].contiguous())
        return _with_ghosts(own, ctx.n_ghosts), None


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, halo: Halo) -> Tensor:
        ctx.halo = halo
        return halo.allreduce(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        return ctx.halo.allreduce(grads[0].contiguous()), None


class _Reciprocal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, cell: Tensor, charges: Tensor, halo: Halo) -> Tensor:
        n = halo.n_own
        phi, d_positions, d_cell = halo.reciprocal(positions[:n], cell, charges[:n])
        ctx.gradients, ctx.n_ghosts = (d_positions, d_cell, phi), len(charges) - n
        return _with_ghosts(0.5 * charges[:n] * phi, ctx.n_ghosts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        d_positions, d_cell, phi = ctx.gradients
        # own atoms count alike, their energies being summed
        factor = grads[0][0] if len(phi) else grads[0].new_zeros(())
        d_positions = _with_ghosts(factor * d_positions, ctx.n_ghosts)
        return d_positions, factor * d_cell, _with_ghosts(factor * phi, ctx.n_ghosts), None


def at_home(everything: Tensor, halo: Halo) -> Tensor:
    """Values [n_atoms, ...] of own atoms and ghosts added up at the owners, zero for ghosts; no
    graph."""
    return _with_ghosts(halo.reverse(everything), everything.shape[0] - halo.n_own)


def _with_ghosts(own: Tensor, n_ghosts: int) -> Tensor:
    """Values of own atoms, and zeros for ghosts."""
    return torch.cat([own, own.new_zeros((n_ghosts, *own.shape[1:]))])


def exchange(values: Tensor, halo: Halo | None) -> Tensor:
    """Values with those of ghosts replaced by their owners', with its adjoint as backward pass.

    Args:
        values: [n_atoms, ...], own atoms first.
        halo: the exchange; None for one process alone, where nothing changes.
    """
    return values if halo is None else _Exchange.apply(values, halo)


def allreduce(values: Tensor, halo: Halo | None) -> Tensor:
    """The sum over all processes, with its adjoint as backward pass.

    Args:
        values: of one shape in all processes.
        halo: the exchange; None for one process alone.
    """
    return values if halo is None else _AllReduce.apply(values, halo)


def reciprocal_energies(positions: Tensor, cell: Tensor, charges: Tensor, halo: Halo) -> Tensor:
    """Energies q_i phi_i / 2 of own atoms in the smooth part of 1/r, zero for ghosts.

    Args:
        positions: [n_atoms, 3], Angstrom, own atoms first.
        cell: [1, 3, 3], of the whole system.
        charges: [n_atoms], e.
        halo: whose `Halo.reciprocal` sums over all processes' charges.

    Returns:
        float64 [n_atoms], e^2/Angstrom.
    """
    return _Reciprocal.apply(positions, cell, charges, halo)
