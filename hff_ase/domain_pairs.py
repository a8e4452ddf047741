"""Pairs of a process that owns a part of one periodic box: a host with domain decomposition.

Hosts keep copies of atoms of other processes around their own, and copies of their own atoms across
the faces of the box. Here every atom stands once: a pair with a copy is one with its atom in an
image of the box, as in a box that one process has alone. A process that has the whole box has no
ghosts then, and does what it would do without a host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.rows.domain import (
    EITHER,
    FULL,
    HALF,
    own_rows,
    sort_into_cells,
    with_rows_of_ghosts,
)
from hff_ase.neighborhood import Planner
from hff_ase.pair_source import PairSource
from hff_ase.pairs import PairIndex, PairRequest, Rows, index_of
from hff_ase.terms.coulomb import Coulomb


@dataclass(frozen=True)
class Points:
    """Own atoms of a process and the copies that a host has around them.

    Attributes:
        x: float64 [n_points, 3], Angstrom, own atoms first.
        n_own: number of own atoms.
        base: int64 [n_atoms], the point that an atom's position is read from: own atoms, then
            ghosts (atoms of other processes), those within the shortest reach first.
        n_near: of how many atoms that is.
        atom: int32 [n_points], which atom a point is; image: int32 [n_points, 3], in which image.
        tag: int64 [n_atoms], their names in the whole system.
    """

    x: np.ndarray
    n_own: int
    base: np.ndarray
    n_near: int
    atom: np.ndarray
    image: np.ndarray
    tag: np.ndarray


def points_of(
    x: np.ndarray, n_own: int, tag: np.ndarray, cell: np.ndarray, reach: float, near: float
) -> Points:
    """The points around own atoms.

    Args:
        x: float64 [n_points, 3], own atoms first, then copies of any.
        tag: [n_points], names; copies have the name of their atom.
        cell: [3, 3], rows.
        reach: copies farther than this from all own atoms are left out, Angstrom.
        near: up to where a ghost is a near one.
    """
    names = tag[n_own:]
    order = np.argsort(tag[:n_own], kind="stable")
    found = np.searchsorted(tag[:n_own], names, sorter=order).clip(max=max(n_own - 1, 0))
    owner = order[found] if n_own else np.zeros(len(names), np.int64)
    mine = tag[owner] == names if n_own else np.zeros(len(names), bool)
    foreign, first, which = np.unique(names[~mine], return_index=True, return_inverse=True)
    atom = np.empty(len(x), np.int64)
    atom[:n_own] = np.arange(n_own)
    atom[n_own:][mine] = owner[mine]
    atom[n_own:][~mine] = n_own + which
    base = np.concatenate([np.arange(n_own), n_own + np.flatnonzero(~mine)[first]])
    names_of = np.concatenate([tag[:n_own], foreign])
    image = np.rint((x - x[base[atom]]) @ np.linalg.inv(cell)).astype(np.int32)
    nearest = np.full(len(base), np.inf)
    if n_own:
        empty = np.empty(0, np.int32), np.empty((0, 3), np.int32)
        inputs = x, n_own, reach, FULL, sort_into_cells(x, reach), atom.astype(np.int32), image
        own_rows(*inputs, names_of, np.empty(n_own, np.int32), *empty, nearest)
    nearest[:n_own] = 0.0
    kept = np.flatnonzero(nearest < reach**2)
    rank = np.where(kept < n_own, 0, np.where(nearest[kept] < near**2, 1, 2))
    kept = kept[np.argsort(rank, kind="stable")]
    new = np.full(len(base), -1, np.int64)
    new[kept] = np.arange(len(kept))
    used = new[atom] >= 0
    return Points(
        x=np.ascontiguousarray(x[used]),
        n_own=n_own,
        base=base[kept],
        n_near=int((rank < 2).sum()),
        atom=new[atom[used]].astype(np.int32),
        image=np.ascontiguousarray(image[used]),
        tag=names_of[kept],
    )


class DomainPairs(PairSource):
    """Pairs of own atoms with all atoms of a process, and of near ghosts with own atoms.

    In the rows of half requests each pair of an own atom and a ghost stands in one process only,
    which both can tell from their names; in views it stands in both (`PairSource.divided`).

    Args:
        requests, planners: as `PairSource`.
        points: what is there.
        skin: up to which beyond the cutoffs the points are complete, Angstrom.
    """

    def __init__(
        self,
        requests: Sequence[PairRequest],
        points: Points,
        skin: float,
        planners: Sequence[Planner] = (),
    ) -> None:
        # the host's processes plan the sum over all charges together
        planners = [planner for planner in planners if not isinstance(planner, Coulomb)]
        super().__init__(requests, skin, planners)
        self.divided, self.points = True, points
        self._cells: dict[float, tuple[np.ndarray, ...]] = {}

    def _find(self, request: PairRequest, batch: AtomsBatch) -> Rows:
        return self._rows_of(request, FULL if request.kind == "full" else HALF)

    def view(self, request: PairRequest) -> PairIndex:
        """All pairs of a request, those within the skin included."""
        if request.kind == "half" and request not in self._views:
            self._views[request] = index_of(self._rows_of(request, EITHER))
        return super().view(request)

    def _rows_of(self, request: PairRequest, kind: int) -> Rows:
        points, reach = self.points, request.cutoff + self.skin
        n_atoms, n_own = len(points.base), points.n_own
        count = np.zeros(n_atoms, np.int32)
        j, shift = np.empty(0, np.int32), np.empty((0, 3), np.int32)
        if n_own:
            where = points.x, n_own, reach, kind, self._cells_of(reach)
            who = points.atom, points.image, points.tag, count
            nothing = np.empty(0)
            total = own_rows(*where, *who, j, shift, nothing)
            j, shift = np.empty(total, np.int32), np.empty((total, 3), np.int32)
            if total:
                own_rows(*where, *who, j, shift, nothing)
            if kind == FULL:
                more, j, shift = with_rows_of_ghosts(n_atoms, n_own, count, j, shift)
                count[n_own:] = more
        start = (np.cumsum(count, dtype=np.int64) - count).astype(np.int32)
        return Rows(*(torch.from_numpy(part) for part in (start, count, j, shift)))

    def _cells_of(self, reach: float) -> tuple[np.ndarray, ...]:
        if reach not in self._cells:
            self._cells[reach] = sort_into_cells(self.points.x, reach)
        return self._cells[reach]
