"""A run in its folder, of any kind: locked, resumed at its checkpoint, ended cleanly."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.reporters.growing_file import WriteError
from hff_ase.dynamics.reporters.run_folder import CHECKPOINT, CONFIG, RunFolder
from hff_ase.dynamics.reporters.screen import Screen
from hff_ase.dynamics.simulation.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hff_ase.dynamics.simulation.resume import take_changes
from hff_ase.dynamics.simulation.simulation import Simulation
from hff_ase.dynamics.simulation.stopping import StopRequest, stop_on_signals
from hff_ase.dynamics.simulation.summary import read_summary
from hff_ase.errors import SimulationError
from hff_ase.precision import on_usual_device
from hff_ase.settings import to_yaml


class Run(ABC):
    """A run in its folder; subclasses make one with ``start`` or ``resume``.

    Args:
        folder: of the run.
        calc: what gives the forces; None for a run that is finished.
        console: where to show progress.
    """

    def __init__(self, folder: RunFolder, calc: Any, console: Console | None) -> None:
        self.folder = folder
        self._calc, self._console = calc, console

    @property
    @abstractmethod
    def _settings(self) -> MDConfig:
        """Settings of the run, or those that all its replicas share."""

    @abstractmethod
    def _simulation(self, checkpoint: Checkpoint, screen: Screen, stop: StopRequest) -> Simulation:
        """The simulation that continues at a checkpoint."""

    def _resolved(self) -> Mapping[str, Any] | None:
        """Settings of the whole run, with which it may have become longer; None for those of the
        checkpoint."""
        return None

    @on_usual_device
    def run(self) -> dict[str, Any]:
        """Continue to the end; what summary.yaml holds. A finished run is left unchanged, unless it
        was made longer.

        Raises:
            SimulationError: the run blew up (the message names the atoms, the frame is saved), was
                stopped by a signal, cannot write its files, or is running in another process.
        """
        folder, settings = self.folder, self._settings
        with folder.locked(), stop_on_signals(settings.max_hours) as stop:
            checkpoint = self._load_checkpoint()
            n_steps = sum(stage.n_steps for stage in settings.plan)
            screen = Screen(settings.progress, n_steps, settings.timestep, self._console)
            if checkpoint.phase == "finished":
                screen.say(f"the run in {folder.path} is finished: {n_steps} steps")
                return read_summary(folder)
            with screen:
                return self._simulate(self._simulation(checkpoint, screen, stop))

    def _load_checkpoint(self) -> Checkpoint:
        """The checkpoint, extended where the settings ask for a longer run."""
        checkpoint, resolved = load_checkpoint(self.folder[CHECKPOINT]), self._resolved()
        if resolved and take_changes(checkpoint, resolved, has_cell(checkpoint)):
            if checkpoint.phase != "start":
                self.folder.write(CONFIG, to_yaml(checkpoint.config))
            save_checkpoint(self.folder[CHECKPOINT], checkpoint)
        return checkpoint

    def _simulate(self, simulation: Simulation) -> dict[str, Any]:
        try:
            return simulation.run()
        except WriteError as error:
            raise SimulationError(
                f"{error}; the checkpoint is intact, continue with "
                f"{simulation.resumed_by} {self.folder.path}"
            ) from error
        except SimulationError as error:
            with contextlib.suppress(WriteError):
                self.folder.log(str(error))
            raise


def has_cell(checkpoint: Checkpoint) -> bool:
    """Whether every structure of a checkpoint is periodic."""
    found = [array for name, array in checkpoint.atoms.items() if name.rpartition("/")[2] == "pbc"]
    return all(bool(array.all()) for array in found)
