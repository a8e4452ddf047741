"""Derivatives of a batch's energies: forces, stress, and stress by moving molecules as a whole."""

from __future__ import annotations

import torch
from ase.data import atomic_masses
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.reduce import segment_sum


def energy_gradient(energy: Tensor, leaves: list[Tensor], create_graph: bool) -> list[Tensor]:
    """dE/dleaf for each leaf; zero where the energy does not depend on it (one atom alone)."""
    if not energy.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    gradients = torch.autograd.grad(
        [energy], leaves, [torch.ones_like(energy)], create_graph=create_graph, allow_unused=True
    )
    return [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, gradients, strict=True)
    ]


def stress_of(batch: AtomsBatch, d_positions: Tensor, d_cell: Tensor | None = None) -> Tensor:
    """dE/dstrain/V [n_systems, 3, 3] from dE/dpositions and dE/dcell; zero without a cell.

    A strain e takes every row x of positions and cell to x (1 + e), so that
    dE/de_ab = sum_x x_a dE/dx_b; only its symmetric part is kept (the rest is a rotation).
    """
    if d_cell is None:
        return torch.zeros_like(batch.cell)
    virial = batch.cell.mT @ d_cell
    if batch.n_systems == 1:
        virial = virial + batch.positions.mT @ d_positions
    else:
        virial = virial + batch.system_sum(batch.positions[:, :, None] * d_positions[:, None, :])
    return _per_volume(batch, virial)


def molecular_stress_of(batch: AtomsBatch, stress: Tensor, d_positions: Tensor) -> Tensor:
    """dE/dstrain/V [n_systems, 3, 3] where a strain moves molecules as rigid bodies.

    The strain takes the centre of mass X of every molecule, and the rows of the cell, to
    X (1 + e), while atoms keep their places x - X in their molecule: dE/de_ab = sum_x x_a dE/dx_b
    - sum_i (x_i - X)_a dE/dx_ib, where the last sum is the molecules' internal virial (Allen and
    Tildesley, Computer Simulation of Liquids, 2nd ed., section 2.4). Its mean over an ensemble, the
    kinetic part of the molecules' centres added, is that of the atomic stress; without the bonds'
    forces it fluctuates several times less.

    Args:
        batch: with molecules, each smaller than half of the box's shortest height.
        stress: of `stress_of`.
        d_positions: dE/dpositions [n_atoms, 3].
    """
    inside = offsets_in_molecules(batch)
    if batch.n_systems == 1:
        internal = (inside.mT @ d_positions)[None]
    else:
        internal = batch.system_sum(inside[:, :, None] * d_positions[:, None, :])
    return stress - _per_volume(batch, internal)


def offsets_in_molecules(batch: AtomsBatch) -> Tensor:
    """Places of atoms from the centres of mass of their (whole) molecules, float64 [n_atoms, 3].

    Raises:
        ConfigError: a batch without molecules.
    """
    if batch.molecule is None:
        raise ConfigError(
            "expected a batch with molecules for the molecular stress (atoms.arrays['molecule']), "
            "got one without"
        )
    molecule, n = batch.molecule, batch.n_molecules
    index = torch.arange(batch.n_atoms, device=batch.device)
    first = index.new_full((n,), batch.n_atoms).scatter_reduce(0, molecule, index, "amin")
    apart = batch.positions - batch.positions[first[molecule]]
    if batch.any_periodic:
        cell = batch.cell[batch.system]
        fraction = torch.linalg.solve(cell.mT, apart[..., None])[..., 0]
        whole = fraction.round() * batch.periodic[batch.system, None]
        apart = apart - (whole[:, None] @ cell)[:, 0]
    mass = masses_of(batch)
    total = segment_sum(mass, molecule, n)
    centre = segment_sum(mass[:, None] * apart, molecule, n) / total[:, None]
    return apart - centre[molecule]


def masses_of(batch: AtomsBatch) -> Tensor:
    """Masses, float64 [n_atoms], amu: the batch's own, else the standard ones."""
    if batch.masses is not None:
        return batch.masses
    return torch.as_tensor(atomic_masses, device=batch.device)[batch.numbers]


def _per_volume(batch: AtomsBatch, virial: Tensor) -> Tensor:
    """The symmetric part per volume; zero without a cell."""
    stress = 0.5 * (virial + virial.mT) / batch.volume[:, None, None]
    if batch.all_periodic:
        return stress
    return torch.where(batch.periodic[:, None, None], stress, torch.zeros_like(stress))
