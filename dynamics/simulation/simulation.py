"""A simulation of any kind: stage after stage, with checkpoints, from a checkpoint to the end."""

from __future__ import annotations

import contextlib
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.reporters.growing_file import WriteError
from hff_ase.dynamics.reporters.run_folder import CHECKPOINT, SUMMARY, RunFolder
from hff_ase.dynamics.reporters.screen import Screen
from hff_ase.dynamics.reporters.statistics import Moment, ns_per_day
from hff_ase.dynamics.simulation.checkpoint import Checkpoint, save_checkpoint
from hff_ase.dynamics.simulation.stopping import StopRequest
from hff_ase.dynamics.simulation.summary import environment
from hff_ase.errors import HFFWarning, SimulationError

MOST_LINES = 8  # on what a stage ended far from
SECONDS_BETWEEN_CHECKPOINTS = 60.0
SECONDS_BETWEEN_REPORTS = 120.0
SAME_MODEL = 1e-3  # eV per atom: a larger difference of recomputed energies is another model


class Stateful(Protocol):
    """An engine, of one system or many."""

    def get_state(self) -> dict[str, np.ndarray]:
        """The integrator's variables."""


class Simulation(ABC):
    """Carries a run from a checkpoint to its end, or until it is stopped, in a locked folder.

    Attributes:
        resumed_by: the command that resumes such a run, before the folder.

    Args:
        folder: of the run.
        settings: of the run, or those that all its replicas share.
        checkpoint: where the run is.
        screen: where progress is shown.
        stop: whether it was asked to stop.
    """

    resumed_by = "hff md --resume"

    def __init__(
        self,
        folder: RunFolder,
        settings: MDConfig,
        checkpoint: Checkpoint,
        screen: Screen,
        stop: StopRequest,
    ) -> None:
        self._folder, self._settings, self._state = folder, settings, checkpoint
        self._screen, self._stop = screen, stop
        self._seconds_before = float(checkpoint.notes.get("seconds", 0.0))
        self._first_step = checkpoint.step
        self._started = self._saved = time.perf_counter()
        self._next_report = self._started + SECONDS_BETWEEN_REPORTS

    def run(self) -> dict[str, Any]:
        """Run to the end; returns the summary of the whole run.

        Raises:
            SimulationError: the run blew up, was asked to stop, or cannot write its files.
        """
        try:
            if self._state.phase == "start":
                self._prepare()
                self._state.phase = "dynamics"
                self._checkpoint(stage_begun=False)
            else:
                self._resume()
                self._check_resumed()
                if self._folder[SUMMARY].exists():  # of a run that was made longer, or stopped
                    self._report("running")
            self._screen.begin(self._state.step)
            self._started = time.perf_counter()
            for index in range(self._state.stage, len(self._settings.plan)):
                self._run_stage(index)
            return self._finish()
        finally:
            self._close()

    @abstractmethod
    def _prepare(self) -> None:
        """Prepare the first step; a run that is killed meanwhile starts here again."""

    @abstractmethod
    def _resume(self) -> None:
        """Restore everything from the checkpoint."""

    @abstractmethod
    def _begin_stage(self, ensemble: str) -> None:
        """Set up the stage's ensemble, new or from the checkpoint."""

    @abstractmethod
    def _advance(self, stage: int, n_left: int) -> None:
        """Take one to `n_left` steps, and write and show what is due."""

    @abstractmethod
    def _energy(self) -> tuple[float, int]:
        """Total potential energy, eV, and the number of atoms."""

    @property
    @abstractmethod
    def _engine(self) -> Stateful:
        """The engine; set once the run was prepared or resumed."""

    @abstractmethod
    def _collect_state(self) -> None:
        """Store atoms and lengths of files in the checkpoint."""

    @abstractmethod
    def _finish(self) -> dict[str, Any]:
        """Write the final structure and other final output; returns the summary."""

    @abstractmethod
    def _tell(self, status: str) -> dict[str, Any]:
        """Write summary and plot of the run so far; returns the summary."""

    @abstractmethod
    def _close(self) -> None:
        """Close all files."""

    def _check_resumed(self) -> None:
        """Warn where this machine or these versions may change the last bits of results.

        Raises:
            SimulationError: the energy is another: not the model of the run.
        """
        state = self._state
        before, now = state.environment, environment()
        for key in now:
            if key in before and now[key] != before[key]:
                self._warn(f"{key} was {before[key]}, is {now[key]}")
        energy, n_atoms = self._energy()
        if state.energy is not None and energy != state.energy:
            difference = abs(energy - state.energy)
            if not difference <= SAME_MODEL * n_atoms:
                raise SimulationError(
                    f"expected the energy of the checkpoint, {state.energy:.6f} eV, got "
                    f"{energy:.6f} eV: another model or other settings of it"
                )
            self._warn(f"the energy at the checkpoint differs by {difference:.2g} eV")
        state.environment = now
        self._say(f"resumed at step {state.step} in stage {state.stage + 1}")

    def _run_stage(self, index: int) -> None:
        stage, state = self._settings.plan[index], self._state
        self._begin_stage(stage.ensemble)
        self._folder.log(f"stage {index + 1}: {stage.ensemble}, {stage.n_steps} steps")
        while not self._is_over(index):
            self._advance(index, stage.n_steps - state.stage_step)
            if self._stop.signal_name is not None:
                self._checkpoint()
                self._report("stopped")
                raise self._stop.error(
                    f"at step {state.step}; continue with {self.resumed_by} {self._folder.path}"
                )
            due = state.step % self._settings.checkpoint_interval == 0
            if due or time.perf_counter() - self._saved > SECONDS_BETWEEN_CHECKPOINTS:
                self._checkpoint()
                if time.perf_counter() > self._next_report:
                    self._report("running")
        self._say_departures(index)
        state.stage, state.stage_step = index + 1, 0
        # the run may be made longer: the last stage's integrator is kept
        self._checkpoint(stage_begun=index + 1 == len(self._settings.plan))

    def _departures(self, index: int) -> list[str]:
        """Warnings about the stage that has ended (`departures`), a line each."""
        raise NotImplementedError

    def _say_departures(self, index: int) -> None:
        found = self._departures(index)
        # of a stage that is made longer the last end counts
        self._state.notes.setdefault("far_from_asked", {})[str(index + 1)] = found
        for line in found[:MOST_LINES]:
            self._say(f"warning: {line}")
        if len(found) > MOST_LINES:
            more = len(found) - MOST_LINES
            self._say(f"warning: {more} more such lines: far_from_asked in summary.yaml")

    def _far_from_asked(self) -> dict[str, list[str]]:
        """For the summary: the warnings of all stages; empty if there are none."""
        by_stage = self._state.notes.get("far_from_asked", {})
        lines = [line for stage in sorted(by_stage, key=int) for line in by_stage[stage]]
        return {"far_from_asked": lines} if lines else {}

    def _is_over(self, index: int) -> bool:
        """Whether a stage has ended; checked before each advance."""
        return self._state.stage_step >= self._settings.plan[index].n_steps

    def _steps_until_due(self, n_left: int, *intervals: int) -> int:
        """Steps until the next multiple of one of the intervals: nobody needs the atoms before."""
        return min(n_left, *(every - self._state.step % every for every in intervals))

    def _checkpoint(self, stage_begun: bool = True) -> None:
        """Save a checkpoint; the integrator's variables only once its stage has begun."""
        self._collect_state()
        self._state.integrator = self._engine.get_state() if stage_begun else {}
        self._save()

    def _save(self) -> None:
        self._state.energy, _ = self._energy()
        seconds = time.perf_counter() - self._started
        self._state.notes["seconds"] = self._seconds_before + seconds
        save_checkpoint(self._folder[CHECKPOINT], self._state)
        self._saved = time.perf_counter()

    def _report(self, status: str) -> None:
        """Summary and plot of the run so far. A full disk is reported by the next checkpoint."""
        started = time.perf_counter()
        with contextlib.suppress(OSError, WriteError):
            self._tell(status)
        now = time.perf_counter()
        # never more than a hundredth of the time
        self._next_report = now + max(SECONDS_BETWEEN_REPORTS, 100 * (now - started))

    def _speed(self) -> float:
        """ns/day since the simulation was started or resumed."""
        seconds = time.perf_counter() - self._started
        n_steps = self._state.step - self._first_step
        return ns_per_day(n_steps, self._settings.timestep, seconds)

    def _moment(self, stage: int) -> Moment:
        step = self._state.step
        return Moment(step, stage + 1, round(step * self._settings.timestep * 1e-3, 9))

    def _watch_minimization(self, step: int, energy: float, force: float) -> None:
        self._screen.minimizing(step, energy, force)
        if self._stop.signal_name is not None:
            raise self._stop.error(
                f"while minimising; start again with {self.resumed_by} {self._folder.path}"
            )

    def _say_minimized(self, done: Mapping[str, float], what: str = "") -> None:
        self._say(
            f"{what}minimised in {done['steps']} steps: energy {done['energy_before_eV']:.4f} to "
            f"{done['energy_after_eV']:.4f} eV, largest force "
            f"{done['largest_force_eV_per_A']:.3f} eV/A"
        )

    def _say(self, message: str) -> None:
        self._folder.log(message)
        self._screen.say(message)

    def _warn(self, message: str) -> None:
        self._folder.log(f"warning: {message}")
        warnings.warn(
            f"{message}; the resumed run may differ in the last bits", HFFWarning, stacklevel=5
        )
