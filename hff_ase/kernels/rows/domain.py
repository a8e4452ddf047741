"""Pairs of a process that owns a part of a box, from its own atoms and copies of others (numba).

A cell list over all points; the rows are those of own atoms, searched by them alone: of copies
beyond the cutoff no row is made, and no distance among copies is looked at.
"""

from __future__ import annotations

import numpy as np

from hff_ase.kernels.jit import jit

FULL, HALF, EITHER = 0, 1, 2
FINER = 2  # cells per cutoff


@jit
def sort_into_cells(x, cutoff):  # type: ignore[no-untyped-def]
    """Points in the order of their cells, where the cells' points start, and the grid.

    Args:
        x: float64 [n, 3], Angstrom, n > 0.
        cutoff: Angstrom.

    Returns:
        order int64 [n], first int64 [n_cells + 1], shape int64 [3], low float64 [3] and the cells'
        size [3].
    """
    low, high = x[0].copy(), x[0].copy()
    for i in range(len(x)):
        for a in range(3):
            low[a], high[a] = min(low[a], x[i, a]), max(high[a], x[i, a])
    shape, size = np.empty(3, np.int64), np.empty(3)
    # as many cells as points are enough
    finest = max(cutoff / FINER, np.cbrt(np.prod(high - low + 1e-3) / len(x)))
    for a in range(3):
        shape[a] = max(1, int((high[a] - low[a]) / finest))
        size[a] = max((high[a] - low[a]) / shape[a], 1e-6)
    cell = np.empty(len(x), np.int64)
    first = np.zeros(shape[0] * shape[1] * shape[2] + 1, np.int64)
    for i in range(len(x)):
        at = 0
        for a in range(3):
            at = at * shape[a] + min(int((x[i, a] - low[a]) / size[a]), shape[a] - 1)
        cell[i] = at
        first[at + 1] += 1
    first = np.cumsum(first)
    free, order = first[:-1].copy(), np.empty(len(x), np.int64)
    for i in range(len(x)):
        order[free[cell[i]]] = i
        free[cell[i]] += 1
    return order, first, shape, low, size


@jit
def _has(kind, i, a, sx, sy, sz, n_own, tag):  # type: ignore[no-untyped-def]
    """Whether the row of own atom i has a pair with atom a in the image s."""
    if kind == 0:
        return True
    if i == a:  # an image of its own: the one in front
        return sx > 0 or (sx == 0 and (sy > 0 or (sy == 0 and sz > 0)))
    if a < n_own or kind == 1:
        # in one of the two rows, wherever they are: names know no process
        return (tag[i] < tag[a]) != ((tag[i] + tag[a]) % 2 == 0)
    return True


@jit
def own_rows(x, n_own, cutoff, kind, cells, atom, image, tag, count, j, shift, nearest):  # type: ignore[no-untyped-def]
    """Rows of own atoms: called with an empty ``j`` to count them, then to fill them.

    Args:
        x: [n_points, 3], own atoms first.
        kind: FULL, HALF (each pair once among all processes) or EITHER (each once in each process
            that owns one of its atoms).
        cells: of `sort_into_cells`.
        atom: int32 [n_points], which atom of the process a point is; image: int32 [n_points, 3],
            in which image of the box.
        tag: int64 [n_atoms], names that all processes know the atoms by.
        count: out int32 [n_own].
        j, shift: out, rows without gaps; empty in the first pass.
        nearest: out float64 [n_atoms], the least squared distance to an own atom; empty for none.
    """
    order, first, shape, low, size = cells
    square, place = cutoff * cutoff, 0
    span = np.empty(3, np.int64)
    for a in range(3):
        span[a] = int(np.ceil(cutoff / size[a]))
    at = np.empty(3, np.int64)
    for i in range(n_own):
        start = place
        for a in range(3):
            at[a] = min(int((x[i, a] - low[a]) / size[a]), shape[a] - 1)
        for cx in range(max(at[0] - span[0], 0), min(at[0] + span[0] + 1, shape[0])):
            for cy in range(max(at[1] - span[1], 0), min(at[1] + span[1] + 1, shape[1])):
                line = (cx * shape[1] + cy) * shape[2]
                here = first[line + max(at[2] - span[2], 0)]
                there = first[line + min(at[2] + span[2], shape[2] - 1) + 1]
                for slot in range(here, there):
                    k = order[slot]
                    dx, dy, dz = x[k, 0] - x[i, 0], x[k, 1] - x[i, 1], x[k, 2] - x[i, 2]
                    distance = dx * dx + dy * dy + dz * dz
                    if distance >= square or k == i:
                        continue
                    b = atom[k]
                    if len(nearest):
                        nearest[b] = min(nearest[b], distance)
                    if not _has(kind, i, b, image[k, 0], image[k, 1], image[k, 2], n_own, tag):
                        continue
                    if len(j):
                        j[place] = b
                        shift[place] = image[k]
                    place += 1
        count[i] = place - start
    return place


@jit
def with_rows_of_ghosts(n_atoms, n_own, count, j, shift):  # type: ignore[no-untyped-def]
    """Full rows of own atoms with rows of ghosts behind them: their own-atom neighbours."""
    more = np.zeros(n_atoms - n_own, np.int64)
    for slot in range(len(j)):
        if j[slot] >= n_own:
            more[j[slot] - n_own] += 1
    n, total = len(j), len(j) + more.sum()
    all_j, all_shift = np.empty(total, np.int32), np.empty((total, 3), np.int32)
    all_j[:n] = j
    all_shift[:n] = shift
    free = n + np.cumsum(more) - more
    slot = 0
    for i in range(n_own):
        for _ in range(count[i]):
            if j[slot] >= n_own:
                place = free[j[slot] - n_own]
                free[j[slot] - n_own] += 1
                all_j[place] = i
                all_shift[place] = -shift[slot]
            slot += 1
    return more.astype(np.int32), all_j, all_shift
