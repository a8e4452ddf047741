"""Charges to a mesh and back with cardinal B-splines, differentiable to any order.

Spreading charges and interpolating a mesh are each other's adjoint, and the derivative of either
with respect to positions is the same operation with one weight differentiated. Two autograd
functions that call each other are therefore all there is, and neither keeps more than its inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hff_ase.kernels.mesh import CurvedStencil, MeshStencil, mesh_stencil

Derivative = tuple[int, int, int]
VALUE: tuple[Derivative, ...] = ((0, 0, 0),)
GRADIENT: tuple[Derivative, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
BOTH: tuple[Derivative, ...] = (*VALUE, *GRADIENT)
SECOND: tuple[Derivative, ...] = (
    (2, 0, 0), (0, 2, 0), (0, 0, 2), (1, 1, 0), (1, 0, 1), (0, 1, 1)
)  # fmt: skip
CURVATURE: tuple[Derivative, ...] = (*BOTH, *SECOND)


@dataclass(frozen=True)
class Grid:
    """One mesh of ``shape`` per system and which system, int64 [n_atoms], each atom is in."""

    n_systems: int
    shape: tuple[int, int, int]
    order: int
    system: Tensor


class Stencil:
    """The mesh points around each atom and their weights, for positions in mesh units.

    `spread` and `interpolate` run a kernel where there is one, for values and first derivatives;
    the tensors of the reference are made when something else is asked for.

    Args:
        u: float64 [n_atoms, 3], fractional coordinates times the mesh size, any image.
        grid: the meshes.
    """

    def __init__(self, u: Tensor, grid: Grid) -> None:
        self.u, self.grid = u, grid
        self._weights: dict[int, Tensor] = {}

    @cached_property
    def kernel(self) -> MeshStencil | None:
        """The fused kernel of these points, None where the reference runs."""
        grid = self.grid
        return mesh_stencil(self.u, grid.system, grid.n_systems, grid.shape, grid.order)

    @cached_property
    def _splines(self) -> list[Tensor]:
        return spline_values(self.u - torch.floor(self.u), self.grid.order)

    @cached_property
    def index(self) -> Tensor:
        """Each point in the flattened meshes, int64 [n_atoms * order^3]."""
        grid, device = self.grid, self.u.device
        size = torch.tensor(grid.shape, device=device)
        steps = torch.arange(grid.order, device=device)
        points = torch.floor(self.u).long()[:, :, None] - steps  # [atom, axis, step]
        x, y, z = (points % size[:, None]).unbind(1)
        x = x + grid.shape[0] * grid.system[:, None] if grid.n_systems > 1 else x
        rows = (x[:, :, None] * grid.shape[1] + y[:, None, :]) * grid.shape[2]
        return (rows.flatten(1)[:, :, None] + z[:, None, :]).flatten()

    def spread(self, values: Tensor, terms: tuple[Derivative, ...]) -> Tensor:
        """sum_i sum_t values_it W_it(m): [n_systems, *shape] from [n_atoms, n_terms]."""
        if terms in (VALUE, GRADIENT, BOTH) and self.kernel is not None:
            if terms == GRADIENT:
                values = torch.nn.functional.pad(values, (1, 0))
            return self.kernel.spread(values[:, 0] if terms == VALUE else values)
        return spread_values(values, self, terms)

    def interpolate(self, mesh: Tensor, terms: tuple[Derivative, ...]) -> Tensor:
        """sum_m mesh(m) W_it(m): [n_atoms, n_terms] from [n_systems, *shape]."""
        if terms in (VALUE, GRADIENT, BOTH) and self.kernel is not None:
            values = self.kernel.interpolate(mesh, slopes=terms != VALUE)
            return values[:, 1:] if terms == GRADIENT else values
        if terms == CURVATURE and isinstance(self.kernel, CurvedStencil):
            return self.kernel.curvatures(mesh)
        return interpolate_values(mesh, self, terms)

    def weights(self, axis: int, derivative: int) -> Tensor:
        """d^n M/du^n at the points along an axis, [n_atoms, order]."""
        if derivative not in self._weights:
            self._weights[derivative] = spline_derivative(
                self._splines, self.grid.order, derivative
            )
        return self._weights[derivative][:, axis]


def spline_values(x: Tensor, order: int) -> list[Tensor]:
    """Cardinal B-splines of orders 1 to ``order`` at x + k, each [..., n] for k = 0 ... n - 1.

    M_n(y) = [y M_{n-1}(y) + (n - y) M_{n-1}(y - 1)] / (n - 1)  (Essmann et al., J. Chem. Phys.
    103, 8577 (1995), eq. 4.1), for x in [0, 1).
    """
    splines = [torch.ones_like(x)[..., None]]
    for n in range(2, order + 1):
        y = x[..., None] + torch.arange(n, device=x.device)
        lower = torch.nn.functional.pad(splines[-1], (1, 1))
        splines.append((y * lower[..., 1:] + (n - y) * lower[..., :-1]) / (n - 1))
    return splines


def spline_derivative(splines: list[Tensor], order: int, derivative: int) -> Tensor:
    """Derivatives of M_order from M'_n(y) = M_{n-1}(y) - M_{n-1}(y - 1), [..., order]."""
    if derivative >= order:
        return torch.zeros_like(splines[order - 1])
    values = splines[order - 1 - derivative]
    for _ in range(derivative):
        padded = torch.nn.functional.pad(values, (1, 1))
        values = padded[..., 1:] - padded[..., :-1]
    return values


