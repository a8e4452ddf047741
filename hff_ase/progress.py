"""A progress bar on a terminal, permanent lines elsewhere, nothing where it is not wanted."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

SECONDS_BETWEEN_UPDATES = 0.5


class ProgressBar:
    """A progress bar with a short text; a context manager.

    Args:
        title: what is in progress.
        total: steps; None if it is not known.
        shown: whether anything appears at all.
        console: where.
        seconds_left: show rich's estimate of the time that is left.
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        shown: bool,
        console: Console,
        seconds_left: bool = False,
    ) -> None:
        self.shown, self._console = shown, console
        self._title, self._total, self._seconds_left = title, total, seconds_left
        self._bar: Progress | None = None
        self.updated = time.perf_counter()

    def __enter__(self) -> ProgressBar:
        if self.shown and self._console.is_terminal:
            columns: list[ProgressColumn] = [TextColumn("{task.description}")]
            columns += [BarColumn(bar_width=24), MofNCompleteColumn()]
            columns += [TimeRemainingColumn()] if self._seconds_left else []
            columns += [TextColumn("{task.fields[state]}")]
            self._bar = Progress(*columns, console=self._console, refresh_per_second=2)
            self._bar.__enter__()
            self._bar.add_task(self._title, total=self._total, state="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)

    @property
    def drawn(self) -> bool:
        """Whether there is a terminal with a bar on it."""
        return self._bar is not None

    def say(self, message: str) -> None:
        """Print a permanent line."""
        if self.shown:
            self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def update(self, state: str, step: int | None = None, title: str | None = None) -> None:
        """Redraw the bar, where there is one; None leaves a part as it is."""
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, description=title, completed=step, state=state)

    def due(self, seconds: float = SECONDS_BETWEEN_UPDATES) -> bool:
        """Whether enough time has passed since this was last true."""
        now = time.perf_counter()
        if now - self.updated < seconds:
            return False
        self.updated = now
        return True
