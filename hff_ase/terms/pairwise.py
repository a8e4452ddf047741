"""What every pair-additive term needs: the smooth end of its range, the split between atoms, and
the way into the fused kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.explicit import given_gradient
from hff_ase.kernels.pair import MOST_KINDS, ElementTables, InterpolatedC6, pair_sums
from hff_ase.kernels.pair.tables import Table, tabulate
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest, Pairs
from hff_ase.terms.term import Fields, Term

__all__ = ["share_pairs", "switch_off"]


def switch_off(distance: Tensor, start: Tensor | float, stop: Tensor | float) -> Tensor:
    """1 up to ``start``, 0 from ``stop`` on, with two continuous derivatives in between.

    s(x) = 1 - x^3 (10 - 15 x + 6 x^2) with x = (r - start)/(stop - start), the lowest polynomial
    whose first and second derivatives vanish at both ends.

    Args:
        distance: [n_pairs], Angstrom; start, stop: Angstrom, scalars or [n_pairs].
    """
    x = ((distance - start) / (stop - start)).clamp(0.0, 1.0)
    return 1.0 - x**3 * (10.0 - x * (15.0 - 6.0 * x))


def share_pairs(energy: Tensor, pairs: Pairs, n_atoms: int) -> Tensor:
    """Atomic energies [n_atoms], eV: half of each pair's energy to either atom.

    Args:
        energy: [n_pairs], eV.
        pairs: a half list.
        n_atoms: of the batch.
    """
    half = 0.5 * energy
    return energy.new_zeros(n_atoms).index_add(0, pairs.i, half).index_add(0, pairs.j, half)


class KernelInput(NamedTuple):
    """Input of the pair kernel: a term's functions and, for D3, its coefficients."""

    elements: ElementTables | None = None
    c6: InterpolatedC6 | None = None


class ElementPairTerm(Term):
    """A term whose pairs interact as C_ij T_st(r), with s and t their elements.

    Its reference is `pair_energies`. Where fused kernels may be used it runs the pair kernel on
    its own or, if a term before it went over the same list, takes what that one left for it.
    """

    pair_request: PairRequest

    def kernel_input(self, batch: AtomsBatch, neighbors: Neighborhood) -> KernelInput | None:
        """Input of the kernel; None where the reference is used (too many elements for tables)."""
        raise NotImplementedError

    def pair_energies(self, batch: AtomsBatch, neighbors: Neighborhood) -> Tensor:
        """Atomic energies [n_atoms], eV, in torch."""
        raise NotImplementedError

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms], eV."""
        if not neighbors.fast:
            return self.pair_energies(batch, neighbors)
        if self in neighbors.computed_ahead:
            return neighbors.computed_ahead.pop(self)
        needed = self.kernel_input(batch, neighbors)
        if needed is None:
            return self.pair_energies(batch, neighbors)
        sums = pair_sums(batch, neighbors, self.pair_request, None, None, *needed)
        derivatives = sums.d_positions, sums.d_cell
        return given_gradient(sums.energy, batch, *derivatives, n_own=neighbors.n_own)


def following_pair_term(
    term: Term, neighbors: Neighborhood, request: PairRequest
) -> ElementPairTerm | None:
    """The first term that is evaluated after ``term`` and goes over the same list, if any."""
    later = False
    for other in neighbors.terms:
        if later and isinstance(other, ElementPairTerm) and other.pair_request == request:
            return other
        later = later or other is term
    return None


class PresentElements(NamedTuple):
    """Rows of a term's tables that occur in a batch: sorted ``rows``, the same as a tuple, and
    which of them each atom has, int32 [n_atoms]."""

    rows: Tensor
    key: tuple[int, ...]
    kind: Tensor

    @property
    def few(self) -> bool:
        """Whether there are few enough for a table per pair."""
        return len(self.key) <= MOST_KINDS

    def each_pair(self) -> tuple[Tensor, Tensor]:
        """First and second row of all ordered pairs, [n * n, 1], the second running fastest."""
        n = len(self.rows)
        return self.rows.repeat_interleave(n)[:, None], self.rows.repeat(n)[:, None]

    def tabulate(self, function: Callable[[Tensor], Tensor], cutoff: float) -> Table:
        """The table of a function of r [n * n, n_r] for `each_pair`."""
        return tabulate(function, cutoff, len(self.key) ** 2, self.rows.device)


def present_elements(row: Tensor) -> PresentElements:
    """What occurs among the rows of the atoms, int64 [n_atoms]."""
    rows, kind = torch.unique(row, return_inverse=True)
    return PresentElements(rows, tuple(rows.tolist()), kind.to(torch.int32))
