"""Particle-mesh Ewald, batched: the smooth part of 1/r by fast Fourier transforms.

Charges are spread with B-splines, as in smooth PME (Essmann et al., J. Chem. Phys. 103, 8577
(1995)), and convolved with the influence function of P3M (`hff_ase.longrange.mesh`). Forces are the
exact gradient of this energy, so a trajectory conserves it whatever the mesh.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.halo import Halo
from hff_ase.longrange.bspline import BOTH, VALUE, Grid, Interpolate, SpreadCharges, Stencil
from hff_ase.longrange.lattice import SmoothSum, reciprocal_lattice, refuse_huge
from hff_ase.longrange.mesh import (
    MeshGroup,
    group_systems,
    mesh_size,
    mesh_spacing,
    spline_order,
)
from hff_ase.longrange.mesh_sum import MeshSum
from hff_ase.longrange.pairs import common_factor
from hff_ase.longrange.reduction import reductions


class ReciprocalPME:
    """The reciprocal-space part of the Ewald sum on a mesh.

    Args:
        alpha: splitting parameter, 1/Angstrom.
        tolerance: relative RMS error asked of forces and energy; sets the mesh.
        order: of the B-splines, the points per axis that a charge is spread over: 4 to 6, or
            None to choose by the tolerance.
        power: n of 1/r^n, 1 or even (`hff_ase.longrange.inverse_power`); `explicit` is for 1.
    """

    # As for plain Ewald: cells may change until the next rebuild.
    margin = 1.03

    def __init__(
        self, alpha: float, tolerance: float, order: int | None = None, power: int = 1
    ) -> None:
        self.alpha, self.power = alpha, power
        self.order = order or spline_order(tolerance)
        self.spacing = mesh_spacing(alpha, tolerance, self.order)

    def prepare(self, batch: AtomsBatch) -> list[MeshGroup]:
        """Choose a mesh for each periodic system and group the systems by it."""
        shapes: dict[tuple[int, int, int], list[int]] = {}
        basis = reductions(batch.cell, batch.periodic)
        lattice = batch.cell if basis is None else basis @ batch.cell
        lengths = torch.linalg.vector_norm(lattice, dim=-1).tolist()
        for system, (periodic, abc) in enumerate(
            zip(batch.periodic.tolist(), lengths, strict=True)
        ):
            if periodic:
                n1, n2, n3 = (mesh_size(a * self.margin, self.spacing) for a in abc)
                refuse_huge(n1 * n2 * n3, "mesh points", abc)
                shapes.setdefault((n1, n2, n3), []).append(system)
        return [group_systems(batch, *group, self.order, basis) for group in shapes.items()]

    def bind(self, batch: AtomsBatch, plan: list[MeshGroup]) -> MeshSum:
        """The sum at this configuration, for any charges, without a graph."""
        return MeshSum(batch, plan, self.alpha, self.power)

    def explicit(
        self,
        batch: AtomsBatch,
        charges: Tensor,
        plan: list[MeshGroup],
        halo: Halo | None = None,
        made: list[MeshSum] | None = None,
    ) -> SmoothSum:
        """phi and the derivatives of 1/2 sum_i q_i phi_i by one pass through the mesh; with a halo
        of the charges of all processes (`MeshSum.explicit`). The sum is added to ``made``."""
        bound = self.bind(batch, plan)
        if made is not None:
            made.append(bound)
        return bound.explicit(charges, halo)

    def potential(self, batch: AtomsBatch, charges: Tensor, plan: list[MeshGroup]) -> Tensor:
        """phi_i of the smooth part [n_atoms], e/Angstrom, self-interaction included."""
        leaves = (batch.positions, batch.cell, charges)
        if not (torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves)):
            return self.bind(batch, plan).potential(charges)
        phi = torch.zeros_like(charges)
        for group in plan:
            cell = group.lattice(batch.cell)
            u = group.mesh_units(group.of_atoms(batch.positions), reciprocal_lattice(cell)[0])
            part = MeshPotential.apply(
                group.of_atoms(charges),
                u,
                group.influence(cell, self.alpha, self.power),
                group.grid,
                group.multiplicity,
            )
            phi = part if group.atoms is None else phi.index_copy(0, group.atoms, part)
        return phi


def mesh_potential(q: Tensor, u: Tensor, influence: Tensor, grid: Grid) -> Tensor:
    """SpreadCharges, convolve, interpolate: [n_atoms], differentiable to any order."""
    density = SpreadCharges.apply(q[:, None], u, grid, VALUE)
    spectrum = torch.fft.rfftn(density, dim=(1, 2, 3)) * influence
    mesh = torch.fft.irfftn(spectrum, s=grid.shape, dim=(1, 2, 3), norm="forward")
    return Interpolate.apply(mesh, u, grid, VALUE)[:, 0]


class MeshPotential(torch.autograd.Function):
    """`mesh_potential`, a symmetric operator on the charges, with a cheap gradient of its energy.

    The gradient of E = c sum_i q_i phi_i arrives as c q_i at the output (`common_factor`): then
    what the forward pass knows (phi, the field, the spectrum) is the whole gradient and no second
    transform is needed. Any other gradient, and every second derivative, goes through
    `mesh_potential`.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, u: Tensor, influence: Tensor, grid: Grid, multiplicity: Tensor
    ) -> Tensor:
        """phi [n_atoms]."""
        stencil = Stencil(u, grid)
        density = stencil.spread(q[:, None], VALUE)
        spectrum = torch.fft.rfftn(density, dim=(1, 2, 3))
        mesh = torch.fft.irfftn(spectrum * influence, s=grid.shape, dim=(1, 2, 3), norm="forward")
        values = stencil.interpolate(mesh, BOTH if ctx.needs_input_grad[1] else VALUE)
        phi = values[:, 0].clone()
        ctx.grid, ctx.multiplicity = grid, multiplicity
        ctx.known = (values, spectrum)  # not phi itself: an output kept here is never freed
        ctx.save_for_backward(q, u, influence)
        return phi

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """See the class."""
        (grad,) = grads
        q, u, influence = ctx.saved_tensors
        scale = None if torch.is_grad_enabled() else common_factor(grad, q)
        if scale is None:
            second = torch.is_grad_enabled()
            with torch.enable_grad():
                # Aliases, so that no path leads from one of the three back to another.
                inputs = [x.view_as(x) for x in (q, u, influence)]
                inputs = [x if x.requires_grad else x.requires_grad_() for x in inputs]
                phi = mesh_potential(inputs[0], inputs[1], inputs[2], ctx.grid)
            return *torch.autograd.grad(phi, inputs, grad, create_graph=second), None, None
        values, spectrum = ctx.known
        to_q = scale * values[:, 0] if ctx.needs_input_grad[0] else None
        to_u = to_influence = None
        if ctx.needs_input_grad[1]:
            to_u = values[:, 1:] * (2.0 * scale * q)[:, None]
        if ctx.needs_input_grad[2]:
            power = torch.view_as_real(spectrum).square().sum(-1)
            to_influence = scale * ctx.multiplicity * power
        return to_q, to_u, to_influence, None, None
