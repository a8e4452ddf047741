"""Neighborhood: the pairs of one evaluation, and how this evaluation is to be made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from hff_ase.backends import Backend
from hff_ase.batch import AtomsBatch
from hff_ase.halo import Halo
from hff_ase.kept import LiveParameters
from hff_ase.memory import Memory
from hff_ase.pairs import PairIndex, PairRequest, Pairs, Rows

if TYPE_CHECKING:  # the sums themselves know nothing of neighbours
    from hff_ase.longrange.mesh_sum import MeshSum

__all__ = ["Neighborhood"]


class Planner(Protocol):
    """An object that prepares for a batch whenever its neighbours are searched again."""

    def prepare(self, batch: AtomsBatch) -> Any:
        """What can be kept until the next rebuild (mesh sizes, wave vectors ...)."""


class Source(Protocol):
    """Where pairs come from: see `hff_ase.pair_source.PairSource`."""

    skin: float
    trims: bool
    divided: bool

    def rows(self, request: PairRequest) -> Rows:
        """Pairs in rows, those within the skin included."""

    def view(self, request: PairRequest) -> PairIndex:
        """The same pairs, flat."""

    def plan(self, planner: Planner) -> Any:
        """What a planner prepared at the last rebuild."""


@dataclass(eq=False)
class Neighborhood:
    """What terms read in one evaluation, bound to (possibly strained) positions and cell.

    Pair vectors are differentiable in positions and cell, and computed once however many terms use
    them.

    Attributes:
        source: of the pairs.
        batch: the systems, in the order of the source.
        kernels: the fused kernels that networks may use; None for the reference.
        parameters: weights that gradients flow through, in a training step on fused kernels.
        terms: all that are evaluated, in order.
        memory: what solvers keep along one trajectory; None keeps nothing.
        owned: bool [n_atoms], whose energies count; None where all do.
        halo: to the processes that own the other atoms.
        left_out: parts of terms that are not wanted.
        computed_ahead: energies [n_atoms] of later terms that an earlier one has computed along.
        mesh_sums: of all systems that a term has made, with what it knows of charges, for later
            terms.
    """

    source: Source
    batch: AtomsBatch
    kernels: Backend | None = None
    parameters: LiveParameters | None = None
    terms: tuple[nn.Module, ...] = ()
    memory: Memory | None = None
    owned: Tensor | None = None
    halo: Halo | None = None
    left_out: frozenset[tuple[nn.Module, str]] = frozenset()
    computed_ahead: dict[nn.Module, Tensor] = field(default_factory=dict)
    mesh_sums: list[MeshSum] = field(default_factory=list)
    _pairs: dict[PairRequest, Pairs] = field(default_factory=dict)

    @property
    def fast(self) -> bool:
        """Whether kernels may give energies with ready-made derivatives: those are of the energies
        of whole systems, or of all pairs of a process where these are divided among processes."""
        if self.owned is None:
            return self.kernels is not None
        return self.kernels == "numba" and self.halo is not None and self.source.divided

    @property
    def n_own(self) -> int | None:
        """Own atoms of a process that has ghosts of others behind them; None without a halo."""
        return None if self.halo is None else self.halo.n_own

    def leaves_out(self, term: nn.Module, part: str) -> bool:
        """Whether a part of a term is not wanted."""
        return (term, part) in self.left_out

    def rows(self, request: PairRequest) -> Rows:
        """The pairs that answer a request, those within the skin included, for kernels."""
        return self.source.rows(request)

    def pairs(self, request: PairRequest) -> Pairs:
        """The pairs that answer a request, computed once per evaluation."""
        if request not in self._pairs:
            index = self.source.view(request)
            # On the CPU a list with skin is trimmed to the cutoff: that costs one pass over the
            # distances and saves 40-70 % of the edges downstream. On a GPU it would need a
            # host sync, so there the terms' own zeros do the work.
            trims = self.source.trims and index.i.device.type == "cpu"
            if trims and self.source.skin > 0 and request.kind != "isolated":
                with torch.no_grad():
                    distance = torch.linalg.vector_norm(index.vectors(self.batch), dim=-1)
                    keep = torch.nonzero(distance < request.cutoff)[:, 0]
                index = index.select(keep)
            vector = index.vectors(self.batch)
            distance = torch.linalg.vector_norm(vector, dim=-1)
            self._pairs[request] = Pairs(index.i, index.j, vector, distance)
        return self._pairs[request]

    def plan(self, planner: Planner) -> Any:
        """What a term prepared when the list was last built."""
        return self.source.plan(planner)
