"""Ewald summation, batched: the potential of point charges in periodic boxes.

The neutralising background of a charged cell is included, and the boundary is conducting ("tin
foil"). Formulas: Frenkel & Smit, Understanding Molecular Simulation, 2nd ed., section 12.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.halo import Halo
from hff_ase.longrange.inverse_power import wave_weight
from hff_ase.longrange.lattice import (
    SmoothSum,
    cell_gradient,
    reciprocal_lattice,
    refuse_huge,
)
from hff_ase.longrange.mesh_sum import MeshSum


def splitting_parameter(cutoff: float, tolerance: float) -> float:
    """alpha in 1/Angstrom at which ending the real-space sum costs the tolerance.

    erfc(alpha cutoff) = tolerance/3: the relative RMS error of the forces is then at most the
    tolerance in disordered ionic systems, the densest included.
    """
    target = tolerance / 3.0
    x = math.sqrt(-math.log(target))
    for _ in range(50):  # fixed point on erfc(x) ~ exp(-x^2)/(x sqrt(pi))
        x = math.sqrt(max(-math.log(target * max(x, 0.5) * math.sqrt(math.pi)), 1e-2))
    return x / cutoff


def potential_corrections(
    batch: AtomsBatch, charges: Tensor, alpha: float, total: Tensor | None = None
) -> Tensor:
    """Self term and neutralising background, [n_atoms] in e/Angstrom.

    phi_i = -2 alpha q_i / sqrt(pi) - pi Q / (alpha^2 V).

    Args:
        total: Q of each system [n_systems] where the batch has a part of its atoms.
    """
    _, volume = reciprocal_lattice(batch.cell)
    total = batch.system_sum(charges) if total is None else total
    background = math.pi / alpha**2 * total / volume
    return -2.0 * alpha / math.sqrt(math.pi) * charges - background[batch.system]


@torch.no_grad()
def explicit_corrections(
    batch: AtomsBatch, charges: Tensor, alpha: float, halo: Halo | None = None
) -> SmoothSum:
    """`potential_corrections` of the periodic systems with the derivatives of their energy; with a
    halo of the own atoms of one process, with an equal share of the cell's derivative.

    The self term does not depend on the cell; the background's energy - pi Q^2/(2 alpha^2 V) has
    dV/dh = V h^-T.
    """
    reciprocal, volume = reciprocal_lattice(batch.cell)
    total, share = batch.system_sum(charges), 1.0
    if halo is not None:
        total, share = halo.allreduce(total), halo.share
    phi = potential_corrections(batch, charges, alpha, total)
    background = 0.5 * math.pi / alpha**2 * total.square() / volume * share
    if not batch.all_periodic:
        phi = torch.where(batch.periodic[batch.system], phi, 0.0)
        background = torch.where(batch.periodic, background, 0.0)
    return SmoothSum(phi, torch.zeros_like(batch.positions), background[:, None, None] * reciprocal)


@dataclass(frozen=True)
class EwaldPlan:
    """Integer wave vectors float64 [n_systems, n_k, 3] of half space, and which of them count."""

    index: Tensor
    counts: Tensor


class ReciprocalEwald:
    """The reciprocal-space part of the Ewald sum, exact to `tolerance`.

    Args:
        alpha: splitting parameter, 1/Angstrom.
        tolerance: relative size of the first terms left out.
        power: n of 1/r^n, 1 or even (`hff_ase.longrange.inverse_power`); only `potential` and
            `waves` know others than 1.
    """

    # Wave vectors are chosen at a rebuild of the neighbour list and must cover cells that grow or
    # shear until the next one, by at most `hff_ase.neighbors.PLAN_STRAIN`.
    margin = 1.03

    def __init__(self, alpha: float, tolerance: float, power: int = 1) -> None:
        self.alpha, self.power = alpha, power
        self.k_max = 2.0 * alpha * math.sqrt(-math.log(tolerance))

    def prepare(self, batch: AtomsBatch) -> EwaldPlan:
        """Choose the wave vectors, |k| <= k_max, one of each +-k."""
        reciprocal = 2.0 * math.pi * reciprocal_lattice(batch.cell)[0]
        k_max = self.k_max * self.margin
        lengths = torch.linalg.vector_norm(batch.cell, dim=-1)
        lengths = torch.where(batch.periodic[:, None], lengths, torch.zeros_like(lengths))
        # |n_a| <= k_max |a| / 2 pi holds for every wave vector inside the sphere.
        limits = torch.floor(k_max * lengths / (2.0 * math.pi)).amax(0).long().tolist()
        points = math.prod(2 * n + 1 for n in limits)
        refuse_huge(points, "wave vectors", lengths.amax(0).tolist())
        axes = [torch.arange(-n if a else 0, n + 1) for a, n in enumerate(limits)]
        index = torch.cartesian_prod(*axes).to(batch.cell)
        n1, n2, n3 = index.long().unbind(-1)
        half = (n1 > 0) | ((n1 == 0) & ((n2 > 0) | ((n2 == 0) & (n3 > 0))))
        index = index[half]
        k = torch.einsum("kd,sde->ske", index, reciprocal)
        inside = (k.square().sum(-1) <= k_max**2) & batch.periodic[:, None]
        n_k = int(inside.sum(-1).max()) if inside.numel() else 0
        first = torch.argsort((~inside).to(torch.int8), dim=-1, stable=True)[:, :n_k]
        return EwaldPlan(index[first], torch.gather(inside, 1, first))

    def potential(self, batch: AtomsBatch, charges: Tensor, plan: EwaldPlan) -> Tensor:
        """phi_i of the smooth part [n_atoms], e/Angstrom, self-interaction included.

        phi_i = (4 pi / V) sum_{k != 0} exp(-k^2 / 4 alpha^2) / k^2 Re[S(-k) exp(i k r_i)]
        """
        if plan.index.shape[1] == 0:
            return torch.zeros_like(charges)
        cos, sin, weight = self.waves(batch, plan)
        q = batch.pad(charges)[:, None, :]
        s_cos, s_sin = weight * (q @ cos)[:, 0], weight * (q @ sin)[:, 0]
        phi = cos @ s_cos[..., None] + sin @ s_sin[..., None]
        return batch.unpad(phi[..., 0])

    @torch.no_grad()
    def explicit(
        self,
        batch: AtomsBatch,
        charges: Tensor,
        plan: EwaldPlan,
        halo: Halo | None = None,
        made: list[MeshSum] | None = None,
    ) -> SmoothSum:
        """phi, and the derivatives of E = 1/2 sum_i q_i phi_i; zero for molecules. With a halo the
        batch is the own atoms of one process, and the virial its equal share.

        dE/dx_i = q_i sum_k w k [cos(k r_i) S_sin - sin(k r_i) S_cos] over half space, and as for
        a mesh dE/dstrain_ab = sum_k P (1/k^2 + 1/4 alpha^2) k_a k_b - E delta_ab.
        """
        reciprocal, _ = reciprocal_lattice(batch.cell)
        k = plan.index @ (2.0 * math.pi * reciprocal)
        cos, sin, weight = self.waves(batch, plan)
        q = batch.pad(charges)
        s_cos, s_sin = (q[:, None, :] @ cos)[:, 0], (q[:, None, :] @ sin)[:, 0]
        if halo is not None:
            s_cos, s_sin = halo.allreduce(torch.stack([s_cos, s_sin])).unbind(0)
        at_cos, at_sin = weight * s_cos, weight * s_sin
        phi = (cos @ at_cos[..., None] + sin @ at_sin[..., None])[..., 0]
        field = cos @ (at_sin[..., None] * k) - sin @ (at_cos[..., None] * k)
        d_positions = batch.unpad(q[..., None] * field)
        power = weight * (s_cos.square() + s_sin.square())
        moment = power * (1.0 / k.square().sum(-1).clamp(min=1e-12) + 0.25 / self.alpha**2)
        virial = k.mT @ (moment[..., None] * k)
        one = torch.eye(3, dtype=virial.dtype, device=virial.device)
        virial = virial - 0.5 * power.sum(-1)[:, None, None] * one
        if halo is not None:
            virial = virial * halo.share
        d_cell = cell_gradient(batch, reciprocal, virial, d_positions)
        return SmoothSum(batch.unpad(phi), d_positions, d_cell)

    def waves(self, batch: AtomsBatch, plan: EwaldPlan) -> tuple[Tensor, Tensor, Tensor]:
        """cos(k r), sin(k r) [n_systems, max_count, n_k] and each wave's weight [n_systems, n_k].

        The weight, 8 pi/V exp(-k^2/4 alpha^2)/k^2 for 1/r, is that of both of each +-k.
        """
        reciprocal, volume = reciprocal_lattice(batch.cell)
        k = plan.index @ (2.0 * math.pi * reciprocal)  # [system, k, xyz]
        k2 = k.square().sum(-1)
        weight = wave_weight(self.power, self.alpha, k2.clamp(min=1e-12))
        weight = torch.where(plan.counts, weight, torch.zeros_like(weight))
        weight = 2.0 / volume[:, None] * weight
        phase = batch.pad(batch.positions) @ k.mT  # [system, atom, k]
        return torch.cos(phase), torch.sin(phase), weight
