"""What a running simulation shows on the screen."""

from __future__ import annotations

import time
from math import isfinite
from types import TracebackType

from rich.console import Console

from hff_ase.dynamics.reporters.statistics import ns_per_day
from hff_ase.progress import SECONDS_BETWEEN_UPDATES, ProgressBar

SECONDS_BETWEEN_LINES = 15.0  # where there is no terminal (a job's output file)


class Screen:
    """A progress bar on a terminal, a line now and then elsewhere, nothing if not wanted."""

    def __init__(self, shown: bool, n_steps: int, timestep: float, console: Console | None) -> None:
        self._bar = ProgressBar("md", n_steps, shown, console or Console())
        self._n_steps = n_steps
        self._timestep = timestep
        self._first_step = 0
        self._started = time.perf_counter()

    def __enter__(self) -> Screen:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def say(self, message: str) -> None:
        """Print a permanent line."""
        self._bar.say(message)

    def begin(self, step: int) -> None:
        """Dynamics starts (again) after this step: speed is counted from here."""
        self._first_step = step
        self._started = time.perf_counter()
        # the first numbers come soon
        self._bar.updated = self._started + min(self._wait, 2.0) - self._wait

    def minimizing(self, step: int, energy: float, force: float) -> None:
        """Show a step of the minimisation."""
        state = f"energy {energy:.3f} eV, largest force {force:.2f} eV/A"
        if self._bar.drawn:
            self._bar.update(state, title="minimise")
        elif self._bar.due(self._wait):
            self.say(f"minimise: step {step}, {state}")

    def running(self, step: int, ensemble: str, temperature: float, density: float) -> None:
        """Show a step of the dynamics, if it is time to: K and g/cm^3 (nan without a cell)."""
        if not self._bar.shown or not (self._bar.due(self._wait) or step == self._n_steps):
            return
        seconds = time.perf_counter() - self._started
        done = step - self._first_step
        left = seconds / done * (self._n_steps - step) if done else 0.0
        state = f"{ns_per_day(done, self._timestep, seconds):.3g} ns/day, {clock(left)} left, "
        state += f"{temperature:.0f} K"
        if isfinite(density):
            state += f", {density:.3f} g/cm3"
        if self._bar.drawn:
            self._bar.update(state, step, ensemble)
        else:
            self.say(f"{ensemble}: step {step} of {self._n_steps}, {state}")

    @property
    def _wait(self) -> float:
        return SECONDS_BETWEEN_UPDATES if self._bar.drawn else SECONDS_BETWEEN_LINES


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
