"""All pair-additive sums in one kernel: tabulated functions of the distance.

The energy of a pair is q_i q_j T_0(r) + C_ij T_st(r), s and t the elements of the two atoms: the
real-space Coulomb energy and, with C = 1, any fixed pair potential or, with the C6 that D3
interpolates between coordination numbers, D3 with any damping. One pass over the half list gives
energies and all first derivatives. The functions are tabulated from the terms' own torch code
(`tables`), so that cutoffs and switches are what a model says.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.halo import at_home
from hff_ase.kernels.pair.tables import Table
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest

MOST_KINDS = 24  # elements of a batch; the tables of so many take 100 MB per term


@dataclass(frozen=True, eq=False)
class ElementTables:
    """Functions T_st(r) for the elements of a batch.

    Attributes:
        kind: int32 [n_atoms], which of the ``n_kinds`` elements an atom is.
        table: of [n_kinds * n_kinds] functions.
        n_kinds: elements.
        switch: float64 [n_kinds, n_kinds, 2] or None. With it functions are multiplied by
            `hff_ase.terms.pairwise.switch_off` between two distances, which may differ by pair of
            elements. (Within a table, the third derivative's steps there would cost digits where
            the switch is short and the function large.)
    """

    kind: Tensor
    table: Table
    n_kinds: int
    switch: Tensor | None = None


@dataclass(frozen=True, eq=False)
class InterpolatedC6:
    """C6_ij = sum_b towards[i, t_j, b] weights[j, b], and what the atoms' weights depend on.

    Attributes:
        weights: float64 [n_atoms, 2, n_ref], weights of the reference systems and their
            derivatives in the atom's coordination number.
        towards: float64 [n_atoms, n_kinds, 2, n_ref], sum_a w_ia C6_ab for either of those.
        request, counting: the list and the functions that coordination numbers are sums of.
    """

    weights: Tensor
    towards: Tensor
    request: PairRequest
    counting: ElementTables


@dataclass(eq=False)
class PairSums:
    """Results of a pass; derivatives are those of the sum of all its energies.

    Attributes:
        d_positions: [n_atoms, 3]; d_cell: [n_systems, 3, 3], at fixed positions.
        phi: [n_atoms], the potential sum_j T_0(r_ij) q_j.
        energy: [n_atoms], half of C_ij T_st(r_ij) to either atom.
        d_cn: [n_atoms], dE/dCN.
    """

    d_positions: Tensor
    d_cell: Tensor
    phi: Tensor
    energy: Tensor
    d_cn: Tensor


def _backend(neighbors: Neighborhood) -> ModuleType:
    if neighbors.kernels == "numba":
        from hff_ase.kernels.pair import cpu

        return cpu
    from hff_ase.kernels.pair import gpu

    return gpu


def pair_sums(
    batch: AtomsBatch,
    neighbors: Neighborhood,
    request: PairRequest,
    charges: Tensor | None = None,
    coulomb: Table | None = None,
    elements: ElementTables | None = None,
    c6: InterpolatedC6 | None = None,
) -> PairSums:
    """One pass over the pairs of a request, which all tables share as their cutoff.

    With a halo, what ghosts get of potential and energy is brought to their owners; derivatives
    stay this process's part.

    Args:
        charges: float64 [n_atoms], with the one function of ``coulomb``.
        elements: functions per pair of elements, with coefficients from ``c6`` or 1.
    """
    backend = _backend(neighbors)
    with torch.no_grad():
        rows = backend.rows_for(batch, neighbors, request)
        sums: PairSums = backend.pair_sums(
            batch, rows, request.cutoff, charges, coulomb, elements, c6
        )
        if c6 is not None:
            rows = backend.rows_for(batch, neighbors, c6.request)
            backend.add_count_slopes(batch, rows, c6.request.cutoff, c6.counting, sums)
        if neighbors.halo is not None:
            both = at_home(torch.stack([sums.phi, sums.energy], 1), neighbors.halo)
            sums.phi, sums.energy = both.unbind(1)
    return sums


def counts(
    batch: AtomsBatch, neighbors: Neighborhood, request: PairRequest, elements: ElementTables
) -> Tensor:
    """sum_j T_st(r_ij), float64 [n_atoms]."""
    backend = _backend(neighbors)
    with torch.no_grad():
        rows = backend.rows_for(batch, neighbors, request)
        result: Tensor = backend.counts(batch, rows, request.cutoff, elements)
    return result
