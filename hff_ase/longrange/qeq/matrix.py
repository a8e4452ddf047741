r"""Coulomb interaction of Gaussian charges: pair weights, what a box adds, and a dense matrix.

Two Gaussians of widths s_i, s_j interact as erf(r/g_ij)/r, g_ij^2 = 2 (s_i^2 + s_j^2), and one with
itself as 1/(sqrt(pi) s_i). In a periodic box the sum over images is split as for points,

.. math:: \frac{\mathrm{erf}(r/g)}{r} = \frac{\mathrm{erf}(r/g) - \mathrm{erf}(\alpha r)}{r}
    + \frac{\mathrm{erf}(\alpha r)}{r},

the first part in real space, the second one in reciprocal space. The term k = 0 is left out of the
whole sum: a charged box gets a uniform neutralising background, which interacts with the Gaussians
as they are, not with points. The matrix is then positive (semi)definite.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.ewald import EwaldPlan, ReciprocalEwald
from hff_ase.pairs import Pairs


class GaussianPairs(NamedTuple):
    """Pairs i, j [n_pairs] of the real-space sums and their interaction [n_pairs], 1/Angstrom."""

    i: Tensor
    j: Tensor
    weight: Tensor


def gaussian_pairs(
    batch: AtomsBatch,
    widths: Tensor,
    periodic: Pairs | None,
    molecule: Pairs | None,
    alpha: float,
    cutoff: float,
) -> GaussianPairs:
    """The real-space part: pairs within the cutoff in boxes, all pairs in molecules.

    Args:
        widths: standard deviations [n_atoms], Angstrom.
        periodic: half list within ``cutoff``; molecule: every pair of non-periodic systems.
    """
    parts = []
    for pairs, in_box in ((periodic, True), (molecule, False)):
        if pairs is None:
            continue
        r = pairs.distance
        square = widths.square()
        inverse = torch.rsqrt(2.0 * (square[pairs.i] + square[pairs.j]))
        shape = torch.erf(r * inverse)
        if in_box:
            counts = (r < cutoff) & batch.periodic[batch.system[pairs.i]]
            shape = torch.where(counts, shape - torch.erf(alpha * r), 0.0)
        parts.append((pairs.i, pairs.j, shape / r))
    i, j, weight = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return GaussianPairs(i, j, weight)


def gaussian_matrix(
    batch: AtomsBatch,
    widths: Tensor,
    pairs: GaussianPairs,
    reciprocal: ReciprocalEwald,
    plan: EwaldPlan | None,
) -> Tensor:
    """J [n_systems, n, n] with n the atoms of the largest system, 1/Angstrom; zero where padded.

    The Coulomb energy is k_e/2 sum_ij q_i J_ij q_j.
    """
    n = batch.max_count
    row = (batch.system * n + batch.index_in_system) * n
    column = batch.index_in_system
    matrix = torch.zeros(batch.n_systems * n * n, dtype=torch.float64, device=batch.device)
    # An atom and its own image are one pair of the half list and count twice on the diagonal.
    matrix = matrix.index_add(0, row[pairs.i] + column[pairs.j], pairs.weight)
    matrix = matrix.index_add(0, row[pairs.j] + column[pairs.i], pairs.weight)
    matrix = matrix.index_add(0, row + column, self_interaction(batch, widths, reciprocal.alpha))
    matrix = matrix.view(batch.n_systems, n, n)
    if plan is None:
        return matrix
    real = batch.pad(torch.ones_like(widths))
    outer = real[:, :, None] * real[:, None, :] * batch.periodic[:, None, None]
    square = 2.0 * batch.pad(widths.square())
    background = 1.0 / reciprocal.alpha**2 - square[:, :, None] - square[:, None, :]
    matrix = matrix - (math.pi / batch.volume)[:, None, None] * outer * background
    if plan.index.shape[1] == 0:
        return matrix
    cos, sin, weight = reciprocal.waves(batch, plan)
    root = weight.clamp(min=1e-300).sqrt()[:, None, :] * real[:, :, None]
    waves = torch.cat([cos * root, sin * root], -1)
    return matrix + waves @ waves.mT


def background_potential(
    batch: AtomsBatch, charges: Tensor, widths: Tensor, alpha: float
) -> Tensor:
    """The change of the potential in boxes from omitting k = 0, [n_atoms], e/Angstrom.

    pi/V sum_j q_j (1/alpha^2 - 2 s_i^2 - 2 s_j^2): the integral of the real-space part.
    """
    square = 2.0 * widths.square()
    total = batch.system_sum(torch.stack([charges, square * charges], 1))[batch.system]
    background = (1.0 / alpha**2 - square) * total[:, 0] - total[:, 1]
    return (math.pi / batch.volume)[batch.system] * background


def self_interaction(batch: AtomsBatch, widths: Tensor, alpha: float) -> Tensor:
    """1/(sqrt(pi) s_i), less 2 alpha/sqrt(pi) in a box: the smooth part holds that already."""
    within = 2.0 * alpha * batch.periodic[batch.system].double()
    return (1.0 / widths - within) / math.sqrt(math.pi)
