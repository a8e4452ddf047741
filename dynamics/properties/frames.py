"""Frames of a stretch in chunks: kept in memory where they are few, else read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from hff_ase.dynamics.observables.reading import CHUNK, stream
from hff_ase.dynamics.observables.trajectory import Trajectory
from hff_ase.dynamics.observables.unwrapping import whole_offsets
from hff_ase.dynamics.properties.state import Stretch
from hff_ase.errors import ConfigError

KEPT = 200e6  # bytes of positions that may stay in memory
Progress = Callable[[int], None]


class Frames:
    """The frames of one stretch, to be gone through as often as needed.

    Args:
        stretch: where they are.
        times: first and last that count, ps; None for all.
        progress: called with the number of frames that each chunk read.
        room: bytes that may be kept in memory.
    """

    def __init__(
        self,
        stretch: Stretch,
        times: tuple[float, float] | None = None,
        progress: Progress | None = None,
        room: float = KEPT,
    ) -> None:
        self._stretch, self._times, self._progress, self._room = stretch, times, progress, room
        self._kept: list[Trajectory] | None = None

    def __iter__(self) -> Iterator[Trajectory]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Trajectory] | None = []
        size = 0
        for part in self._read():
            size += part.positions.nbytes
            if kept is not None:
                kept.append(part)
                kept = kept if size <= self._room else None
            yield part
        self._kept = kept

    def _read(self) -> Iterator[Trajectory]:
        stretch = self._stretch
        if stretch.trajectory is None:
            raise ConfigError("expected frames, got a run without a trajectory")
        begin = stretch.skip
        chunks = stream(
            stretch.trajectory,
            stretch.topology,
            charges=stretch.charges,
            wrapped=stretch.wrapped,
            interval=stretch.interval,
            stop=stretch.frames,
            chunk=CHUNK,
            progress=self._progress,
        )
        offsets = None
        for number, part in enumerate(chunks):
            if not stretch.wrapped:  # molecules that were not whole at the start never become so
                if offsets is None:
                    offsets = whole_offsets(part.positions[0], part.cells[0], part.topology)
                part = replace(part, positions=part.positions + offsets @ part.cells)
            if number == 0 and self._times is None:
                begin = float(part.times[0]) + stretch.skip
            first, last = (begin, np.inf) if self._times is None else self._times
            inside = np.flatnonzero((part.times >= first - 1e-9) & (part.times <= last + 1e-9))
            if len(inside):
                yield part.frames(slice(int(inside[0]), int(inside[-1]) + 1))
