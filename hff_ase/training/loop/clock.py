"""Time that a training has used since its first start, resumes included, and its limits."""

from __future__ import annotations

import time

from hff_ase.training.config import LimitsSection


class Clock:
    """Wall and CPU time (of this process, all its threads), in seconds."""

    def __init__(self, limits: LimitsSection, wall: float = 0.0, cpu: float = 0.0) -> None:
        self._limits = limits
        self._wall = time.monotonic() - wall
        self._cpu = time.process_time() - cpu

    @property
    def wall(self) -> float:
        """Wall time so far."""
        return time.monotonic() - self._wall

    @property
    def cpu(self) -> float:
        """CPU time so far."""
        return time.process_time() - self._cpu

    @property
    def used(self) -> float:
        """The largest used part of a limit; 0 without limits."""
        parts = [0.0]
        if self._limits.max_hours is not None:
            parts.append(self.wall / 3600.0 / self._limits.max_hours)
        if self._limits.cpu_hours is not None:
            parts.append(self.cpu / 3600.0 / self._limits.cpu_hours)
        return max(parts)
