"""Molecular dynamics of many replicas, from a configuration to a folder of results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from rich.console import Console

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.engine.interface import choose_engine
from hff_ase.dynamics.guards.checks import check_contacts, check_results
from hff_ase.dynamics.replicas.config import ReplicaConfig
from hff_ase.dynamics.replicas.packing import pack_structures
from hff_ase.dynamics.replicas.replica_simulation import ReplicaSimulation
from hff_ase.dynamics.reporters.run_folder import CHECKPOINT, CONFIG, RunFolder
from hff_ase.dynamics.reporters.screen import Screen
from hff_ase.dynamics.simulation.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from hff_ase.dynamics.simulation.resume import asked_of, with_changes
from hff_ase.dynamics.simulation.run import Run
from hff_ase.dynamics.simulation.stopping import StopRequest
from hff_ase.dynamics.simulation.summary import environment
from hff_ase.dynamics.start.domains import check_calculators
from hff_ase.dynamics.start.loading import (
    check_start,
    load_calculator,
    read_start,
    with_heavy_hydrogen,
)
from hff_ase.errors import HFFError, SimulationError
from hff_ase.precision import on_usual_device
from hff_ase.reading import with_own_names
from hff_ase.settings import Given


class ReplicaRun(Run):
    """A run of replicas in its folder; make one with `start` or `resume`, then call `run`.

    Args:
        folder: of the run, which holds its checkpoint.
        config: the settings.
        calc: what gives the forces; None for a run that is finished.
        console: where to show progress.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: ReplicaConfig,
        calc: Any,
        console: Console | None = None,
    ) -> None:
        super().__init__(folder, calc, console)
        self.config = config

    @classmethod
    @on_usual_device
    def start(
        cls,
        config: ReplicaConfig,
        structures: Sequence[Atoms] | None = None,
        calc: Any = None,
        *,
        force: bool = False,
        console: Console | None = None,
    ) -> ReplicaRun:
        """Check everything that can be checked, and write the start to the output folder.

        Args:
            config: the settings.
            structures: left as they are; None reads ``config.structures``.
            calc: a HybridFF; None loads the model of the settings.
            force: replace a run that is in the folder.
            console: where to show progress.

        Raises:
            HFFError: settings, structures and model do not fit each other, atoms are on top of
                each other, or the folder holds a run or cannot be written.
        """
        if structures is not None:
            config = config.for_structures(len(structures))
        given = first_of_each(config, structures)
        folder = RunFolder(config.shared.output)
        if folder.has_run and not force:
            folder.create(force)  # says what is wrong before the model is loaded
        calc = load_calculator(config.shared) if calc is None else calc
        check_calculators([calc], given, config.temperatures, config.shared.outside_domain)
        choose_engine(config.shared, calc)
        for number, atoms in enumerate(given):
            probe = atoms.copy()
            probe.calc = calc
            with naming(number, len(given)):
                check_contacts(probe, config.shared.min_distance)
                check_results(probe, float(probe.get_potential_energy()), probe.get_forces())
        checkpoint = Checkpoint(
            config=config.resolved(),
            rng={},
            environment=environment(),
            atoms=pack_structures(given),
        )
        folder.create(force)
        with folder.locked():
            save_checkpoint(folder[CHECKPOINT], checkpoint)
        return cls(folder, config, calc, console)

    @classmethod
    @on_usual_device
    def resume(
        cls,
        folder: str | Path,
        calc: Any = None,
        *,
        settings: Mapping[str, Any] | None = None,
        console: Console | None = None,
    ) -> ReplicaRun:
        """Resume the run in a folder.

        Args:
            folder: where it is (it may have been moved).
            calc: the HybridFF of the run; None loads its model.
            settings: what the user asks for now, as for `MDRun.resume`.
            console: where to show progress.

        Raises:
            SimulationError: no run there, or a damaged one.
            ConfigError: a setting differs from the run's.
        """
        run_folder = RunFolder(folder)
        checkpoint = load_checkpoint(run_folder[CHECKPOINT])
        if not has_replicas(checkpoint):
            raise SimulationError(f"expected a run of replicas in {folder}, got one of one system")
        if "equilibration" in checkpoint.config:
            raise SimulationError(
                f"expected a run of hff md in {folder}, got an equilibration: hff equilibrate "
                f"--resume {folder}"
            )
        config = run = ReplicaConfig.load(checkpoint.config)
        asked = asked_of(run_folder[CONFIG], run.resolved(), settings or {})
        if asked:
            config = check_same(run, asked)
        if checkpoint.phase != "finished" or config.shared.plan != run.shared.plan:
            calc = load_calculator(config.shared) if calc is None else calc
            choose_engine(config.shared, calc)
        return cls(run_folder, config, calc, console)

    @property
    def _settings(self) -> MDConfig:
        return self.config.shared

    def _resolved(self) -> Mapping[str, Any]:
        return self.config.resolved()

    def _simulation(
        self, checkpoint: Checkpoint, screen: Screen, stop: StopRequest
    ) -> ReplicaSimulation:
        return ReplicaSimulation(self.folder, self.config, checkpoint, self._calc, screen, stop)


def has_replicas(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is that of a run of replicas."""
    return "replicas" in checkpoint.config


def first_of_each(config: ReplicaConfig, structures: Sequence[Atoms] | None) -> list[Atoms]:
    """The starting structures, read if none are given, checked, with the masses of the run.

    Raises:
        HFFError: one cannot be read, or these settings cannot move it.
    """
    given = []
    for number, file in enumerate(config.structures):
        shared = config.shared.model_copy(update={"structure": file})
        with naming(number, len(config.structures)):
            own = None if structures is None else structures[number]
            atoms = read_start(shared) if own is None else with_own_names(own)
            check_start(atoms, shared)
            given.append(with_heavy_hydrogen(atoms, shared))
    return given


@contextlib.contextmanager
def naming(number: int, n_structures: int) -> Iterator[None]:
    """Name the structure that an error is about, among several."""
    try:
        yield
    except HFFError as error:
        if n_structures == 1:
            raise
        raise type(error)(f"structure {number + 1}: {error}") from error


def check_same(config: ReplicaConfig, settings: Mapping[str, Any]) -> ReplicaConfig:
    """The run's settings, with what may change taken from ``settings``.

    Raises:
        ConfigError: a setting that shapes the trajectories differs; names it.
    """
    run, given = config.resolved(), Given.of(settings)
    asked = ReplicaConfig.load(given.over(run)).resolved()
    return ReplicaConfig.load(with_changes(run, asked, given))
