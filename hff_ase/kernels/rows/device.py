"""Pairs found on the device of the batch, as a matrix with one padded row per atom.

The search is nvalchemi-toolkit-ops' batched cell list. It writes no more than the width of the
matrix and counts on silently, so the counts are compared with the width: one look at the device per
rebuild. Between rebuilds nothing is looked at.
"""

from __future__ import annotations

import torch
from nvalchemiops.torch.neighbors import batch_cell_list
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import StructureError
from hff_ase.pairs import Rows

WIDTH = 32  # rows are wide by a multiple of it
SPARE = 1.25  # room for denser places at a later rebuild


class DeviceSearch:
    """A search that keeps its buffers: while they suffice, every search fills the same tensors
    (and rows of the last search are overwritten), so that captured graphs stay valid."""

    def __init__(self) -> None:
        self._rows: Rows | None = None

    def __call__(self, batch: AtomsBatch, cutoff: float, half: bool) -> Rows:
        """The pairs within ``cutoff`` in padded rows.

        Raises:
            StructureError: more slots than an int32 counts.
        """
        n = batch.n_atoms
        if self._rows is None or self._rows.count.shape[0] != n:
            self._rows = empty_rows(n, WIDTH, batch.device)
        while True:
            rows = self._rows
            widest = int(fill(rows, batch, cutoff, half))
            if widest * n <= rows.j.shape[0]:
                return rows
            width = WIDTH * -(-int(SPARE * widest) // WIDTH)
            if width * n > torch.iinfo(torch.int32).max:
                raise StructureError(
                    f"expected at most 2^31 pairs within {cutoff:g} A, got {n} rows of {widest}"
                )
            self._rows = empty_rows(n, width, batch.device)


def empty_rows(n_atoms: int, width: int, device: torch.device) -> Rows:
    """Rows of one width without pairs."""
    start = width * torch.arange(n_atoms, dtype=torch.int32, device=device)
    j = torch.zeros(n_atoms * width, dtype=torch.int32, device=device)
    shift = torch.zeros((n_atoms * width, 3), dtype=torch.int32, device=device)
    return Rows(start, torch.zeros_like(start), j, shift)


def fill(rows: Rows, batch: AtomsBatch, cutoff: float, half: bool) -> Tensor:
    """Search into ``rows``; returns the longest row that there is, int32 [], which may be longer
    than the rows have room for."""
    n = batch.n_atoms
    positions, cell = boxed(batch)
    batch_cell_list(
        positions,
        cutoff,
        cell,
        batch.periodic[:, None].expand(-1, 3).contiguous(),
        batch.system.int(),
        half_fill=half,
        neighbor_matrix=rows.j.view(n, -1),
        neighbor_matrix_shifts=rows.shift.view(n, -1, 3),
        num_neighbors=rows.count,
    )
    return rows.count.max()


def boxed(batch: AtomsBatch) -> tuple[Tensor, Tensor]:
    """Positions and cells, with a rectangular box around each system that has none: the search
    sorts atoms into the cells of a grid in that box."""
    if batch.all_periodic:
        return batch.positions.contiguous(), batch.cell.contiguous()
    which = batch.system[:, None].expand(-1, 3)
    edge = batch.positions.new_zeros((batch.n_systems, 3))
    low = edge.scatter_reduce(0, which, batch.positions, "amin", include_self=False)
    high = edge.scatter_reduce(0, which, batch.positions, "amax", include_self=False)
    periodic = batch.periodic[:, None]
    low = torch.where(periodic, torch.zeros_like(low), low)
    box = torch.diag_embed((high - low).clamp(min=1.0))
    cell = torch.where(periodic[:, :, None], batch.cell, box)
    return batch.positions - low.index_select(0, batch.system), cell
