"""Energies with derivatives from a kernel, as a node of the autograd graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hff_ase.batch import AtomsBatch


class _GivenGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        energies: Tensor,
        system: Tensor,
        first_atom: Tensor,
        gradients: tuple[Tensor | None, Tensor | None, Tensor | None],
        n_own: int | None,
        positions: Tensor,
        cell: Tensor,
        charges: Tensor | None,
    ) -> Tensor:
        ctx.system, ctx.first_atom, ctx.gradients = system, first_atom, gradients
        ctx.n_own = n_own
        return energies.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        factor = grads[0].index_select(0, ctx.first_atom)  # [n_systems], dL/dE of each system
        own = slice(ctx.n_own)  # the energies of ghosts count with their owners
        factor = _whole_systems_only(grads[0][own], factor.index_select(0, ctx.system[own]), factor)
        per_atom = factor.index_select(0, ctx.system)
        d_positions, d_cell, d_charges = ctx.gradients
        return (
            None,
            None,
            None,
            None,
            None,
            None if d_positions is None else per_atom[:, None] * d_positions,
            None if d_cell is None else factor[:, None, None] * d_cell,
            None if d_charges is None else per_atom * d_charges,
        )


def _whole_systems_only(grad: Tensor, per_atom: Tensor, factor: Tensor) -> Tensor:
    """The factor of each system; different weights within a system are an error.

    Raises:
        RuntimeError: such weights, on the CPU. On a device, where nobody waits to look, the factor
            is NaN instead, and whatever comes of it is refused as not finite.
    """
    if grad.device.type != "cpu":
        return torch.where((grad == per_atom).all(), factor, torch.nan)
    if not torch.equal(grad, per_atom):
        raise RuntimeError(
            "expected the energies of whole systems to be differentiated, as fused kernels give "
            "them, got weights that differ between their atoms: ask for owned atoms, or use "
            "kernels='reference'"
        )
    return factor


def given_gradient(
    energies: Tensor,
    batch: AtomsBatch,
    d_positions: Tensor | None,
    d_cell: Tensor | None = None,
    charges: Tensor | None = None,
    d_charges: Tensor | None = None,
    n_own: int | None = None,
) -> Tensor:
    """Atomic energies with ready-made derivatives of each system's sum of them.

    Correct wherever the energies are summed over whole systems before anything is differentiated
    (what `HybridPotential.forward` does), and for first derivatives only.

    Args:
        energies: float64 [n_atoms].
        batch: whose positions and cell the derivatives belong to.
        d_positions: [n_atoms, 3] and d_cell: [n_systems, 3, 3], of the sum of energies.
        charges: [n_atoms], a further input, with d_charges [n_atoms].
        n_own: of a process that has a part of one system, its own atoms, which come first: the sum
            over all processes of what they count is differentiated, and the derivatives are this
            process's part of it.
    """
    if not torch.is_grad_enabled():
        return energies
    gradients = (d_positions, d_cell, d_charges)
    return _GivenGradient.apply(
        energies,
        batch.system,
        batch.first_atom,
        gradients,
        n_own,
        batch.positions,
        batch.cell,
        charges,
    )
