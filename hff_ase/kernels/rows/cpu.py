"""A half list of pairs, in any order, as rows in one order (numba).

Two counting sorts, by partner and then by row: the time is proportional to the number of pairs.
"""

from __future__ import annotations

import numpy as np

from hff_ase.kernels.jit import jit


@jit
def rows_of(pair, shift, n_atoms, half):  # type: ignore[no-untyped-def]
    """Rows without gaps, sorted by partner, then by shift.

    Of half rows, which of its two a pair is in follows from the parity of the indices, so that
    rows are about equally long; an atom's own image is the one in front.

    Args:
        pair: both atoms of each pair, int64 [n_pairs, 2].
        shift: images of the second atoms, int32 [n_pairs, 3].
        n_atoms: how many rows.
        half: whether each pair is in one of its two rows instead of in both.

    Returns:
        ``count``, ``j`` and ``shift`` of `hff_ase.pairs.Rows`, as arrays.
    """
    n_slots = len(pair) if half else 2 * len(pair)
    count, as_partner = np.zeros(n_atoms, np.int64), np.zeros(n_atoms, np.int64)
    for k in range(len(pair)):
        a, b = pair[k, 0], pair[k, 1]
        if _turned(a, b, shift[k, 0], shift[k, 1], shift[k, 2]):
            a, b = b, a
        count[a] += 1
        as_partner[b] += 1
    if not half:
        count += as_partner
        as_partner = count
    row, image = np.empty(n_slots, np.int32), np.empty((n_slots, 3), np.int32)
    free = np.cumsum(as_partner) - as_partner
    for k in range(len(pair)):
        a, b, x, y, z = pair[k, 0], pair[k, 1], shift[k, 0], shift[k, 1], shift[k, 2]
        if _turned(a, b, x, y, z):
            a, b, x, y, z = b, a, -x, -y, -z
        slot = free[b]
        free[b] += 1
        row[slot], image[slot, 0], image[slot, 1], image[slot, 2] = a, x, y, z
        if not half:
            slot = free[a]
            free[a] += 1
            row[slot], image[slot, 0], image[slot, 1], image[slot, 2] = b, -x, -y, -z
    partner, sorted_image = _by_row(row, image, as_partner, np.cumsum(count) - count)
    return count.astype(np.int32), partner, sorted_image


@jit
def _turned(i, j, x, y, z):  # type: ignore[no-untyped-def]
    """Whether half rows store a pair in row j instead of row i."""
    if i != j:
        return (i < j) == ((i + j) % 2 == 0)
    return x < 0 or (x == 0 and (y < 0 or (y == 0 and z < 0)))


@jit
def _by_row(row, image, as_partner, start):  # type: ignore[no-untyped-def]
    """Pairs sorted by partner, distributed to their rows: partners and images."""
    partner, images = np.empty(len(row), np.int32), np.empty((len(row), 3), np.int32)
    free = start.copy()
    s = 0
    for b in range(len(start)):
        for _ in range(as_partner[b]):
            a, x, y, z = row[s], image[s, 0], image[s, 1], image[s, 2]
            s += 1
            slot = free[a]
            free[a] += 1
            while slot > start[a] and partner[slot - 1] == b:  # another image of the same atom
                u, v, w = images[slot - 1, 0], images[slot - 1, 1], images[slot - 1, 2]
                if u < x or (u == x and (v < y or (v == y and w < z))):
                    break
                partner[slot], images[slot, 0], images[slot, 1], images[slot, 2] = b, u, v, w
                slot -= 1
            partner[slot], images[slot, 0], images[slot, 1], images[slot, 2] = b, x, y, z
    return partner, images


@jit
def closest(positions, cell, system, start, count, partner, shift):  # type: ignore[no-untyped-def]
    """Squared distance and indices of the closest pair in rows; -1 for both without pairs."""
    nearest, first, second = np.inf, -1, -1
    for i in range(len(start)):
        h = cell[system[i]]
        for slot in range(start[i], start[i] + count[i]):
            j = partner[slot]
            square = 0.0
            for axis in range(3):
                d = positions[j, axis] - positions[i, axis]
                for k in range(3):
                    d += shift[slot, k] * h[k, axis]
                square += d * d
            if square < nearest:
                nearest, first, second = square, i, j
    return nearest, first, second
