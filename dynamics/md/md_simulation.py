"""The simulation of one structure: its files, and what watches over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.engine.interface import Engine, make_engine
from hff_ase.dynamics.engine.momenta import set_momenta
from hff_ase.dynamics.guards.checks import CONTACT_INTERVAL, check_contacts, look_closer
from hff_ase.dynamics.guards.molecule_watch import MoleculeWatch
from hff_ase.dynamics.guards.uncertainty_watch import UncertaintyWatch
from hff_ase.dynamics.guards.watch import Seen, Watch, findings
from hff_ase.dynamics.md.committee_watch import CommitteeWatch
from hff_ase.dynamics.reporters.growing_file import WriteError
from hff_ase.dynamics.reporters.plots import plot
from hff_ase.dynamics.reporters.reporter import Reporter
from hff_ase.dynamics.reporters.run_folder import (
    CONFIG,
    FAILED,
    FINAL,
    INPUT,
    PLOT,
    STATISTICS,
    SUMMARY,
    RunFolder,
)
from hff_ase.dynamics.reporters.screen import Screen
from hff_ase.dynamics.reporters.statistics import Moment, frame, read_input, read_statistics
from hff_ase.dynamics.simulation.checkpoint import Checkpoint, pack_atoms, unpack_atoms
from hff_ase.dynamics.simulation.departures import departures
from hff_ase.dynamics.simulation.simulation import Simulation
from hff_ase.dynamics.simulation.stopping import StopRequest
from hff_ase.dynamics.simulation.summary import summarize
from hff_ase.dynamics.start.minimize import minimize
from hff_ase.errors import HFFError, SimulationError
from hff_ase.settings import to_yaml
from hff_ase.units import GRAM_PER_CM3

if TYPE_CHECKING:  # torch is imported only where the calculator uses it
    from hff_ase.calculators.committee import Committee


class MDSimulation(Simulation):
    """See `Simulation`; one structure, moved by the engine of the settings."""

    def __init__(
        self,
        folder: RunFolder,
        config: MDConfig,
        checkpoint: Checkpoint,
        calc: Any,
        screen: Screen,
        stop: StopRequest,
        committee: Committee | None = None,
    ) -> None:
        super().__init__(folder, config, checkpoint, screen, stop)
        self._config, self._calc = config, calc
        self._engine_or_none: Engine | None = None
        self._mass = float(unpack_atoms(checkpoint.atoms).get_masses().sum())
        self._rng = np.random.default_rng()
        self._rng.bit_generator.state = checkpoint.rng
        self._reporter = Reporter(folder, config, checkpoint.lengths, self._mass)
        self._committee, self._watches = committee, list[Watch]()

    @property
    def _engine(self) -> Engine:
        if self._engine_or_none is None:
            raise RuntimeError("expected an engine, got none yet")
        return self._engine_or_none

    def _unpack(self) -> Atoms:
        atoms = unpack_atoms(self._state.atoms)
        atoms.calc = self._calc
        return atoms

    def _make_engine(self, atoms: Atoms, surroundings: dict[str, np.ndarray]) -> None:
        self._engine_or_none = make_engine(atoms, self._config, self._calc, self._rng, surroundings)

    def _begin_watches(self, start: Atoms) -> None:
        config, folder, state = self._config, self._folder, self._state
        self._watches = [MoleculeWatch({0: start}, config.bond_watch, state.notes)]
        if self._committee is not None:  # it says more than a companion
            self._watches.append(CommitteeWatch(self._committee, config, folder, state))
            return
        uncertainty = UncertaintyWatch.of(self._calc, config.uncertainty_interval, folder, state)
        self._watches += [uncertainty] if uncertainty else []

    def _resume(self) -> None:
        self._begin_watches(read_input(self._folder[INPUT]) or self._unpack())
        self._make_engine(self._unpack(), self._state.calculator)

    def _prepare(self) -> None:
        config, atoms = self._config, self._unpack()
        self._begin_watches(atoms)
        if self._state.calculator:
            self._calc.set_state(self._state.calculator)
        atoms.get_forces()
        self._folder.write(CONFIG, to_yaml(config.resolved()))
        self._folder.write(INPUT, frame(atoms, Moment(0, 1, 0.0), {}))
        if config.minimize and config.minimize_steps > 0:
            done = minimize(atoms, config, self._watch_minimization)
            self._state.notes["minimization"] = done
            self._say_minimized(done)
        if config.hydrogen_mass is not None:
            self._say(f"hydrogen mass: {config.hydrogen_mass:g} amu")
        set_momenta(atoms, config, self._rng)
        self._make_engine(atoms, {})
        self._engine.begin(config.plan[0].ensemble, 0, {})
        self._reporter.begin(self._moment(0), self._engine.sample(), self._engine)

    def _begin_stage(self, ensemble: str) -> None:
        self._engine.begin(ensemble, self._state.step, self._state.integrator)

    def _advance(self, stage: int, n_left: int) -> None:
        state, config, engine = self._state, self._config, self._engine
        intervals = [config.trajectory_interval, config.checkpoint_interval, CONTACT_INTERVAL]
        intervals += [watch.interval for watch in self._watches]
        try:
            for sample in engine.advance(self._steps_until_due(n_left, *intervals)):
                state.step += 1
                state.stage_step += 1
                if not sample.harmless:
                    look_closer(sample, engine.atoms, engine.results, config)
                elif state.step % CONTACT_INTERVAL == 0:
                    check_contacts(engine.atoms, config.min_distance)
                self._look(stage)
                self._reporter.record(self._moment(stage), sample, engine)
        except WriteError:
            raise
        except HFFError as error:
            self._folder.write(FAILED, frame(engine.atoms, self._moment(stage), {}))
            self._report("failed")
            raise SimulationError(
                f"run stopped after step {state.step}: {error}{self._asides(engine.atoms)}; "
                f"frame saved in {self._folder[FAILED]}"
            ) from error
        density = self._mass / sample.volume / GRAM_PER_CM3
        ensemble = config.plan[stage].ensemble
        self._screen.running(state.step, ensemble, sample.temperature, density)

    def _look(self, stage: int) -> None:
        """Let the watches look at the atoms that are due to.

        Raises:
            SimulationError: one of them stops the run.
        """
        moment, engine = self._moment(stage), self._engine
        for found in findings(
            self._watches, moment, lambda: [Seen(0, engine.atoms, engine.results)]
        ):
            if found.stops:
                raise SimulationError(found.text)
            self._say(f"{'warning: ' if found.warning else ''}step {moment.step}: {found.text}")

    def _asides(self, atoms: Atoms) -> str:
        """What the watches have to say beside another reason to stop."""
        told = [text for watch in self._watches if (text := watch.aside(atoms))]
        return "".join(f" ({text})" for text in told)

    def _energy(self) -> tuple[float, int]:
        return float(self._engine.results["energy"]), len(self._engine.atoms)

    def _collect_state(self) -> None:
        state, engine = self._state, self._engine
        state.lengths = self._reporter.sync()
        for watch in self._watches:
            state.lengths |= watch.sync()
        state.rng = dict(self._rng.bit_generator.state)
        state.atoms = pack_atoms(engine.atoms)
        state.calculator = engine.get_surroundings()

    def _departures(self, index: int) -> list[str]:
        self._reporter.flush()
        rows = read_statistics(self._folder[STATISTICS])
        return departures(rows, index + 1, self._config, self._engine.atoms)

    def _finish(self) -> dict[str, Any]:
        moment, engine = self._moment(len(self._config.plan) - 1), self._engine
        self._folder.write(FINAL, frame(engine.atoms, moment, engine.results, True))
        summary = self._tell("finished")
        speed = summary["speed[ns/day]"]
        self._state.phase = "finished"
        self._collect_state()  # with the integrator of the last stage's end
        self._save()
        self._say(f"finished: {self._state.step} steps, {speed:.3g} ns/day")
        return summary

    def _tell(self, status: str) -> dict[str, Any]:
        atoms = self._engine.atoms
        self._reporter.flush()
        statistics = read_statistics(self._folder[STATISTICS])
        speed = self._speed()
        summary = summarize(atoms, self._config, self._state, statistics, speed, status)
        for watch in self._watches:
            summary |= watch.summary()
        summary |= self._far_from_asked()
        self._folder.write(SUMMARY, to_yaml(summary))
        if self._config.plot:
            try:
                plot(self._folder[PLOT], statistics, len(atoms), self._config)
            except OSError as error:
                raise WriteError(f"cannot write {self._folder[PLOT]}: {error.strerror}") from error
        return summary

    def _close(self) -> None:
        self._reporter.close()
        for watch in self._watches:
            watch.close()
