r"""The smooth part of the lattice sum of charges, dipoles and quadrupoles.

An atom is the source L = q + mu . d + Theta/3 : d d of a charge (`moments`): in reciprocal space
q + i k . mu - k Theta k / 3, on a mesh the same derivatives of the B-splines that a charge is
spread with. What moments do to themselves is taken out; a net charge has a neutralising background,
which dipoles and traceless quadrupoles do not see, and surroundings conduct.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.bspline import CURVATURE, GRADIENT, Interpolate, SpreadCharges
from hff_ase.longrange.ewald import EwaldPlan, ReciprocalEwald, potential_corrections
from hff_ase.longrange.lattice import reciprocal_lattice
from hff_ase.longrange.mesh import MeshGroup
from hff_ase.longrange.mesh_sum import mesh_of
from hff_ase.longrange.multipoles.moments import Moments
from hff_ase.longrange.pme import ReciprocalPME

_UPPER = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # of a symmetric matrix, as CURVATURE has


def smooth_energies(
    batch: AtomsBatch, moments: Moments, method: ReciprocalEwald | ReciprocalPME, plan: Any
) -> Tensor:
    """L_i phi / 2 of the smooth part [n_atoms], e^2/A, without self-interaction, with the
    background; zero for systems without a cell. Differentiable to any order."""
    if isinstance(method, ReciprocalPME):
        found = _mesh(batch, moments, plan, method.alpha, energies=True)
    else:
        found = _waves(batch, moments, method, plan, energies=True)
    own = moments.charges * potential_corrections(batch, moments.charges, method.alpha)
    own = own - self_factor(method.alpha) * moments.dipoles.square().sum(1)
    of_quadrupoles = 16.0 * method.alpha**5 / (45.0 * math.sqrt(math.pi))
    own = own - of_quadrupoles * moments.quadrupoles.square().sum((1, 2))
    return found + 0.5 * torch.where(batch.periodic[batch.system], own, 0.0)


def smooth_field(
    batch: AtomsBatch, moments: Moments, method: ReciprocalEwald | ReciprocalPME, plan: Any
) -> Tensor:
    """The field of the smooth part [n_atoms, 3], e/A^2, less what an atom's own dipole gives."""
    if isinstance(method, ReciprocalPME):
        found = -_mesh(batch, moments, plan, method.alpha, energies=False)
    else:
        found = -_waves(batch, moments, method, plan, energies=False)
    own = self_factor(method.alpha) * moments.dipoles
    return found + torch.where(batch.periodic[batch.system, None], own, 0.0)


def self_factor(alpha: float) -> float:
    """Minus a dipole's own smooth field, per dipole, 1/A^3."""
    return 4.0 * alpha**3 / (3.0 * math.sqrt(math.pi))


def _waves(
    batch: AtomsBatch,
    moments: Moments,
    method: ReciprocalEwald,
    plan: EwaldPlan,
    *,
    energies: bool,
) -> Tensor:
    """Energies [n_atoms], or gradients of the potential [n_atoms, 3], self-interaction included."""
    if plan.index.shape[1] == 0:
        return torch.zeros_like(moments.charges if energies else moments.dipoles)
    cos, sin, weight = method.waves(batch, plan)
    k = plan.index @ (2.0 * math.pi * reciprocal_lattice(batch.cell)[0])  # [system, wave, xyz]
    present = batch.pad(torch.ones_like(moments.charges))[..., None]
    cos, sin = cos * present, sin * present
    theta = batch.pad(moments.quadrupoles.flatten(1))
    kk = (k[..., :, None] * k[..., None, :]).flatten(2)
    even = batch.pad(moments.charges)[..., None] - theta @ kk.mT / 3.0  # [system, atom, wave]
    odd = batch.pad(moments.dipoles) @ k.mT
    s_cos, s_sin = (even * cos - odd * sin).sum(1), (even * sin + odd * cos).sum(1)
    at_cos, at_sin = weight * s_cos, weight * s_sin
    if energies:
        product = at_cos[:, None] * (even * cos - odd * sin)
        product = product + at_sin[:, None] * (even * sin + odd * cos)
        return batch.unpad(0.5 * product.sum(2))
    return batch.unpad(cos @ (at_sin[..., None] * k) - sin @ (at_cos[..., None] * k))


def _mesh(
    batch: AtomsBatch, moments: Moments, plan: list[MeshGroup], alpha: float, *, energies: bool
) -> Tensor:
    """As `_waves`."""
    found = torch.zeros_like(moments.charges if energies else moments.dipoles)
    for group in plan:
        cell = group.lattice(batch.cell)
        reciprocal = reciprocal_lattice(cell)[0]
        u = group.mesh_units(group.of_atoms(batch.positions), reciprocal)
        along = (group.size[:, None] * reciprocal)[group.grid.system]  # du_a/dx_b
        sources = _in_mesh_units(Moments(*(group.of_atoms(m) for m in moments)), along)
        density = SpreadCharges.apply(sources, u, group.grid, CURVATURE)
        spectrum = torch.fft.rfftn(density, dim=(1, 2, 3)) * group.influence(cell, alpha)
        mesh = mesh_of(spectrum, group)
        if energies:
            values = Interpolate.apply(mesh, u, group.grid, CURVATURE)
            part = 0.5 * (sources * values).sum(1)
        else:
            slopes = Interpolate.apply(mesh, u, group.grid, GRADIENT)
            part = torch.einsum("na,nab->nb", slopes, along)
        found = part if group.atoms is None else found.index_copy(0, group.atoms, part)
    return found


def _in_mesh_units(moments: Moments, along: Tensor) -> Tensor:
    """The factors of CURVATURE's derivatives by mesh units, [n_group_atoms, 10]."""
    dipoles = torch.einsum("nab,nb->na", along, moments.dipoles)
    theta = along @ moments.quadrupoles @ along.mT / 3.0
    bent = [theta[:, a, b] * (1.0 if a == b else 2.0) for a, b in _UPPER]
    return torch.cat([moments.charges[:, None], dipoles, torch.stack(bent, 1)], 1)
