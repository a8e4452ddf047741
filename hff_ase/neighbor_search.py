"""The search for pairs: one function, an engine per device, the same set of pairs from each.

On a CPU the search is vesin's, system by system; its half list is put into rows by numba
(`hff_ase.kernels.rows.cpu`), or by numpy without it, in the same order. On a GPU the search is
nvalchemi-toolkit-ops' (`hff_ase.kernels.rows.device`), and without that it runs on the host.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from vesin import NeighborList as VesinNeighborList

from hff_ase.arrays import ALWAYS
from hff_ase.backends import available
from hff_ase.batch import AtomsBatch
from hff_ase.errors import HFFWarning, StructureError
from hff_ase.pairs import PairIndex, Rows, index_of

# (batch, cutoff, half) -> rows; `half`: each pair in one of its two rows instead of in both
Search = Callable[[AtomsBatch, float, bool], Rows]

THREADED_ATOMS = 1000  # smaller systems are searched before a thread has started


def search_for(device: torch.device) -> Search:
    """The search for a device; one per list of pairs, as it may keep its buffers."""
    if device.type == "cuda" and has_device_search():
        from hff_ase.kernels.rows.device import DeviceSearch

        return DeviceSearch()
    return search_on_host


@cache
def has_device_search() -> bool:
    """Whether pairs can be found on a GPU; the first failure is reported."""
    if find_spec("nvalchemiops") is not None:
        return True
    warnings.warn(
        "nvalchemi-toolkit-ops is not installed: neighbours are searched on the CPU, which is "
        "slower (pip install 'hff-ase[gpu]')",
        HFFWarning,
        stacklevel=2,
    )
    return False


def search_on_host(batch: AtomsBatch, cutoff: float, half: bool) -> Rows:
    """Search on the CPU; the rows go to the batch's device.

    Rows have no gaps and are sorted by partner, then by shift: the order does not depend on the
    order in which pairs are found, nor on the number of threads, nor on other systems.

    Raises:
        StructureError: positions or cells that are not finite, a flat cell, or more pairs than an
            int32 counts.
    """
    device, batch = batch.device, on_host(batch)
    if not (torch.isfinite(batch.positions).all() and torch.isfinite(batch.cell).all()):
        # a compiled search takes the whole process down with some of these
        raise StructureError("expected finite positions and cells, got others in a batch")
    rows_of: Callable[..., tuple[np.ndarray, ...]] = rows_by_numpy
    if available("numba"):
        from hff_ase.kernels.rows import cpu

        rows_of = cpu.rows_of
    engine = VesinNeighborList(cutoff=cutoff, full_list=False)
    cells, periodic = batch.cell.numpy(), batch.periodic.tolist()
    systems, first = [], 0
    for s, positions in enumerate(batch.positions.split(batch.counts.tolist())):
        n = len(positions)
        pair, image = half_list(engine, positions.numpy(), cells[s], periodic[s])
        count, j, shift = rows_of(pair, image, n, half)
        j += np.int32(first)
        first += n
        systems.append((count, j, shift))
    parts = zip(*systems, strict=True)
    count, j, shift = (np.concatenate(part) if len(part) > 1 else part[0] for part in parts)
    if len(j) > np.iinfo(np.int32).max:
        raise StructureError(f"expected at most 2^31 pairs within {cutoff:g} A, got {len(j)}")
    start = (np.cumsum(count, dtype=np.int64) - count).astype(np.int32)
    return Rows(*(torch.from_numpy(part) for part in (start, count, j, shift))).to(device)


def on_host(batch: AtomsBatch) -> AtomsBatch:
    """The batch with its tensors detached, contiguous and on the CPU, as compiled code wants."""
    arrays = {name: getattr(batch, name).detach().cpu().contiguous() for name in ALWAYS}
    return AtomsBatch.of(arrays)


def half_list(
    engine: VesinNeighborList, positions: np.ndarray, cell: np.ndarray, periodic: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Each pair of a system once, in any order: its atoms, int64 [n_pairs, 2], and the image of
    the second one, int32 [n_pairs, 3]. Both are the engine's memory until it searches again.

    Raises:
        StructureError: a flat cell.
    """
    engine.n_threads = torch.get_num_threads() if len(positions) >= THREADED_ATOMS else 1
    try:
        pair, image = engine.compute(positions, cell, periodic, "PS", copy=False)
    except RuntimeError as error:
        raise StructureError(f"expected cells with a volume, got one where {error}") from error
    return pair.view(np.int64), image


def rows_by_numpy(
    pair: np.ndarray, image: np.ndarray, n_atoms: int, half: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `hff_ase.kernels.rows.cpu.rows_of` does, by sorting, in six times its time."""
    i, j = pair.T
    turned = np.where(i == j, _points_back(image), (i < j) == ((i + j) % 2 == 0))
    i, j = np.where(turned, j, i), np.where(turned, i, j)
    shift = np.where(turned[:, None], -image, image)
    if not half:
        i, j, shift = np.append(i, j), np.append(j, i), np.concatenate([shift, -shift])
    order = np.lexsort((*shift.T[::-1], j, i))
    count = np.bincount(i, minlength=n_atoms).astype(np.int32)
    return count, j[order].astype(np.int32), shift[order]


def rows_of_pairs(pairs: PairIndex, n_atoms: int, half: bool) -> Rows:
    """Rows of pairs that are given once or in both directions, on the pairs' device.

    Each pair counts once however often it is given; the order of rows and pairs is that of a
    search.
    """
    i, j, shift = (part.cpu().numpy() for part in (pairs.i, pairs.j, pairs.shift))
    image = np.rint(shift).astype(np.int32)
    behind = np.where(i == j, _points_back(image), i > j)
    first, second = np.where(behind, j, i), np.where(behind, i, j)
    image = np.where(behind[:, None], -image, image)
    each = np.unique(np.column_stack([first, second, image]), axis=0)
    pair, image = np.ascontiguousarray(each[:, :2]), each[:, 2:].astype(np.int32)
    count, partner, shift = rows_by_numpy(pair, image, n_atoms, half)
    start = (np.cumsum(count, dtype=np.int64) - count).astype(np.int32)
    parts = (start, count, partner, np.ascontiguousarray(shift))
    return Rows(*(torch.from_numpy(part) for part in parts)).to(pairs.i.device)


def _points_back(image: np.ndarray) -> np.ndarray:
    """Which of an image and its opposite is the second one, bool [n]."""
    x, y, z = image.T
    return (x < 0) | (x == 0) & ((y < 0) | (y == 0) & (z < 0))


def closest_pair(batch: AtomsBatch, rows: Rows) -> tuple[float, int, int] | None:
    """Distance and indices of the closest of the listed pairs; None if there are none."""
    if batch.device.type == "cpu" and available("numba"):
        from hff_ase.kernels.rows.cpu import closest

        parts = (batch.positions, batch.cell, batch.system, rows.start, rows.count, rows.j)
        arrays = (part.detach().contiguous().numpy() for part in (*parts, rows.shift))
        square, i, j = closest(*arrays)
        return None if i < 0 else (math.sqrt(square), i, j)
    index = index_of(rows)
    if not index.i.shape[0]:
        return None
    distance = torch.linalg.vector_norm(index.vectors(batch), dim=-1)
    pair = int(distance.argmin())
    return float(distance[pair]), int(index.i[pair]), int(index.j[pair])
