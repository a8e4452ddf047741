"""What a running simulation shows on the screen."""

from __future__ import annotations

import time
from math import isfinite
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from hff_ase.dynamics.reporting import ns_per_day

SECONDS_BETWEEN_UPDATES = 0.5  # on a terminal
SECONDS_BETWEEN_LINES = 15.0  # elsewhere (a job's output file)


class Screen:
    """A progress bar on a terminal, a line now and then elsewhere, nothing if not wanted."""

    def __init__(self, shown: bool, n_steps: int, timestep: float, console: Console | None) -> None:
        self._shown = shown
        self._n_steps = n_steps
        self._timestep = timestep
        self._console = console or Console()
        self._bar: Progress | None = None
        self._first_step = 0
        self._started = self._updated = time.perf_counter()

    def __enter__(self) -> Screen:
        if self._shown and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
                console=self._console,
                refresh_per_second=2,
            )
            self._bar.__enter__()
            self._bar.add_task("md", total=self._n_steps, state="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)

    def say(self, message: str) -> None:
        """A line that stays."""
        if self._shown:
            self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def begin(self, step: int) -> None:
        """Dynamics starts (again) after this step: speed is counted from here."""
        self._first_step = step
        self._started = time.perf_counter()
        wait = SECONDS_BETWEEN_LINES if self._bar is None else SECONDS_BETWEEN_UPDATES
        self._updated = self._started + min(wait, 2.0) - wait  # the first numbers come soon

    def minimizing(self, step: int, energy: float, force: float) -> None:
        """Show a step of the minimisation."""
        state = f"energy {energy:.3f} eV, largest force {force:.2f} eV/A"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description="minimise", state=state)
        elif self._due():
            self.say(f"minimise: step {step}, {state}")

    def running(self, step: int, ensemble: str, temperature: float, density: float) -> None:
        """Show a step of the dynamics, if it is time to: K and g/cm^3 (nan without a cell)."""
        if not self._shown or not (self._due() or step == self._n_steps):
            return
        seconds = time.perf_counter() - self._started
        done = step - self._first_step
        left = seconds / done * (self._n_steps - step) if done else 0.0
        state = f"{ns_per_day(done, self._timestep, seconds):.3g} ns/day, {clock(left)} left, "
        state += f"{temperature:.0f} K"
        if isfinite(density):
            state += f", {density:.3f} g/cm3"
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, description=ensemble, completed=step, state=state)
        else:
            self.say(f"{ensemble}: step {step} of {self._n_steps}, {state}")

    def _due(self) -> bool:
        now = time.perf_counter()
        wait = SECONDS_BETWEEN_LINES if self._bar is None else SECONDS_BETWEEN_UPDATES
        if now - self._updated < wait:
            return False
        self._updated = now
        return True


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
