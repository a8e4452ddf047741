"""Neighbour lists: one search at the largest cutoff, nested views, reused under a Verlet skin.

Terms ask for pairs as a `PairRequest`. A `NeighborList` searches once per rebuild (vesin) and
answers every request from that search; `NeighborList.bind` gives the `Neighborhood` of one
evaluation, whose pair vectors are differentiable in positions and cell and computed once however
many terms use them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from vesin import NeighborList as VesinNeighborList

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError

# Meshes and wave vectors are planned at a search, with a margin for cells that change by less.
PLAN_STRAIN = 0.03

PairKind = Literal["full", "half", "molecule"]


@dataclass(frozen=True)
class PairRequest:
    """What a term wants: pairs within ``cutoff`` (Angstrom).

    ``full``: both directions of each pair, sorted by receiver ``i`` (message passing).
    ``half``: each pair once (pair terms). ``molecule``: each pair of a non-periodic system once,
    at any distance (direct sums); periodic systems have none.
    """

    cutoff: float
    kind: PairKind


class Planner(Protocol):
    """Something that prepares for a batch whenever its neighbours are searched anew."""

    def prepare(self, batch: AtomsBatch) -> Any:
        """What can be kept until the next rebuild (mesh sizes, wave vectors ...)."""


@dataclass(frozen=True)
class PairIndex:
    """Pairs ``i``, ``j`` int64 [n_pairs]; j sits in the image ``shift`` float64 [n_pairs, 3]."""

    i: Tensor
    j: Tensor
    shift: Tensor

    def select(self, which: Tensor) -> PairIndex:
        """The pairs that a mask or an index picks out."""
        if which.dtype == torch.bool:
            which = torch.nonzero(which)[:, 0]
        parts = (part.index_select(0, which) for part in (self.i, self.j, self.shift))
        return PairIndex(*parts)

    def both_directions(self) -> PairIndex:
        """Each pair and its reverse, sorted by receiver."""
        i = torch.cat([self.i, self.j])
        order = torch.argsort(i, stable=True)
        j = torch.cat([self.j, self.i])
        shift = torch.cat([self.shift, -self.shift])
        return PairIndex(i[order], j[order], shift[order])

    def vectors(self, batch: AtomsBatch) -> Tensor:
        """r_j - r_i with the image shift, float64 [n_pairs, 3], differentiable."""
        positions = batch.positions
        vectors = positions.index_select(0, self.j) - positions.index_select(0, self.i)
        if not batch.any_periodic:
            return vectors
        if batch.n_systems == 1:
            return vectors + self.shift @ batch.cell[0]
        cell = batch.cell[batch.system[self.i]]
        return vectors + torch.einsum("pa,pab->pb", self.shift, cell)


@dataclass(frozen=True)
class Pairs:
    """Pairs of one evaluation: indices [n_pairs], ``vector`` r_j - r_i [n_pairs, 3] and
    ``distance`` [n_pairs], float64 and differentiable. Pairs beyond the cutoff may be among them
    (a padded list): a term must give exactly zero for those."""

    i: Tensor
    j: Tensor
    vector: Tensor
    distance: Tensor


class Neighborhood:
    """The neighbours of one evaluation, bound to (possibly strained) positions and cell."""

    def __init__(self, neighbor_list: NeighborList, batch: AtomsBatch) -> None:
        self._list = neighbor_list
        self._batch = batch
        self._pairs: dict[PairRequest, Pairs] = {}

    def pairs(self, request: PairRequest) -> Pairs:
        """The pairs that answer a request, computed once per evaluation."""
        if request not in self._pairs:
            index = self._list.view(request)
            # On the CPU a list with skin is trimmed to the cutoff: that costs one pass over the
            # distances and saves 40-70 % of the edges downstream. On a GPU it would need a
            # host sync, so there the terms' own zeros do the work.
            if self._list.skin > 0 and index.i.device.type == "cpu" and request.kind != "molecule":
                with torch.no_grad():
                    distance = torch.linalg.vector_norm(index.vectors(self._batch), dim=-1)
                    keep = torch.nonzero(distance < request.cutoff)[:, 0]
                index = index.select(keep)
            vector = index.vectors(self._batch)
            distance = torch.linalg.vector_norm(vector, dim=-1)
            self._pairs[request] = Pairs(index.i, index.j, vector, distance)
        return self._pairs[request]

    def plan(self, planner: Planner) -> Any:
        """What a term prepared when the list was last built."""
        return self._list.plan(planner)


class NeighborList:
    """Pairs for a set of requests, searched anew only when atoms or cell moved too far.

    Args:
        requests: what the terms want.
        skin: how much farther than the cutoffs to search, Angstrom; 0 searches at every update.
        planners: terms that prepare something per rebuild.

    Attributes:
        n_builds: how often was searched.
        closest: distance and indices of the closest pair at the last search; None without pairs.

    Raises:
        ConfigError: a negative skin.
    """

    def __init__(
        self, requests: Iterable[PairRequest], skin: float = 0.0, planners: Sequence[Planner] = ()
    ) -> None:
        if not skin >= 0:
            raise ConfigError(f"expected a skin of at least 0 Angstrom, got {skin}")
        self.requests = tuple(dict.fromkeys(requests))
        self.skin = skin
        self.n_builds = 0
        self.closest: tuple[float, int, int] | None = None
        self._planners = tuple(planners)
        self._plans: dict[int, Any] = {}
        self._views: dict[PairRequest, PairIndex] = {}
        self._reference: AtomsBatch | None = None

    @property
    def reference(self) -> AtomsBatch | None:
        """The batch that the list was last built for (a checkpoint needs it to resume exactly)."""
        return self._reference

    def bind(self, batch: AtomsBatch) -> Neighborhood:
        """The neighbourhood for one evaluation; `update` must have seen this configuration."""
        return Neighborhood(self, batch)

    def view(self, request: PairRequest) -> PairIndex:
        """All pairs of a request, those within the skin included."""
        return self._views[request]

    def plan(self, planner: Planner) -> Any:
        """What `planner` prepared at the last rebuild."""
        return self._plans[id(planner)]

    def update(self, batch: AtomsBatch) -> bool:
        """Search again if anything moved too far since the last search; whether it did."""
        if not self._outdated(batch):
            return False
        self.build(batch)
        return True

    def build(self, batch: AtomsBatch) -> None:
        """Search now and answer every request from the one search."""
        batch = batch.moved(batch.positions.detach(), batch.cell.detach())
        searched = [r for r in self.requests if r.kind != "molecule"]
        if searched:
            cutoff = max(r.cutoff for r in searched) + self.skin
            half = search_half(batch, cutoff)
            distance = torch.linalg.vector_norm(half.vectors(batch), dim=-1)
            self.closest = None
            if distance.numel():
                pair = int(distance.argmin())
                self.closest = (float(distance[pair]), int(half.i[pair]), int(half.j[pair]))
            for request in searched:
                within = half.select(distance < request.cutoff + self.skin)
                full = request.kind == "full"
                self._views[request] = within.both_directions() if full else within
        for request in self.requests:
            if request.kind == "molecule":
                self._views[request] = all_pairs(batch)
        self._plans = {id(planner): planner.prepare(batch) for planner in self._planners}
        self._reference = batch
        self.n_builds += 1

    def _outdated(self, batch: AtomsBatch) -> bool:
        old = self._reference
        if old is None or self.skin == 0 or not _same_systems(old, batch):
            return True
        with torch.no_grad():
            deformation = torch.linalg.solve(old.cell, batch.cell)  # rows: x_new = x_old F
            strain = torch.linalg.matrix_norm(deformation - torch.eye(3).to(deformation))
            affine = torch.einsum("na,nab->nb", old.positions, deformation[batch.system])
            moved = torch.linalg.vector_norm(batch.positions - affine, dim=-1)
            farthest = torch.zeros_like(strain).scatter_reduce(
                0, batch.system, moved, "amax", include_self=True
            )
            cutoff = max((r.cutoff for r in self.requests if r.kind != "molecule"), default=0.0)
            # A pair left out was farther than cutoff + skin; now it is at least this far:
            nearest = (cutoff + self.skin) * (1 - strain) - 2 * farthest
            return bool(((nearest < cutoff) | (strain > PLAN_STRAIN)).any())


def _same_systems(old: AtomsBatch, new: AtomsBatch) -> bool:
    if old.n_atoms != new.n_atoms or old.n_systems != new.n_systems or old.device != new.device:
        return False
    names = ("system", "periodic", "numbers")
    return all(torch.equal(getattr(old, name), getattr(new, name)) for name in names)


def search_half(batch: AtomsBatch, cutoff: float) -> PairIndex:
    """Each pair within ``cutoff`` once, images of an atom with itself included.

    vesin searches system by system: on a CPU one search over a batch is no faster, and this runs
    only on a rebuild.

    Raises:
        StructureError: positions or cells that are not finite.
    """
    engine = VesinNeighborList(cutoff=cutoff, full_list=False)
    positions, cells = batch.positions.cpu().numpy(), batch.cell.cpu().numpy()
    periodic = batch.periodic.cpu().numpy()
    first, counts = batch.first_atom.cpu().numpy(), batch.counts.cpu().numpy()
    if not (np.isfinite(positions).all() and np.isfinite(cells).all()):
        # vesin takes the whole process down with some of these
        raise StructureError("expected finite positions and cells, got others in a batch")
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for cell, repeats, start, count in zip(cells, periodic, first, counts, strict=True):
        points = positions[start : start + count]
        i, j, shift = engine.compute(
            points=points, box=cell, periodic=bool(repeats), quantities="ijS"
        )
        parts.append((i.astype(np.int64) + start, j.astype(np.int64) + start, shift))
    i, j, shift = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    device = batch.device
    return PairIndex(
        torch.as_tensor(i, device=device),
        torch.as_tensor(j, device=device),
        torch.as_tensor(shift.astype(np.float64), device=device),
    )


def all_pairs(batch: AtomsBatch) -> PairIndex:
    """Each pair of atoms of a non-periodic system once, without a search."""
    device = batch.device
    counts, first = batch.counts[batch.system], batch.first_atom[batch.system]
    # atom i pairs with the atoms that follow it in its system
    partners = first + counts - 1 - torch.arange(batch.n_atoms, device=device)
    partners = torch.where(batch.periodic[batch.system], torch.zeros_like(partners), partners)
    i = torch.repeat_interleave(torch.arange(batch.n_atoms, device=device), partners)
    start = torch.cumsum(partners, 0) - partners
    j = i + 1 + torch.arange(i.shape[0], device=device) - start[i]
    return PairIndex(i, j, torch.zeros((i.shape[0], 3), dtype=torch.float64, device=device))
