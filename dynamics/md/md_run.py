"""Molecular dynamics of one system, from a configuration to a folder of results.

    run = MDRun.start(MDConfig(structure="box.extxyz", model="electrolyte", time="50ps"))
    summary = run.run()

A run that is killed at any moment continues with ``MDRun.resume(folder).run()`` and gives, bit for
bit, the trajectory and the statistics of one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from rich.console import Console

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.engine.ase.ase_engine import calculator_state
from hff_ase.dynamics.engine.interface import choose_engine
from hff_ase.dynamics.guards.checks import check_contacts, check_results
from hff_ase.dynamics.md.committee_watch import assemble, refuse_collected
from hff_ase.dynamics.md.md_simulation import MDSimulation
from hff_ase.dynamics.reporters.run_folder import CHECKPOINT, CONFIG, RunFolder
from hff_ase.dynamics.reporters.screen import Screen
from hff_ase.dynamics.simulation.checkpoint import (
    Checkpoint,
    load_checkpoint,
    pack_atoms,
    save_checkpoint,
    unpack_atoms,
)
from hff_ase.dynamics.simulation.resume import asked_of, with_changes
from hff_ase.dynamics.simulation.run import Run
from hff_ase.dynamics.simulation.stopping import StopRequest
from hff_ase.dynamics.simulation.summary import environment
from hff_ase.dynamics.start.domains import check_calculators
from hff_ase.dynamics.start.loading import (
    check_start,
    load_calculator,
    load_members,
    read_start,
    with_heavy_hydrogen,
)
from hff_ase.errors import ConfigError
from hff_ase.precision import on_usual_device
from hff_ase.reading import with_own_names
from hff_ase.settings import Given

if TYPE_CHECKING:  # torch is imported only where the calculator uses it
    from hff_ase.calculators.committee import Committee


class MDRun(Run):
    """A run in its folder; make one with `start` or `resume`, then call `run`.

    Args:
        folder: of the run, which holds its checkpoint.
        config: the settings.
        calc: what gives the forces; None for a run that is finished.
        console: where to show progress.
        committee: of ``calc`` and further models, which watches the run.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: MDConfig,
        calc: Calculator | None,
        console: Console | None = None,
        committee: Committee | None = None,
    ) -> None:
        super().__init__(folder, calc, console)
        self.config = config
        self._committee = committee

    @classmethod
    @on_usual_device
    def start(
        cls,
        config: MDConfig,
        atoms: Atoms | None = None,
        calc: Calculator | None = None,
        *,
        committee: Sequence[Calculator] | None = None,
        force: bool = False,
        console: Console | None = None,
    ) -> MDRun:
        """Check everything that can be checked, and write the start to the output folder.

        Args:
            config: the settings.
            atoms: the structure (left unchanged); None reads ``config.structure``.
            calc: an ASE calculator; None loads ``config.model``. Optional methods ``get_state()``
                (a dict of arrays) and ``set_state`` keep what its next result depends on besides
                the atoms.
            committee: further ASE calculators whose spread is watched; None loads
                ``config.committee``.
            force: replace a run that is in the folder.
            console: where to show progress.

        Raises:
            HFFError: settings, structure and model do not fit each other, the atoms are on top of
                each other, or the folder holds a run or cannot be written.
        """
        atoms = read_start(config) if atoms is None else with_own_names(atoms)
        check_start(atoms, config)
        atoms = with_heavy_hydrogen(atoms, config)
        folder = RunFolder(config.output)
        if folder.has_run and not force:
            folder.create(force)  # says what is wrong before the model is loaded
        refuse_collected(config, folder, force)
        calc = load_calculator(config) if calc is None else calc
        members = load_members(config) if committee is None else committee
        check_calculators([calc, *members], [atoms], [config.temperature], config.outside_domain)
        calc, together = assemble(config, calc, members)
        config = choose_engine(config, calc)
        checkpoint = Checkpoint(
            config=config.resolved(),
            rng=dict(np.random.default_rng(config.seed).bit_generator.state),
            environment={},
            atoms=pack_atoms(atoms),
        )
        probe = unpack_atoms(checkpoint.atoms)
        check_contacts(probe, config.min_distance)
        probe.calc = calc
        check_results(probe, float(probe.get_potential_energy()), probe.get_forces())
        if config.pressure_interval is not None and "stress" not in calc.results:
            raise ConfigError(
                "expected a calculator that gives a stress for pressure_interval, got "
                f"{type(calc).__name__}"
            )
        if together is not None:  # what a member cannot evaluate is reported before the run
            together.evaluate_members([unpack_atoms(checkpoint.atoms)], skip=1)
        checkpoint.calculator = calculator_state(calc)
        checkpoint.environment = environment()
        folder.create(force)
        save_checkpoint(folder[CHECKPOINT], checkpoint)
        return cls(folder, config, calc, console, together)

    @classmethod
    @on_usual_device
    def resume(
        cls,
        folder: str | Path,
        calc: Calculator | None = None,
        *,
        committee: Sequence[Calculator] | None = None,
        settings: Mapping[str, Any] | None = None,
        console: Console | None = None,
    ) -> MDRun:
        """Resume the run in a folder.

        Args:
            folder: where it is (it may have been moved).
            calc: the calculator of the run; None loads its model.
            committee: the further calculators of the run; None loads them.
            settings: what the user asks for now; it must agree with the run, except that it may
                be made longer (``extend``, `hff_ase.dynamics.simulation.resume`). So must what was
                edited in its config.yaml.
            console: where to show progress.

        Raises:
            SimulationError: no run there, or a damaged one.
            ConfigError: a setting differs from the run's.
        """
        run_folder = RunFolder(folder)
        checkpoint = load_checkpoint(run_folder[CHECKPOINT])
        # runs from before there was a choice were moved by ASE
        config = MDConfig.load({"engine": "ase", **checkpoint.config})
        asked = asked_of(run_folder[CONFIG], config.resolved(), settings or {})
        if asked:
            config = check_same(config, asked)
        together = None
        if checkpoint.phase != "finished" or config.plan != MDConfig.load(checkpoint.config).plan:
            calc = load_calculator(config) if calc is None else calc
            members = load_members(config) if committee is None else committee
            calc, together = assemble(config, calc, members)
            choose_engine(config, calc)
        return cls(run_folder, config, calc, console, together)

    @property
    def _settings(self) -> MDConfig:
        return self.config

    def _resolved(self) -> Mapping[str, Any]:
        return self.config.resolved()

    def _simulation(
        self, checkpoint: Checkpoint, screen: Screen, stop: StopRequest
    ) -> MDSimulation:
        return MDSimulation(
            self.folder, self.config, checkpoint, self._calc, screen, stop, self._committee
        )


def check_same(config: MDConfig, settings: Mapping[str, Any]) -> MDConfig:
    """The run's settings, with what may change taken from ``settings``.

    Raises:
        ConfigError: a setting that shapes the trajectory differs; names it.
    """
    if settings.get("engine") == "auto":  # it was chosen when the run was started
        settings = Given.of(settings).without("engine")
    given = Given.of(settings)
    asked = MDConfig.load(given.over(config.resolved())).resolved()
    return MDConfig.load(with_changes(config.resolved(), asked, given))
