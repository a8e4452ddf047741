"""Rows of a half list cut into segments of one image shift each.

Within a segment every partner sits in the same periodic image, so the loop over its pairs knows
nothing of cells: the shift is taken off the row's own atom once. It also leaves the derivative in
the cell to the end of the segment, and brings a pair down from 16 bytes to 4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hff_ase.kept import Kept
from hff_ase.kernels.jit import jit
from hff_ase.pairs import Rows


class Segments(NamedTuple):
    """Segment s has the pairs of atom[s] with partner[first[s]] ... partner[first[s + 1] - 1].

    ``atom`` int64 [n_segments], ``first`` int64 [n_segments + 1], ``shift`` float64 [n_segments,
    3] in lattice vectors, ``partner`` uint32 [n_pairs]; ``longest`` is the most pairs of a segment.
    """

    atom: np.ndarray
    first: np.ndarray
    shift: np.ndarray
    partner: np.ndarray
    longest: int


_KEPT: Kept[Segments] = Kept()


def segments_of(rows: Rows) -> Segments:
    """The segments of a list in rows (on the CPU), made once for as long as the list lives."""
    parts = tuple(part.numpy() for part in (rows.start, rows.count, rows.j, rows.shift))
    return _KEPT.of(rows, lambda: Segments(*_divide(*parts)))


@jit
def _same(a, b):  # type: ignore[no-untyped-def]
    return a[0] == b[0] and a[1] == b[1] and a[2] == b[2]


@jit
def _divide(start, count, j, shift):  # type: ignore[no-untyped-def]
    """The arrays of `Segments`. Within a row, segments come in the order of their first pair."""
    n_pairs = count.sum()
    atom, first = np.empty(n_pairs, np.int64), np.empty(n_pairs + 1, np.int64)
    chosen = np.empty(n_pairs, np.int64)  # a slot of each segment, for its shift
    partner = np.empty(n_pairs, np.uint32)
    most = count.max() if len(count) else 0
    segment_of, size = np.empty(most, np.int64), np.empty(most, np.int64)
    n_segments, done, longest = 0, 0, 0
    for i in range(len(start)):
        before = n_segments
        found = before
        for k in range(count[i]):
            slot = start[i] + k
            if found == n_segments or not _same(shift[chosen[found]], shift[slot]):
                found = before
                while found < n_segments and not _same(shift[chosen[found]], shift[slot]):
                    found += 1
                if found == n_segments:
                    atom[found], chosen[found], size[found - before] = i, slot, 0
                    n_segments += 1
            segment_of[k] = found
            size[found - before] += 1
        for s in range(before, n_segments):
            first[s] = done
            done += size[s - before]
            longest = max(longest, size[s - before])
            size[s - before] = first[s]  # from here on: where its next partner goes
        for k in range(count[i]):
            s = segment_of[k] - before
            partner[size[s]] = j[start[i] + k]
            size[s] += 1
    first[n_segments] = done
    shifts = np.empty((n_segments, 3))
    for s in range(n_segments):
        shifts[s] = shift[chosen[s]]
    return atom[:n_segments].copy(), first[: n_segments + 1].copy(), shifts, partner, longest
