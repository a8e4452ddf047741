"""Equilibration of boxes, from settings to a folder of results and the liquids that came out.

config = EquilibrationConfig.load({"structure": "box.extxyz", "model": "electrolyte"})
run = EquilibrationRun.start(config)
summary = run.run()
liquids = run.ready()
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase.io import read, write
from rich.console import Console

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.equilibration.equilibration_simulation import EquilibrationSimulation
from hff_ase.dynamics.equilibration.groups import expected_density, measured_density, states
from hff_ase.dynamics.equilibration.protocol import (
    HOT,
    HOTTER,
    KEY,
    EquilibrationConfig,
    Protocol,
)
from hff_ase.dynamics.equilibration.shells import cations
from hff_ase.dynamics.replicas.replica_run import ReplicaRun
from hff_ase.dynamics.replicas.reporter import replica_folder
from hff_ase.dynamics.reporters.growing_file import write_atomically
from hff_ase.dynamics.reporters.run_folder import CHECKPOINT, FINAL, RunFolder
from hff_ase.dynamics.reporters.screen import Screen
from hff_ase.dynamics.simulation.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hff_ase.dynamics.simulation.resume import NOT_PHYSICS
from hff_ase.dynamics.simulation.run import Run
from hff_ase.dynamics.simulation.stopping import StopRequest
from hff_ase.dynamics.start.loading import load_calculator, read_start
from hff_ase.errors import ConfigError, SimulationError
from hff_ase.settings import Given

MAY_CHANGE = (*NOT_PHYSICS, "max_time")  # when an equilibration is resumed


class EquilibrationRun(Run):
    """An equilibration in its folder; make one with `start` or `resume`, then call `run`.

    Args:
        folder: of the run, which holds its checkpoint.
        config: the settings.
        calc: what gives the forces; None for a run that is finished.
        console: where to show progress.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: EquilibrationConfig,
        calc: Any,
        console: Console | None = None,
    ) -> None:
        super().__init__(folder, calc, console)
        self.config = config

    @classmethod
    def start(
        cls,
        config: EquilibrationConfig,
        structures: Sequence[Atoms] | None = None,
        calc: Any = None,
        *,
        force: bool = False,
        console: Console | None = None,
    ) -> EquilibrationRun:
        """Check everything that can be checked, and write the start to the output folder.

        Args:
            config: the settings.
            structures: left as they are; None reads the files of the settings.
            calc: a HybridFF; None loads the model of the settings.
            force: replace a run that is in the folder.
            console: where to show progress.

        Raises:
            HFFError: as `ReplicaRun.start`.
        """
        if structures is None:
            shared = config.replicas.shared
            files = config.replicas.structures
            structures = [
                read_start(shared.model_copy(update={"structure": file})) for file in files
            ]
            paths = config.replicas.structures
        else:
            paths = (None,) * len(structures)
        replicas = config.replicas.for_structures(len(structures))
        made = ReplicaRun.start(replicas, structures, calc, force=force, console=console)
        replicas = replace(replicas, structures=paths)
        names = states(replicas, structures)
        measured = {}
        for name, members in names.items():
            own = replicas.conditions[replicas.combination(members[0])]
            known = measured_density(structures[own.structure], own.temperature)
            if known is not None:
                measured[name] = known
        protocol = config.protocol
        if protocol.heat is None:
            charged = any(len(cations(one)) for one in structures)
            protocol = protocol.model_copy(update={"heat": HOTTER if charged else HOT})
        expected = config.expected or tuple(expected_density(one) for one in structures)
        config = replace(
            config, replicas=replicas, protocol=protocol, expected=expected, measured=measured
        )
        checkpoint = load_checkpoint(made.folder[CHECKPOINT])
        checkpoint.config = config.resolved()
        with made.folder.locked():
            save_checkpoint(made.folder[CHECKPOINT], checkpoint)
        calc = load_calculator(replicas.shared) if calc is None else calc
        return cls(made.folder, config, calc, console)

    @classmethod
    def resume(
        cls,
        folder: str | Path,
        calc: Any = None,
        *,
        settings: Mapping[str, Any] | None = None,
        console: Console | None = None,
    ) -> EquilibrationRun:
        """Resume the equilibration in a folder.

        Args:
            folder: where it is (it may have been moved).
            calc: the HybridFF of the run; None loads its model.
            settings: of these only what does not shape the boxes may differ, and ``max_time``.
            console: where to show progress.

        Raises:
            SimulationError: no equilibration there, or a damaged one.
            ConfigError: a setting that may not change.
        """
        run_folder = RunFolder(folder)
        checkpoint = load_checkpoint(run_folder[CHECKPOINT])
        if KEY not in checkpoint.config:
            raise SimulationError(f"expected an equilibration in {folder}, got another run")
        given = Given.of(settings or {})
        foreign = [name for name in given if name not in MAY_CHANGE]
        if foreign:
            raise ConfigError(
                f"{given.where(foreign[0])}expected the settings of the run to resume, got "
                f"{foreign[0]}; only {', '.join(MAY_CHANGE)} may change"
            )
        config = EquilibrationConfig.load(checkpoint.config, given)
        if checkpoint.phase != "finished":
            calc = load_calculator(config.replicas.shared) if calc is None else calc
        return cls(run_folder, config, calc, console)

    @property
    def _settings(self) -> MDConfig:
        return self.config.replicas.shared

    def _simulation(
        self, checkpoint: Checkpoint, screen: Screen, stop: StopRequest
    ) -> EquilibrationSimulation:
        return EquilibrationSimulation(
            self.folder, self.config, checkpoint, self._calc, screen, stop
        )

    def run(self) -> dict[str, Any]:
        """Continue until everything has settled; what summary.yaml holds.

        Raises:
            UnsettledError: the longest time came first; says why, and how long it likely takes.
            SimulationError: all boxes boiled or blew up, the run was stopped by a signal, cannot
                write its files, or is running in another process.
        """
        return super().run()

    def ready(self) -> list[Atoms]:
        """The boxes of a finished run at its end, with real masses and with momenta."""
        n_replicas = self.config.replicas.n_replicas
        files = [replica_folder(self.folder, k)[FINAL] for k in range(n_replicas)]
        heavy = self.config.replicas.shared.hydrogen_mass is not None
        boxes = [cast(Atoms, read(file)) for file in files if file.exists()]
        return [real_masses(box) if heavy else box for box in boxes]

    def write_ready(self, path: Path) -> int:
        """Write `ready` to an extxyz file, a frame for each box; their number.

        Raises:
            SimulationError: it cannot be written.
        """
        boxes, text = self.ready(), io.StringIO()
        for box in boxes:
            box.calc = None
        write(text, boxes, format="extxyz")
        write_atomically(path, text.getvalue().encode())
        return len(boxes)


def real_masses(atoms: Atoms) -> Atoms:
    """A copy whose atoms weigh what they do; each keeps its kinetic energy.

    Momenta are then shifted to add up to zero again.
    """
    copy = atoms.copy()
    if "masses" not in copy.arrays:
        return copy
    before = copy.get_masses()
    momenta = copy.get_momenta()
    del copy.arrays["masses"]
    after = copy.get_masses()
    momenta = momenta * np.sqrt(after / before)[:, None]
    copy.set_momenta(momenta - after[:, None] * momenta.sum(axis=0) / after.sum())
    return copy


__all__ = ["EquilibrationConfig", "EquilibrationRun", "Protocol"]
