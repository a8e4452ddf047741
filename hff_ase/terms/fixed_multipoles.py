"""Fixed charges, dipoles and quadrupoles of molecules' atoms, in frames that turn with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.declared import Declared
from hff_ase.molecular.assignment import Assignment
from hff_ase.molecular.frames import FrameList, Frames, axes
from hff_ase.molecular.parameters import SiteValues, site_rows, with_values
from hff_ase.neighborhood import Neighborhood
from hff_ase.terms.fixed_charges import MISMATCH, FixedCharges
from hff_ase.terms.term import Fields

# Molecules of fits are neutral to some 1e-3 e only; a box of them is not exactly what it should be.
OF_MOLECULE = 5e-3


class FixedMultipoles(FixedCharges):
    r"""Moments of atoms from the molecules that they belong to; no energy of their own.

    Dipoles and quadrupoles are given in frames of neighbours (`hff_ase.molecular.frames`) and turn
    with these. Along an axis with a single partner (``axial``) only what is symmetric about it is
    kept, mu_z and Theta_zz, so that nothing depends on how the molecule lies in space; kinds
    ``axial_and_lab`` and ``lab`` keep the rest as published force fields do, whose energies change
    when everything is turned. The mean over several frames makes atoms that are alike alike.

    Args:
        molecules: each with ``name``, ``numbers``, ``bonds``, ``charge`` [n_atoms] in e, ``dipole``
            [n_atoms, 3] in e A, ``quadrupole`` [n_atoms, 5] in e A^2 (zz, xx - yy, xy, xz, yz of
            Buckingham's traceless Theta) and ``frames``.

    Raises:
        ConfigError: a molecule without moments, a frame that cannot be, or twice the same molecule.
    """

    kind = "fixed_multipoles"
    gives = ("charges", "permanent_dipoles", "permanent_quadrupoles")

    def __init__(self, molecules: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(molecules)
        self.dipole = SiteValues(self.templates, site_rows(molecules, "dipole", 3))
        self.quadrupole = SiteValues(self.templates, site_rows(molecules, "quadrupole", 5))
        self.frames = FrameList(self.templates, molecules)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        values = {"charge": self.charge, "dipole": self.dipole, "quadrupole": self.quadrupole}
        entries = with_values(self.templates, **values)
        for entry, rows in zip(entries, self.frames.config(), strict=True):
            entry["frames"] = rows
        return {"molecules": entries}

    def declared(self) -> dict[str, Declared]:
        """The moments."""
        return {
            **super().declared(),
            "dipole.value": Declared("e A", "none", 0.03, "dipoles in local frames"),
            "quadrupole.value": Declared("e A^2", "none", 0.05, "quadrupoles in local frames"),
        }

    def allowed_mismatch(self, batch: AtomsBatch, found: Assignment) -> Tensor:
        """Allowed difference of molecules' charges from the total, [n_systems], e."""
        count = torch.zeros_like(batch.charge)
        for atoms in found.instances:
            one = count.new_ones(len(atoms))
            count = count.index_add(0, batch.system[atoms[:, 0]], one)
        return MISMATCH + OF_MOLECULE * count

    def prepare(self, batch: AtomsBatch) -> tuple[Assignment, dict[str, Frames]]:  # type: ignore[override]
        """The sites of the atoms and their frames.

        Raises:
            StructureError: a molecule without moments, or charges that do not sum to the total.
        """
        found = super().prepare(batch)
        return found, self.frames.of(found)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Zero [n_atoms]; gives `charges` [n_atoms], `permanent_dipoles` [n_atoms, 3] and
        `permanent_quadrupoles` [n_atoms, 3, 3]."""
        found, frames = neighbors.plan(self)
        dipoles = torch.zeros_like(batch.positions)
        quadrupoles = batch.positions.new_zeros((batch.n_atoms, 3, 3))
        local_dipole, local_quadrupole = self.dipole(), self.quadrupole()
        for kind, own in frames.items():
            atom = own.atoms[:, 0]
            site = found.site[atom]
            rows = axes(batch, kind, own.atoms)
            mu, theta = _turned(kind, rows, local_dipole[site], local_quadrupole[site])
            dipoles = dipoles.index_add(0, atom, own.share[:, None] * mu)
            quadrupoles = quadrupoles.index_add(0, atom, own.share[:, None, None] * theta)
        fields["charges"] = self.charge()[found.site]
        fields["permanent_dipoles"], fields["permanent_quadrupoles"] = dipoles, quadrupoles
        return torch.zeros_like(batch.positions[:, 0])


def _turned(kind: str, rows: Tensor, mu: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Moments in space [n, 3], [n, 3, 3] from those in frames [n, 3], [n, 5] with axes ``rows``."""
    zz, difference, xy, xz, yz = theta.unbind(1)
    if kind == "axial":
        z = rows[:, 2]
        one = torch.eye(3, dtype=z.dtype, device=z.device)
        shape = 1.5 * z[:, :, None] * z[:, None, :] - 0.5 * one
        return mu[:, 2:] * z, zz[:, None, None] * shape
    xx, yy = 0.5 * (difference - zz), -0.5 * (difference + zz)
    local = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], 1).view(-1, 3, 3)
    return torch.einsum("nab,na->nb", rows, mu), rows.mT @ local @ rows
