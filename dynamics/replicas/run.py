"""Molecular dynamics of many replicas, from a configuration to a folder of results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from rich.console import Console

from hff_ase.dynamics.checkpointing import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from hff_ase.dynamics.domains import check_calculators
from hff_ase.dynamics.extending import asked_of
from hff_ase.dynamics.guards import check_contacts, check_results
from hff_ase.dynamics.md import with_changes
from hff_ase.dynamics.movers import choose_engine
from hff_ase.dynamics.progress import Screen
from hff_ase.dynamics.replicas.config import ReplicaConfig
from hff_ase.dynamics.replicas.keeping import pack_structures
from hff_ase.dynamics.replicas.session import ReplicaSession
from hff_ase.dynamics.rundir import CHECKPOINT, CONFIG, RunFolder
from hff_ase.dynamics.sitting import sit
from hff_ase.dynamics.starting import (
    check_structure,
    load_calculator,
    read_structure,
    with_heavy_hydrogen,
)
from hff_ase.dynamics.stopping import StopRequest
from hff_ase.dynamics.summary import environment
from hff_ase.errors import HFFError, SimulationError
from hff_ase.reading import with_own_names


class ReplicaRun:
    """A run of replicas in its folder; make one with `start` or `resume`, then call `run`."""

    def __init__(
        self,
        folder: RunFolder,
        config: ReplicaConfig,
        calc: Any,
        console: Console | None = None,
    ) -> None:
        self.folder, self.config = folder, config
        self._calc, self._console = calc, console

    @classmethod
    def start(
        cls,
        config: ReplicaConfig,
        structures: Sequence[Atoms] | None = None,
        calc: Any = None,
        *,
        force: bool = False,
        console: Console | None = None,
    ) -> ReplicaRun:
        """Check everything that can be checked, and put the start into the output folder.

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
    def resume(
        cls,
        folder: str | Path,
        calc: Any = None,
        *,
        settings: Mapping[str, Any] | None = None,
        console: Console | None = None,
    ) -> ReplicaRun:
        """Take up the run in a folder.

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
        config = run = ReplicaConfig.from_settings(checkpoint.config)
        asked = asked_of(run_folder[CONFIG], run.resolved(), settings or {})
        if asked:
            config = check_same(run, asked)
        if checkpoint.phase != "finished" or config.shared.plan != run.shared.plan:
            calc = load_calculator(config.shared) if calc is None else calc
            choose_engine(config.shared, calc)
        return cls(run_folder, config, calc, console)

    def run(self) -> dict[str, Any]:
        """Go on to the end; what summary.yaml holds. A finished run is left as it is.

        Raises:
            SimulationError: all replicas blew up, the run was stopped by a signal, cannot write its
                files, or is running in another process.
        """

        def make(checkpoint: Checkpoint, screen: Screen, stop: StopRequest) -> ReplicaSession:
            return ReplicaSession(self.folder, self.config, checkpoint, self._calc, screen, stop)

        return sit(self.folder, self.config.shared, self._console, make, self.config.resolved())


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
            if structures is None:
                atoms = read_structure(shared)
            else:
                atoms = with_own_names(structures[number])
            check_structure(atoms, shared)
            given.append(with_heavy_hydrogen(atoms, shared))
    return given


@contextlib.contextmanager
def naming(number: int, n_structures: int) -> Iterator[None]:
    """Say of several structures which one an error is about."""
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
    run = config.resolved()
    asked = ReplicaConfig.from_settings({**run, **settings}).resolved()
    return ReplicaConfig.from_settings(with_changes(run, asked))
