"""Fractional coordination numbers and what they say about an atom's C6."""

from __future__ import annotations

import torch
from torch import Tensor

from hff_ase.pairs import Pairs
from hff_ase.terms.dispersion.reference import ReferenceTables
from hff_ase.terms.pairwise import switch_off

STEEPNESS = 16.0  # k1 of the counting function
WEIGHTING = 4.0  # k3 of the Gaussian weights


def fractional_coordination(
    pairs: Pairs, radius: Tensor, cutoff: float, switch_width: float
) -> Tensor:
    """CN_i = sum_j 1/(1 + exp(-16 ((R_i + R_j)/r - 1))), [n_atoms].

    Grimme et al., J. Chem. Phys. 132, 154104 (2010), eq. 15. The counting function levels off at
    1e-7, not 0, so that its sum needs a cutoff.

    Args:
        pairs: a half list.
        radius: [n_atoms], scaled covalent radii, Angstrom.
        cutoff, switch_width: Angstrom; a width of 0 cuts the sum off sharply.
    """
    reach = radius.index_select(0, pairs.i) + radius.index_select(0, pairs.j)
    counted = count(pairs.distance, reach)
    counted = within_cutoff(counted, pairs.distance, cutoff, switch_width)
    total = torch.zeros_like(radius)
    return total.index_add(0, pairs.i, counted).index_add(0, pairs.j, counted)


def count(distance: Tensor, reach: Tensor) -> Tensor:
    """1/(1 + exp(-16 (reach/r - 1))) of distances and sums of radii, Angstrom."""
    # Below 0.1 Angstrom it is 1 to the last digit; the clamp keeps 1/r and its slope finite.
    return torch.sigmoid(STEEPNESS * (reach / distance.clamp(min=0.1) - 1.0))


def within_cutoff(value: Tensor, distance: Tensor, cutoff: float, switch_width: float) -> Tensor:
    """Values [n_pairs] taken to zero over the last ``switch_width`` Angstrom, or cut off at 0."""
    if switch_width > 0:
        return value * switch_off(distance, cutoff - switch_width, cutoff)
    return torch.where(distance < cutoff, value, 0.0)


def reference_weights(cn: Tensor, row: Tensor, tables: ReferenceTables) -> Tensor:
    """Weights exp(-4 (CN - CN_ref)^2) of each atom's reference systems, normalised.

    As a softmax: for CN far from every reference (a crowded Li+) all the exponentials underflow
    and their plain quotient is 0/0.

    Returns:
        [n_atoms, n_ref], zero for padding.
    """
    exponent = -WEIGHTING * (cn[:, None] - tables.cn[row]).square()
    return torch.softmax(exponent.masked_fill(~tables.exists[row], -torch.inf), dim=1)


def weight_slopes(cn: Tensor, weights: Tensor, row: Tensor, tables: ReferenceTables) -> Tensor:
    """dw/dCN of `reference_weights`, [n_atoms, n_ref]."""
    slope = -2.0 * WEIGHTING * (cn[:, None] - tables.cn[row])
    return weights * (slope - (weights * slope).sum(1, keepdim=True))


def half_contracted(weights: Tensor, row: Tensor, tables: ReferenceTables) -> Tensor:
    """sum_a w_ia C6_ab for each partner element and each of its reference systems b.

    Args:
        weights: [n_atoms, m, n_ref], m vectors per atom; row: [n_atoms], rows of the tables.

    Returns:
        [n_atoms, n_species, m, n_ref], eV Angstrom^6.
    """
    n_atoms, m, n_ref = weights.shape
    n_species = tables.cn.shape[0]
    column = row[:, None, None] * n_ref + torch.arange(n_ref, device=row.device)
    wide = weights.new_zeros(n_atoms, m, n_species * n_ref)
    wide = wide.scatter(2, column.expand(n_atoms, m, n_ref), weights)
    towards = (wide @ tables.c6).reshape(n_atoms, m, n_species, n_ref)
    return towards.transpose(1, 2).contiguous()


def pair_c6(
    weights: Tensor, row: Tensor, partner: Tensor, pairs: Pairs, tables: ReferenceTables
) -> Tensor:
    """C6_ij = sum_ab w_ia C6_ab w_jb, [n_pairs], eV Angstrom^6.

    The sum over a is done per atom and element of the partner, so that a pair costs n_ref
    products rather than n_ref^2.

    Args:
        weights: [n_atoms, n_ref]; row: [n_atoms], rows of the tables; partner: [n_pairs], row[j].
    """
    n_ref, n_species = weights.shape[1], tables.cn.shape[0]
    towards = half_contracted(weights[:, None], row, tables).reshape(-1, n_ref)
    ahead = towards.index_select(0, pairs.i * n_species + partner)
    return (ahead * weights.index_select(0, pairs.j)).sum(1)
