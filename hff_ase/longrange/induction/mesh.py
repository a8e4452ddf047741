"""The smooth part of the lattice sum for charges and dipoles, on meshes.

A dipole is spread with the derivatives of the B-splines that a charge is spread with, and the mesh
is the one of charges (`hff_ase.longrange.mesh`). Charges alone go through it once, charges and
dipoles together once more at the end; the difference is all that derivatives need.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.explicit import given_gradient
from hff_ase.longrange.bspline import BOTH, CURVATURE, GRADIENT, Interpolate, SpreadCharges
from hff_ase.longrange.induction.smooth import self_field
from hff_ase.longrange.lattice import cell_gradient, reciprocal_lattice
from hff_ase.longrange.mesh import MeshGroup
from hff_ase.longrange.mesh_sum import MeshSum, mesh_of


class MeshDipoles(MeshSum):
    """The sum at one configuration.

    Args:
        batch: the configuration, in a graph or not.
        plan: of `ReciprocalPME.prepare`.
        alpha: splitting parameter, 1/Angstrom.
        explicit: whether only sums of energies over whole systems are differentiated, once.
        known: a sum at this configuration on the same meshes, whose stencils and charges serve.
    """

    def __init__(
        self,
        batch: AtomsBatch,
        plan: list[MeshGroup],
        alpha: float,
        explicit: bool,
        known: MeshSum | None = None,
    ) -> None:
        super().__init__(batch, plan, alpha, known=known)
        self._in_graph, self._explicit = batch, explicit

    @torch.no_grad()
    def field(self, charges: Tensor) -> Tensor:
        """Of charges [n_atoms], [n_atoms, 3] in e/A^2."""
        known, field = self.of(charges), torch.zeros_like(self.batch.positions)
        for group, _ in self._parts:
            slopes = group.of_atoms(known.values)[:, 1:]
            field = _put(group, field, -self._per_length(group, slopes))
        return field

    @torch.no_grad()
    def apply(self, dipoles: Tensor) -> Tensor:
        """T mu [n_atoms, 3], e/A^2."""
        found = torch.zeros_like(dipoles)
        for group, stencil in self._parts:
            sources = self._to_mesh(group, group.of_atoms(dipoles))
            spectrum = torch.fft.rfftn(stencil.spread(sources, GRADIENT), dim=(1, 2, 3))
            spectrum *= group.influence(group.lattice(self.batch.cell), self.alpha)
            slopes = stencil.interpolate(mesh_of(spectrum, group), GRADIENT)
            found = _put(group, found, self._per_length(group, slopes))
        return found - self_field(self.batch, self.alpha) * dipoles

    def energies(self, charges: Tensor, dipoles: Tensor) -> Tensor:
        """mu_i . (T mu/2 - F)_i [n_atoms], e^2/A, of fixed dipoles."""
        own = self_field(self.batch, self.alpha)[:, 0] * dipoles.square().sum(1)
        if self._explicit:
            return self._with_gradient(charges, dipoles) - 0.5 * own
        return self._plain(charges, dipoles) - 0.5 * own

    def _plain(self, charges: Tensor, dipoles: Tensor) -> Tensor:
        """The reference: differentiable to any order."""
        batch, energies = self._in_graph, torch.zeros_like(charges)
        for group, _ in self._parts:
            cell, mu = group.lattice(batch.cell), group.of_atoms(dipoles)
            reciprocal = reciprocal_lattice(cell)[0]
            u = group.mesh_units(group.of_atoms(batch.positions), reciprocal)
            along = (group.size[:, None] * reciprocal)[group.grid.system]  # du_a/dx_b
            sources = torch.einsum("nb,nab->na", 0.5 * mu, along)
            sources = torch.cat([group.of_atoms(charges)[:, None], sources], 1)
            density = SpreadCharges.apply(sources, u, group.grid, BOTH)
            spectrum = torch.fft.rfftn(density, dim=(1, 2, 3))
            mesh = mesh_of(spectrum * group.influence(cell, self.alpha), group)
            slopes = Interpolate.apply(mesh, u, group.grid, GRADIENT)
            part = (mu * torch.einsum("na,nab->nb", slopes, along)).sum(1)
            energies = part if group.atoms is None else energies.index_copy(0, group.atoms, part)
        return energies

    def _with_gradient(self, charges: Tensor, dipoles: Tensor) -> Tensor:
        """By one pass through the mesh.

        With psi the potential of all and psi_q that of the charges,
        dE/dx_i = q_i grad (psi - psi_q) + (mu_i . grad) grad psi. Under a strain of everything the
        influence function changes, as for charges, and a dipole in mesh units shrinks:
        dE/dstrain_ab has - sum_i mu_ia (grad psi)_ib beside what it has for charges.
        """
        with torch.no_grad():
            known, batch = self.of(charges), self.batch
            energies, to_charges = torch.zeros_like(charges), torch.zeros_like(charges)
            d_positions, virial = torch.zeros_like(dipoles), torch.zeros_like(batch.cell)
            for group, stencil in self._parts:
                q, mu = group.of_atoms(charges), group.of_atoms(dipoles)
                alone = group.of_atoms(known.values)
                moment = self._to_mesh(group, mu)
                density = stencil.spread(torch.cat([q[:, None], moment], 1), BOTH)
                spectrum = torch.fft.rfftn(density, dim=(1, 2, 3))
                part_virial = self._convolve(group, spectrum) - group.of_systems(known.virial)
                values = stencil.interpolate(mesh_of(spectrum, group), CURVATURE)
                bent = _curved(values[:, 4:], moment)
                to_u = q[:, None] * (values[:, 1:4] - alone[:, 1:]) + bent
                half = 0.5 * (values[:, 1:4] + alone[:, 1:])
                energies = _put(group, energies, (moment * half).sum(1))
                to_charges = _put(group, to_charges, values[:, 0] - alone[:, 0])
                d_positions = _put(group, d_positions, self._per_length(group, to_u))
                slopes = self._per_length(group, values[:, 1:4])
                part_virial = part_virial - _sum_of(group, mu[:, :, None] * slopes[:, None])
                virial = part_virial if group.systems is None else virial.index_copy(
                    0, group.systems, part_virial
                )  # fmt: skip
            d_cell = cell_gradient(batch, self.reciprocal, virial, d_positions)
        graph = self._in_graph
        return given_gradient(energies, graph, d_positions, d_cell, charges, to_charges)

    def _to_mesh(self, group: MeshGroup, vectors: Tensor) -> Tensor:
        """Vectors [n_group_atoms, 3] in Angstrom to mesh units."""
        along = group.size[:, None] * self._along(group)  # du_a/dx_b
        if group.grid.n_systems == 1:
            return vectors @ along[0].mT
        return torch.einsum("nb,nab->na", vectors, along[group.grid.system])


def _put(group: MeshGroup, whole: Tensor, part: Tensor) -> Tensor:
    """Values of the group's atoms among those of the batch."""
    return part if group.atoms is None else whole.index_copy(0, group.atoms, part)


def _sum_of(group: MeshGroup, per_atom: Tensor) -> Tensor:
    """Sums over the systems of a group, [n_group, ...]."""
    zero = per_atom.new_zeros((group.grid.n_systems, *per_atom.shape[1:]))
    return zero.index_add(0, group.grid.system, per_atom)


def _curved(second: Tensor, moment: Tensor) -> Tensor:
    """(p . grad) grad psi [n, 3] of second derivatives xx, yy, zz, xy, xz, yz [n, 6]."""
    xx, yy, zz, xy, xz, yz = second.unbind(1)
    x, y, z = moment.unbind(1)
    return torch.stack([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z,
                        xz * x + yz * y + zz * z], 1)  # fmt: skip
