"""The smooth part of 1/r on meshes at one configuration: potential, forces and virial, no autograd.

Everything that first derivatives need is known after one forward and one backward transform: the
mesh of the potential holds phi and the field, the spectrum the virial (Essmann et al., J. Chem.
Phys. 103, 8577 (1995), eq. 2.7). `hff_ase.longrange.pme.MeshPotential` is the differentiable form
of the same.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hff_ase.backends import backend_for
from hff_ase.batch import AtomsBatch
from hff_ase.halo import Halo
from hff_ase.longrange.bspline import BOTH, VALUE, Stencil
from hff_ase.longrange.lattice import SmoothSum, cell_gradient, reciprocal_lattice
from hff_ase.longrange.mesh import MeshGroup, square_waves, wave_metric


class MeshValues(NamedTuple):
    """phi and its slopes by mesh units at the atoms [n_atoms, 4], and dE/dstrain [n_systems, 3, 3]
    of E = 1/2 sum_i q_i phi_i."""

    values: Tensor
    virial: Tensor


class MeshSum:
    """phi = A q for any charges: stencils and influence functions are made once.

    Args:
        batch: the configuration.
        plan: of `ReciprocalPME.prepare`.
        alpha: splitting parameter, 1/Angstrom.
        power: n of 1/r^n; only `potential` knows others than 1.
        known: a sum at this configuration; if its meshes are the same, its stencils serve, and
            what it knows of charges.
    """

    def __init__(
        self,
        batch: AtomsBatch,
        plan: list[MeshGroup],
        alpha: float,
        power: int = 1,
        known: MeshSum | None = None,
    ) -> None:
        self.batch = batch.moved(batch.positions.detach(), batch.cell.detach())
        self.alpha, self.power = alpha, power
        self.reciprocal, self.volume = reciprocal_lattice(self.batch.cell)
        self._last: tuple[Tensor, MeshValues] | None = None
        self._parts: list[tuple[MeshGroup, Stencil]]
        if known is not None and known._is_for(plan, alpha, power):
            self._parts, self._last = known._parts, known._last
        else:
            self._parts = [(group, self._stencil(group)) for group in plan]

    def _is_for(self, plan: list[MeshGroup], alpha: float, power: int) -> bool:
        """Whether a plan for the same systems has these meshes."""
        mine, other = ([(g.grid.shape, g.grid.order) for g in x] for x in (self.plan, plan))
        return (mine, self.alpha, self.power) == (other, alpha, power)

    @property
    def plan(self) -> list[MeshGroup]:
        """The meshes."""
        return [group for group, _ in self._parts]

    def _along(self, group: MeshGroup) -> Tensor:
        """Reciprocal vectors of the lattice that the meshes lie along [n_group, 3, 3]."""
        if group.basis is None:
            return group.of_systems(self.reciprocal)
        return reciprocal_lattice(group.lattice(self.batch.cell))[0]

    def _stencil(self, group: MeshGroup) -> Stencil:
        positions = group.of_atoms(self.batch.positions)
        return Stencil(group.mesh_units(positions, self._along(group)), group.grid)

    @torch.no_grad()
    def potential(self, charges: Tensor) -> Tensor:
        """phi_i [n_atoms], e/Angstrom, self-interaction included."""
        phi = torch.zeros_like(charges)
        for group, stencil in self._parts:
            density = stencil.spread(group.of_atoms(charges)[:, None], VALUE)
            spectrum = torch.fft.rfftn(density, dim=(1, 2, 3))
            spectrum *= group.influence(group.lattice(self.batch.cell), self.alpha, self.power)
            part = stencil.interpolate(mesh_of(spectrum, group), VALUE)[:, 0]
            phi = part if group.atoms is None else phi.index_copy(0, group.atoms, part)
        return phi

    @torch.no_grad()
    def explicit(self, charges: Tensor, halo: Halo | None = None) -> SmoothSum:
        """phi, and dE/dx and dE/dcell of E = 1/2 sum_i q_i phi_i; zero for molecules.

        With a halo the batch is the own atoms of one process: the meshes of all are added up, each
        transforms the whole and gives an equal share of the virial.
        """
        batch, (values, virial) = self.batch, self.of(charges, halo)
        d_positions = torch.zeros_like(batch.positions)
        for group, _ in self._parts:
            slopes = self._per_length(group, group.of_atoms(values)[:, 1:])
            slopes = group.of_atoms(charges)[:, None] * slopes
            d_positions = slopes if group.atoms is None else d_positions.index_copy(
                0, group.atoms, slopes
            )  # fmt: skip
        d_cell = cell_gradient(batch, self.reciprocal, virial, d_positions)
        return SmoothSum(values[:, 0], d_positions, d_cell)

    @torch.no_grad()
    def of(self, charges: Tensor, halo: Halo | None = None) -> MeshValues:
        """The result of one pass through the mesh; the last one is kept."""
        if self._last is not None and torch.equal(self._last[0], charges):
            return self._last[1]
        values = charges.new_zeros((self.batch.n_atoms, 4))
        virial = torch.zeros_like(self.batch.cell)
        for group, stencil in self._parts:
            density = stencil.spread(group.of_atoms(charges)[:, None], VALUE)
            if halo is not None:
                density = halo.allreduce(density)
            spectrum = torch.fft.rfftn(density, dim=(1, 2, 3))
            part_virial = self._convolve(group, spectrum)
            if halo is not None:
                part_virial = part_virial * halo.share
            part = stencil.interpolate(mesh_of(spectrum, group), BOTH)
            if group.atoms is None or group.systems is None:
                values, virial = part, part_virial
            else:
                values[group.atoms], virial[group.systems] = part, part_virial
        self._last = charges, MeshValues(values, virial)
        return self._last[1]

    def _per_length(self, group: MeshGroup, slopes: Tensor) -> Tensor:
        """Derivatives by mesh units [n_group_atoms, 3] to derivatives by Angstrom."""
        to_length = group.size[:, None] * self._along(group)  # du_a/dx_b
        if group.grid.n_systems == 1:
            return slopes @ to_length[0]
        return torch.einsum("na,nab->nb", slopes, to_length[group.grid.system])

    def _convolve(self, group: MeshGroup, spectrum: Tensor) -> Tensor:
        """Multiply by the influence function in place; dE/dstrain [n_group, 3, 3].

        Under a strain k becomes k (1 - strain) and V grows by its trace:
        dE/dstrain_ab = sum_k P (1/k^2 + 1/4 alpha^2) k_a k_b - E delta_ab with P = |S|^2 G and
        E = 1/2 sum_k P.
        """
        reciprocal = self._along(group)
        metric = wave_metric(reciprocal)
        backend = backend_for(spectrum.device)
        if backend == "triton":
            from hff_ase.kernels.mesh import gpu

            volume = group.of_systems(self.volume)
            sums = gpu.convolve(
                spectrum, group.damping, metric, volume, group.grid.shape[2], self.alpha
            )
        else:
            influence = group.influence(group.lattice(self.batch.cell), self.alpha)
            if backend == "numba":
                from hff_ase.kernels.mesh import cpu_convolution as cpu

                sums = cpu.convolve(spectrum, influence, metric, group.grid.shape[2], self.alpha)
            else:
                sums = convolve(spectrum, influence, metric, group, self.alpha)
        twice_energy, m11, m12, m22, m13, m23, m33 = sums.unbind(1)
        moments = torch.stack([m11, m12, m13, m12, m22, m23, m13, m23, m33], 1).view(-1, 3, 3)
        waves = 2.0 * math.pi * reciprocal
        one = torch.eye(3, dtype=sums.dtype, device=sums.device)
        return waves.mT @ moments @ waves - 0.5 * twice_energy[:, None, None] * one


def convolve(
    spectrum: Tensor, influence: Tensor, metric: Tensor, group: MeshGroup, alpha: float
) -> Tensor:
    """`hff_ase.kernels.mesh.cpu_convolution.convolve` in tensor operations."""
    power = torch.view_as_real(spectrum).square().sum(-1) * influence * group.multiplicity
    spectrum *= influence
    moment = power * (1.0 / square_waves(group, metric) + 0.25 / alpha**2)
    m1, m2, m3 = group.numbers
    xy, xz, yz = moment.sum(3), moment.sum(2), moment.sum(1)
    sums = [
        power.sum((1, 2, 3)),
        xy.sum(2) @ m1**2,
        torch.einsum("sxy,x,y->s", xy, m1, m2),
        xy.sum(1) @ m2**2,
        torch.einsum("sxz,x,z->s", xz, m1, m3),
        torch.einsum("syz,y,z->s", yz, m2, m3),
        xz.sum(1) @ m3**2,
    ]
    return torch.stack(sums, 1)


def mesh_of(spectrum: Tensor, group: MeshGroup) -> Tensor:
    """Values on the meshes [n_group, *shape] of a half spectrum."""
    return torch.fft.irfftn(spectrum, s=group.grid.shape, dim=(1, 2, 3), norm="forward")
