"""Ctrl-C, SIGTERM or the end of the time ends a run between two steps, after a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from hff_ase.errors import StoppedError


class StopRequest:
    """Whether a run was asked to stop, and by what.

    Args:
        max_hours: ask it to stop after this many hours on the clock; None for no limit.
    """

    def __init__(self, max_hours: float | None = None) -> None:
        self._signal_name: str | None = None
        self._max_hours = max_hours
        self._started = time.monotonic()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal; a second Ctrl-C interrupts at once."""
        if self._signal_name is not None:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name

    @property
    def signal_name(self) -> str | None:
        """The signal that stops the run; SIGTERM once the time is over, None to continue."""
        if self._signal_name is None and self._time_is_over:
            return signal.SIGTERM.name
        return self._signal_name

    @signal_name.setter
    def signal_name(self, name: str | None) -> None:
        self._signal_name = name

    @property
    def reason(self) -> str:
        """What stops the run, in words: the signal or the limit."""
        if self._signal_name is None and self._max_hours is not None and self._time_is_over:
            return f"max_hours {self._max_hours:g}"
        return self._signal_name or "nothing"

    def error(self, message: str) -> StoppedError:
        """The error to raise: ``stopped by <reason> <message>``, with the signal's exit code.

        The time limit has that of SIGTERM (143): a script that continues only after a success does
        not take the run for finished.
        """
        return StoppedError(f"stopped by {self.reason} {message}", self.signal_name or "SIGTERM")

    @property
    def _time_is_over(self) -> bool:
        if self._max_hours is None:
            return False
        return time.monotonic() - self._started >= 3600.0 * self._max_hours


@contextlib.contextmanager
def stop_on_signals(max_hours: float | None = None) -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request; handlers are put back afterwards.

    Outside the main thread Python allows no handlers: signals keep their meaning there.

    Args:
        max_hours: the time also makes a request, after this many hours from here.
    """
    request = StopRequest(max_hours)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    earlier = {number: signal.signal(number, request.handle) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
