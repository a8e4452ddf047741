"""The potential of charges over a list of pairs, with its derivative in few passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Kernel = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Distance [n_pairs] to w and dw/dr, [n_pairs] each, made of differentiable operations."""


def sum_pairs(charges: Tensor, i: Tensor, j: Tensor, weight: Tensor) -> Tensor:
    """phi_i = sum_j w_ij q_j over a half list, [n_atoms]."""
    at_i = charges.index_select(0, j) * weight
    at_j = charges.index_select(0, i) * weight
    return torch.zeros_like(charges).index_add(0, i, at_i).index_add(0, j, at_j)


def common_factor(grad: Tensor, charges: Tensor) -> Tensor | None:
    """c, a scalar, where grad = c charges to rounding; None where it is not.

    That is how the gradient of E = c sum_i q_i phi_i arrives at phi. The potential phi = A q is
    symmetric, so the gradient's product with it is then c phi, which is known already.
    """
    if charges.device.type != "cpu":
        return None  # to look would wait for the device; the general path is short there
    scale = torch.dot(grad, charges) / torch.dot(charges, charges).clamp(min=1e-300)
    residual = (grad - scale * charges).abs().max()
    return scale if bool(residual <= 1e-13 * grad.abs().max()) else None


class PairPotential(torch.autograd.Function):
    """phi [n_atoms] of (charges [n_atoms], distance [n_pairs]) for a half list and a kernel.

    One evaluation of the kernel gives the values for the forward and the slopes for the backward
    pass; second derivatives evaluate it again, in the graph.
    """

    @staticmethod
    def forward(
        ctx: Any, charges: Tensor, distance: Tensor, i: Tensor, j: Tensor, kernel: Kernel
    ) -> Tensor:
        """See the class."""
        weight, slope = kernel(distance)
        phi = sum_pairs(charges, i, j, weight)
        ctx.save_for_backward(charges, distance, i, j)
        # A copy: an output that is kept here itself is never freed.
        ctx.kernel, ctx.known = kernel, (weight, slope, phi.clone())
        return phi

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """dphi_i = w dq_j + q_j dw/dr dr."""
        (grad,) = grads
        charges, distance, i, j = ctx.saved_tensors
        weight, slope, phi = ctx.known
        scale = None
        if torch.is_grad_enabled():
            weight, slope = ctx.kernel(distance)
        else:
            scale = common_factor(grad, charges)
        to_charges = to_distance = None
        if ctx.needs_input_grad[0]:
            to_charges = sum_pairs(grad, i, j, weight) if scale is None else scale * phi
        if ctx.needs_input_grad[1]:
            if scale is None:
                product = grad[i] * charges[j] + grad[j] * charges[i]
            else:
                product = 2.0 * scale * charges.index_select(0, i) * charges.index_select(0, j)
            to_distance = product * slope
        return to_charges, to_distance, None, None, None
