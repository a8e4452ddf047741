"""Sources of pairs.

Terms ask for pairs as a `PairRequest`. A `PairSource` answers, from a search
(`hff_ase.neighbors.NeighborList`), from the lists of several batches
(`hff_ase.training.displaced.JoinedList`) or from pairs that a host has found
(`hff_ase.given_pairs.GivenPairs`); `PairSource.bind` gives the `Neighborhood` of one evaluation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError
from hff_ase.neighbor_search import closest_pair
from hff_ase.neighborhood import Neighborhood, Planner
from hff_ase.pairs import PairIndex, PairRequest, Rows, index_of, isolated_rows

ROW_PARTS = ("start", "count", "j", "shift")


class PairSource(ABC):
    """Pairs for a set of requests, as they were when it was last built.

    Args:
        requests: what the terms want.
        skin: how much farther than the cutoffs pairs are listed, Angstrom.
        planners: terms that prepare something per rebuild.

    Attributes:
        n_builds: how often it was built.
        trims: whether pairs beyond the cutoff may be dropped before terms see them.
        divided: of a process that has a part of a system: whether `rows` of half lists hold each
            pair in one process only, so that what ghosts get is to be brought to their owners
            (`view` holds pairs with ghosts in the processes of both).

    Raises:
        ConfigError: a negative skin.
    """

    def __init__(
        self,
        requests: Iterable[PairRequest],
        skin: float = 0.0,
        planners: Sequence[Planner] = (),
    ) -> None:
        if not skin >= 0:
            raise ConfigError(f"expected a skin of at least 0 Angstrom, got {skin}")
        self.requests = tuple(dict.fromkeys(requests))
        self.skin = skin
        self.n_builds = 0
        self.trims, self.divided = True, False
        self._planners = tuple(planners)
        self._plans: dict[Planner, Any] = {}
        self._n_plans = 0  # how often one came out differently
        self._views: dict[PairRequest, PairIndex] = {}
        self._rows: dict[PairRequest, Rows] = {}
        self._closest: tuple[float, int, int] | Literal["unknown"] | None = None
        self._reference: AtomsBatch | None = None

    @property
    def reference(self) -> AtomsBatch | None:
        """The batch that the list was last built for (a checkpoint needs it to resume exactly)."""
        return self._reference

    def bind(self, batch: AtomsBatch, **how: Any) -> Neighborhood:
        """The neighbourhood for one evaluation; `follow` must have seen this configuration.

        Args:
            batch: in the order of the list (`arranged`).
            **how: fields of `Neighborhood`.
        """
        return Neighborhood(self, batch, **how)

    @abstractmethod
    def _find(self, request: PairRequest, batch: AtomsBatch) -> Rows:
        """The rows of a request for the batch that the source was built for."""

    def follow(self, batch: AtomsBatch) -> AtomsBatch:
        """Make sure that the pairs fit, and give the batch as it is to be evaluated."""
        if self._reference is None:
            self.build(batch)
        return self.arranged(batch)

    def arranged(self, batch: AtomsBatch) -> AtomsBatch:
        """The batch with its atoms in the order of the list, as every other method takes it
        (`AtomsBatch.as_given` puts results back)."""
        order = None if self._reference is None else self._reference.order
        return batch if order is None or batch.order is not None else batch.reordered(order)

    def view(self, request: PairRequest) -> PairIndex:
        """All pairs of a request, those within the skin included."""
        if request not in self._views:
            self._views[request] = index_of(self.rows(request))
        return self._views[request]

    def rows(self, request: PairRequest) -> Rows:
        """The pairs of `view` in rows, for kernels."""
        if request not in self._rows:
            batch = self._built()
            if request.kind == "isolated":
                self._rows[request] = isolated_rows(batch)
            else:
                self._rows[request] = self._find(request, batch)
        return self._rows[request]

    def _built(self) -> AtomsBatch:
        if self._reference is None:
            raise RuntimeError("expected a list that was built, got a new one")
        return self._reference

    @property
    def closest(self) -> tuple[float, int, int] | None:
        """Distance and indices (of the atoms as given) of the closest pair when the list was built;
        None without pairs."""
        if self._closest == "unknown":
            batch = self._built()
            searched = [r for r in self._rows if r.kind != "isolated"]
            asked = searched or [r for r in self.requests if r.kind != "isolated"]
            rows = self.rows(min(asked, key=lambda request: request.cutoff))
            self._closest = closest_pair(batch, rows)
            if self._closest is not None and batch.order is not None:
                distance, i, j = self._closest
                self._closest = distance, int(batch.order[i]), int(batch.order[j])
        return self._closest

    def plan(self, planner: Planner) -> Any:
        """What `planner` prepared at the last rebuild."""
        return self._plans[planner]

    def build(self, batch: AtomsBatch) -> None:
        """Start again from here: what was requested before is searched now, the rest when it is
        first requested.

        Raises:
            StructureError: positions or cells that are not finite.
        """
        batch = batch.detached()
        if not bool(torch.isfinite(batch.positions).all() & torch.isfinite(batch.cell).all()):
            raise StructureError("expected finite positions and cells, got others in a batch")
        asked, plans = tuple(self._rows), self._plans
        self._views, self._rows, self._plans = {}, {}, {}
        self._closest = "unknown" if self._farthest > 0 else None
        self._remember(batch)
        for planner in self._planners:
            plan, last = planner.prepare(batch), plans.get(planner)
            if last is None or not same(last, plan):
                last, self._n_plans = plan, self._n_plans + 1
            self._plans[planner] = last
        for request in asked:  # at once: a captured graph may read the same buffers
            self.rows(request)
        self.n_builds += 1

    def _remember(self, batch: AtomsBatch) -> None:
        """Store a copy of the batch that the list is built for: atoms may be moved in place."""
        self._reference = batch.moved(batch.positions.clone(), batch.cell.clone())

    @property
    def layout(self) -> tuple[int, ...]:
        """Which memory an evaluation reads: a recorded one is valid while this stays the same."""
        rows = [getattr(rows, name) for rows in self._rows.values() for name in ROW_PARTS]
        views = [index.i for index in self._views.values()]
        return (*(tensor.data_ptr() for tensor in rows + views), self._n_plans)

    @property
    def _farthest(self) -> float:
        """The largest cutoff that is searched for, Angstrom; 0 where none is."""
        return max((r.cutoff for r in self.requests if r.kind != "isolated"), default=0.0)


def same(a: Any, b: Any) -> bool:
    """Whether two plans say the same: tensors entry by entry, dataclasses field by field (except
    those that take no part in comparisons), sequences item by item."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
    if is_dataclass(a):
        names = [field.name for field in fields(a) if field.compare]
        return all(same(getattr(a, name), getattr(b, name)) for name in names)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
