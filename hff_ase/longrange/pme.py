"""Particle-mesh Ewald, batched: the smooth part of 1/r by fast Fourier transforms.

Charges are spread with B-splines, as in smooth PME (Essmann et al., J. Chem. Phys. 103, 8577
(1995)); the influence function is the one of P3M that minimises the error of the energy (Hockney &
Eastwood; Ballenegger et al., J. Chem. Theory Comput. 8, 936 (2012)). Forces are the exact gradient
of this energy, so a trajectory conserves it whatever the mesh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.bspline import (
    GRADIENT,
    VALUE,
    Grid,
    Interpolate,
    Spread,
    Stencil,
    interpolate_values,
    spread_values,
)
from hff_ase.longrange.lattice import reciprocal_lattice, refuse_huge
from hff_ase.longrange.pairs import common_factor

# Even sizes without large prime factors, about a tenth apart: a liquid that breathes stays on one
# mesh, and boxes of about the same size share one batched transform. 8, 10, 12, 14, 16 ... 960
LADDER = tuple(
    sorted(
        base << doublings
        for base in (7, 8, 9, 10, 11, 12, 15)
        for doublings in range(7)
        if base << doublings >= 8 and (base % 2 == 0 or doublings > 0)
    )
)


def mesh_size(length: float, spacing: float) -> int:
    """Points along a lattice vector (or the distance of two faces) of this length, Angstrom."""
    wanted = length / spacing
    for size in LADDER:
        if size >= wanted:
            return size
    return 2 * math.ceil(wanted / 2)


@dataclass(frozen=True)
class MeshGroup:
    """Systems that share a mesh shape.

    Attributes:
        systems: int64 [n_group], atoms: int64 [n_group_atoms], their indices in the batch; None
            where the group is the whole batch.
        grid: their meshes.
        numbers: integer wave numbers along each axis, float64 [size] (the last one halved).
        splines: B-spline part of the influence function on the half spectrum, 0 at k = 0.
        multiplicity: how many of +-k each entry of the half spectrum stands for, float64.
    """

    systems: Tensor | None
    atoms: Tensor | None
    grid: Grid
    numbers: tuple[Tensor, Tensor, Tensor]
    splines: Tensor
    multiplicity: Tensor


class ReciprocalPME:
    """The reciprocal-space part of the Ewald sum on a mesh.

    Args:
        alpha: splitting parameter, 1/Angstrom.
        tolerance: relative RMS error asked of forces and energy; sets the mesh.
        order: of the B-splines, the points per axis that a charge is spread over: 4 to 6, or
            None to choose by the tolerance.
    """

    # As for plain Ewald: cells may change until the next rebuild.
    margin = 1.03

    def __init__(self, alpha: float, tolerance: float, order: int | None = None) -> None:
        self.alpha = alpha
        self.order = order or spline_order(tolerance)
        self.spacing = mesh_spacing(alpha, tolerance, self.order)

    def prepare(self, batch: AtomsBatch) -> list[MeshGroup]:
        """Choose a mesh for each periodic system and group the systems by it."""
        shapes: dict[tuple[int, int, int], list[int]] = {}
        lengths = torch.linalg.vector_norm(batch.cell, dim=-1).tolist()
        for system, (periodic, abc) in enumerate(
            zip(batch.periodic.tolist(), lengths, strict=True)
        ):
            if periodic:
                n1, n2, n3 = (mesh_size(a * self.margin, self.spacing) for a in abc)
                refuse_huge(n1 * n2 * n3, "mesh points", abc)
                shapes.setdefault((n1, n2, n3), []).append(system)
        return [self._group(batch, shape, systems) for shape, systems in shapes.items()]

    def _group(
        self, batch: AtomsBatch, shape: tuple[int, int, int], members: list[int]
    ) -> MeshGroup:
        n1, n2, n3 = shape
        systems = atoms = None
        local = batch.system
        if len(members) < batch.n_systems:
            systems = torch.tensor(members, device=batch.device)
            rank = torch.full((batch.n_systems,), -1, device=batch.device)
            rank[systems] = torch.arange(len(members), device=batch.device)
            atoms = torch.nonzero(rank[batch.system] >= 0)[:, 0]
            local = rank[batch.system[atoms]]
        last = torch.arange(n3 // 2 + 1, dtype=torch.float64)
        numbers = (signed_numbers(n1), signed_numbers(n2), last)
        b1, b2, b3 = (spline_damping(m, n, self.order) for m, n in zip(numbers, shape, strict=True))
        splines = (b1[:, None, None] * b2[:, None]) * b3
        splines[0, 0, 0] = 0.0
        multiplicity = torch.full_like(last, 2.0)
        multiplicity[[0, -1]] = 1.0
        m1, m2, m3 = (m.to(batch.device) for m in numbers)
        return MeshGroup(
            systems=systems,
            atoms=atoms,
            grid=Grid(len(members), shape, self.order, local),
            numbers=(m1, m2, m3),
            splines=splines.to(batch.device),
            multiplicity=multiplicity.to(batch.device),
        )

    def potential(self, batch: AtomsBatch, charges: Tensor, plan: list[MeshGroup]) -> Tensor:
        """phi_i of the smooth part [n_atoms], e/Angstrom, self-interaction included."""
        phi = torch.zeros_like(charges)
        for group in plan:
            positions, cell, q = batch.positions, batch.cell, charges
            if group.atoms is not None:
                positions, q = positions[group.atoms], q[group.atoms]
                cell = cell[group.systems]
            reciprocal, volume = reciprocal_lattice(cell)
            size = torch.tensor(group.grid.shape, dtype=cell.dtype, device=cell.device)
            u = torch.einsum("na,nba->nb", positions, reciprocal[group.grid.system]) * size
            influence = self._influence(reciprocal, volume, group)
            part = MeshPotential.apply(q, u, influence, group.grid, group.multiplicity)
            phi = part if group.atoms is None else phi.index_copy(0, group.atoms, part)
        return phi

    def _influence(self, reciprocal: Tensor, volume: Tensor, group: MeshGroup) -> Tensor:
        """4 pi/V exp(-k^2/4 alpha^2)/k^2 times the splines' part, on the half spectrum."""
        metric = (2.0 * math.pi) ** 2 * (reciprocal @ reciprocal.mT)  # k^2 = m . metric . m
        g = metric[:, :, :, None, None, None]
        m1, m2, m3 = group.numbers
        m1, m2 = m1[:, None, None], m2[:, None]
        plane = g[:, 0, 0] * m1**2 + g[:, 1, 1] * m2**2 + 2.0 * g[:, 0, 1] * (m1 * m2)
        slope = 2.0 * (g[:, 0, 2] * m1 + g[:, 1, 2] * m2) + g[:, 2, 2] * m3
        k2 = (plane + slope * m3).clamp(min=1e-12)
        gauss = torch.exp(k2 * (-0.25 / self.alpha**2))
        return gauss / k2 * group.splines * (4.0 * math.pi / volume)[:, None, None, None]


