"""Pair sums on the CPU: arrays for the loops, and their division among threads.

Threads work on consecutive runs of segments with accumulators of their own, added up in order at
the end: the result is the same in every run with the same number of threads, and differs by
rounding between numbers of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.pair import ElementTables, InterpolatedC6, PairSums, loops
from hff_ase.kernels.pair.segments import Segments, segments_of
from hff_ase.kernels.pair.tables import Table
from hff_ase.kernels.threads import share
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest, Rows

PAIRS_PER_THREAD = 20_000  # below, starting a thread costs more than it does


def _bounds(segments: Segments) -> np.ndarray:
    """Runs of segments with about equally many pairs, one per thread: int64 [n_runs + 1]."""
    n_pairs = len(segments.partner)
    threads = max(1, min(torch.get_num_threads(), n_pairs // PAIRS_PER_THREAD))
    if threads == 1:
        return np.array([0, len(segments.atom)])
    ends = np.linspace(0, n_pairs, threads + 1)[1:-1]
    inner = np.searchsorted(segments.first, ends)
    return np.concatenate([[0], inner, [len(segments.atom)]])


def _geometry(batch: AtomsBatch, segments: Segments, cutoff: float) -> tuple[Any, ...]:
    """The loops' arguments for the geometry of the pairs."""
    # contiguous, since another layout would be compiled for separately
    x, cell = (tensor.detach().contiguous().numpy() for tensor in (batch.positions, batch.cell))
    return (x, cell, batch.system.numpy(), *segments, cutoff * cutoff)


def _kinds(elements: ElementTables) -> tuple[np.ndarray, np.ndarray]:
    """Element of each atom (unsigned: no test for negative indices) and tables per two elements."""
    coefficients = elements.table.coefficients.numpy()
    n = elements.n_kinds
    return elements.kind.numpy().view(np.uint32), coefficients.reshape(n, n, -1, 4)


def _run(
    kernel: Callable[..., None], bounds: np.ndarray, inputs: tuple[Any, ...], *sums: np.ndarray
) -> None:
    """A loop over every run of segments, each with its own part of the accumulators."""

    def runs(first: int, last: int) -> None:
        for t in range(first, last):
            kernel(bounds[t], bounds[t + 1], *inputs, *(total[t] for total in sums))

    share(runs, len(bounds) - 1, fewest=2)


def rows_for(batch: AtomsBatch, neighbors: Neighborhood, request: PairRequest) -> Rows:
    """The half rows of a request."""
    return neighbors.rows(request)


def pair_sums(
    batch: AtomsBatch,
    rows: Rows,
    cutoff: float,
    charges: Tensor | None,
    coulomb: Table | None,
    elements: ElementTables | None,
    c6: InterpolatedC6 | None,
) -> PairSums:
    """See `hff_ase.kernels.pair.pair_sums`."""
    segments = segments_of(rows)
    geometry, bounds = _geometry(batch, segments, cutoff), _bounds(segments)
    out = np.zeros((len(bounds) - 1, batch.n_atoms, loops.WIDTH))
    d_cell = np.zeros((len(bounds) - 1, batch.n_systems, 3, 3))
    q = None if charges is None else charges.detach().numpy()
    single = None if coulomb is None else coulomb.coefficients[0].numpy()
    kind, tables = (None, None) if elements is None else _kinds(elements)
    weights, towards = (None, None) if c6 is None else (c6.weights.numpy(), c6.towards.numpy())
    switch = None
    if elements is not None and elements.switch is not None:
        switch = elements.switch.numpy()
    what = (q, single, kind, tables, switch, weights, towards)
    _run(loops.pair_sums, bounds, (*geometry, *what), out, d_cell)
    total = torch.from_numpy(out[0] if len(bounds) == 2 else out.sum(0))
    columns = total.unbind(1)
    return PairSums(
        d_positions=total[:, :3],
        d_cell=torch.from_numpy(d_cell[0] if len(bounds) == 2 else d_cell.sum(0)),
        phi=columns[loops.PHI],
        energy=columns[loops.ENERGY],
        d_cn=columns[loops.D_CN],
    )


def counts(batch: AtomsBatch, rows: Rows, cutoff: float, elements: ElementTables) -> Tensor:
    """See `hff_ase.kernels.pair.counts`."""
    segments = segments_of(rows)
    geometry, bounds = _geometry(batch, segments, cutoff), _bounds(segments)
    out = np.zeros((len(bounds) - 1, batch.n_atoms))
    _run(loops.counts, bounds, (*geometry, *_kinds(elements)), out)
    return torch.from_numpy(out.sum(0))


def add_count_slopes(
    batch: AtomsBatch, rows: Rows, cutoff: float, elements: ElementTables, sums: PairSums
) -> None:
    """Add sum_i d_cn[i] dcount_i/dx to the derivatives in ``sums``."""
    segments = segments_of(rows)
    geometry, bounds = _geometry(batch, segments, cutoff), _bounds(segments)
    d_count = np.ascontiguousarray(sums.d_cn.numpy())
    out = np.zeros((len(bounds) - 1, batch.n_atoms, 3))
    d_cell = np.zeros((len(bounds) - 1, batch.n_systems, 3, 3))
    _run(loops.count_slopes, bounds, (*geometry, *_kinds(elements), d_count), out, d_cell)
    sums.d_positions = sums.d_positions + torch.from_numpy(out.sum(0))
    sums.d_cell = sums.d_cell + torch.from_numpy(d_cell.sum(0))