def spread_values(values: Tensor, stencil: Stencil, terms: tuple[Derivative, ...]) -> Tensor:
    """`Stencil.spread` in tensor operations: the reference."""
    mesh = values.new_zeros((stencil.grid.n_systems, *stencil.grid.shape))
    for column, (dx, dy, dz) in enumerate(terms):
        x = stencil.weights(0, dx) * values[:, column, None]
        plane = (x[:, :, None] * stencil.weights(1, dy)[:, None, :]).flatten(1)
        block = plane[:, :, None] * stencil.weights(2, dz)[:, None, :]
        mesh.view(-1).scatter_add_(0, stencil.index, block.flatten())
    return mesh


def interpolate_values(mesh: Tensor, stencil: Stencil, terms: tuple[Derivative, ...]) -> Tensor:
    """`Stencil.interpolate` in tensor operations: the reference."""
    p = stencil.grid.order
    block = mesh.reshape(-1).index_select(0, stencil.index).view(-1, p * p, p)
    columns: dict[int, Tensor] = {}
    for dz in {d[2] for d in terms}:
        columns[dz] = torch.einsum("nab,nb->na", block, stencil.weights(2, dz)).view(-1, p, p)
    rows = {
        (dy, dz): torch.einsum("nab,nb->na", columns[dz], stencil.weights(1, dy))
        for dy, dz in {d[1:] for d in terms}
    }
    return torch.stack([(rows[dy, dz] * stencil.weights(0, dx)).sum(-1) for dx, dy, dz in terms], 1)


def differentiated(terms: tuple[Derivative, ...]) -> tuple[Derivative, ...]:
    """Each term with one more derivative along x, y and z."""
    return tuple((a + i, b + j, c + k) for a, b, c in terms for i, j, k in GRADIENT)


class SpreadCharges(torch.autograd.Function):
    """`Stencil.spread` of (values [n_atoms, n_terms], u [n_atoms, 3])."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, u: Tensor, grid: Grid, terms: tuple[Derivative, ...]
    ) -> Tensor:
        """Mesh [n_systems, *shape]."""
        ctx.save_for_backward(values, u)
        ctx.grid, ctx.terms = grid, terms
        return Stencil(u, grid).spread(values, terms)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The adjoint is an interpolation."""
        (mesh,) = grads
        values, u = ctx.saved_tensors
        to_values = to_u = None
        if ctx.needs_input_grad[0]:
            to_values = Interpolate.apply(mesh, u, ctx.grid, ctx.terms)
        if ctx.needs_input_grad[1]:
            slopes = Interpolate.apply(mesh, u, ctx.grid, differentiated(ctx.terms))
            to_u = (slopes.view(u.shape[0], -1, 3) * values[:, :, None]).sum(1)
        return to_values, to_u, None, None


class Interpolate(torch.autograd.Function):
    """`Stencil.interpolate` of (mesh [n_systems, *shape], u [n_atoms, 3])."""

    @staticmethod
    def forward(
        ctx: Any, mesh: Tensor, u: Tensor, grid: Grid, terms: tuple[Derivative, ...]
    ) -> Tensor:
        """Values [n_atoms, n_terms]."""
        ctx.save_for_backward(mesh, u)
        ctx.grid, ctx.terms = grid, terms
        return Stencil(u, grid).interpolate(mesh, terms)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The adjoint is a spreading."""
        (grad,) = grads
        mesh, u = ctx.saved_tensors
        to_mesh = to_u = None
        if ctx.needs_input_grad[0]:
            to_mesh = SpreadCharges.apply(grad, u, ctx.grid, ctx.terms)
        if ctx.needs_input_grad[1]:
            slopes = Interpolate.apply(mesh, u, ctx.grid, differentiated(ctx.terms))
            to_u = (slopes.view(u.shape[0], -1, 3) * grad[:, :, None]).sum(1)
        return to_mesh, to_u, None, None