def signed_numbers(size: int) -> Tensor:
    """Integer frequencies of a transform of this length, float64 [size]."""
    return torch.fft.fftfreq(size, 1.0 / size, dtype=torch.float64)


def spline_damping(number: Tensor, size: int, order: int) -> Tensor:
    """U^2(k) / (sum over aliases of U^2)^2 with U(k) = sinc(pi m/size)^order along one axis.

    The Fourier transform of 1/r is Gaussian-damped: only the alias in the first zone matters in
    the numerator of the optimal influence function (Ballenegger et al. 2012), which then
    is a product over the axes and does not depend on the cell.
    """
    aliases = torch.arange(-8, 9, dtype=torch.float64)
    square = torch.sinc((number[:, None] + aliases * size) / size) ** (2 * order)
    return square[:, 8] / square.sum(-1) ** 2


# Relative RMS force error of the mesh = ERROR (alpha / 0.35)^2 (alpha h)^order, the largest found
# on a thermally disordered rock salt, a dense random triclinic ionic box and a box of dipoles and
# ions (alpha of 0.35 and 0.6 per Angstrom, alpha h of 0.17 to 0.5). The energy's error is smaller.
ERROR = {4: 0.140, 5: 0.050, 6: 0.024}


def spline_order(tolerance: float) -> int:
    """The order at which spreading and transforms together cost least in a liquid."""
    if tolerance >= 1e-3:
        return 4
    return 5 if tolerance >= 1e-4 else 6


def mesh_spacing(alpha: float, tolerance: float, order: int) -> float:
    """Mesh spacing in Angstrom at which the mesh alone meets the tolerance."""
    error = ERROR[order] * (alpha / 0.35) ** 2
    return min((tolerance / error) ** (1.0 / order), 0.6) / alpha


def mesh_potential(q: Tensor, u: Tensor, influence: Tensor, grid: Grid) -> Tensor:
    """Spread, convolve, interpolate: [n_atoms], differentiable to any order."""
    density = Spread.apply(q[:, None], u, grid, VALUE)
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
        density = spread_values(q[:, None], stencil, VALUE)
        spectrum = torch.fft.rfftn(density, dim=(1, 2, 3))
        mesh = torch.fft.irfftn(spectrum * influence, s=grid.shape, dim=(1, 2, 3), norm="forward")
        terms = (*VALUE, *GRADIENT) if ctx.needs_input_grad[1] else VALUE
        values = interpolate_values(mesh, stencil, terms)
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
