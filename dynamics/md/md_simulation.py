"""The simulation of one structure: its files, and what watches over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.engine.interface import Engine, make_engine
from hff_ase.dynamics.engine.momenta import set_momenta
from hff_ase.dynamics.guards.bond_watch import BondWatch
from hff_ase.dynamics.guards.checks import (
    CONTACT_INTERVAL,
    check_bonds,
    check_contacts,
    look_closer,
)
from hff_ase.dynamics.guards.uncertainty_watch import Looked, UncertaintyWatch
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
from hff_ase.dynamics.simulation.simulation import Simulation
from hff_ase.dynamics.simulation.stopping import StopRequest
from hff_ase.dynamics.simulation.summary import summarize
from hff_ase.dynamics.start.minimize import minimize
from hff_ase.errors import HFFError, SimulationError
from hff_ase.settings import to_yaml
from hff_ase.units import GRAM_PER_CM3

if TYPE_CHECKING:  # torch is imported only where the calculator uses it
    from hff_ase.calculators.committee import Committee


MOST_BONDS = 100  # events that a summary holds


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
        self._watch = CommitteeWatch(committee, config, folder, checkpoint) if committee else None
        self._bonds: BondWatch | None = None
        self._uncertainty: UncertaintyWatch | None = None

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
        if self._watch is None:  # a committee that the user chose says more
            every = self._config.uncertainty_interval
            self._uncertainty = UncertaintyWatch.of(self._calc, every, self._folder, self._state)

    def _watch_bonds(self, start: Atoms) -> None:
        self._bonds = None if self._config.bond_watch == "off" else BondWatch(start)

    def _resume(self) -> None:
        self._watch_bonds(read_input(self._folder[INPUT]) or self._unpack())
        self._make_engine(self._unpack(), self._state.calculator)

    def _prepare(self) -> None:
        config, atoms = self._config, self._unpack()
        self._watch_bonds(atoms)
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
        if self._watch:
            intervals.append(config.look_interval)
        if self._uncertainty:
            intervals.append(self._uncertainty.interval)
        try:
            for sample in engine.advance(self._steps_until_due(n_left, *intervals)):
                state.step += 1
                state.stage_step += 1
                if not sample.harmless:
                    look_closer(sample, engine.atoms, engine.results, config)
                elif state.step % CONTACT_INTERVAL == 0:
                    check_contacts(engine.atoms, config.min_distance)
                    self._look_at_bonds(engine.atoms)
                if self._watch and state.step % config.look_interval == 0:
                    self._watch.look(self._moment(stage), engine.atoms, engine.results)
                if self._uncertainty:
                    here = Looked(0, engine.atoms, np.asarray(engine.results["forces"]))
                    self._tell_all(self._uncertainty.look(self._moment(stage), [here]))
                self._reporter.record(self._moment(stage), sample, engine)
        except WriteError:
            raise
        except HFFError as error:
            self._folder.write(FAILED, frame(engine.atoms, self._moment(stage), {}))
            self._report("failed")
            raise SimulationError(
                f"run stopped after step {state.step}: {error}{self._broken(engine.atoms)}; "
                f"frame saved in {self._folder[FAILED]}"
            ) from error
        density = self._mass / sample.volume / GRAM_PER_CM3
        ensemble = config.plan[stage].ensemble
        self._screen.running(state.step, ensemble, sample.temperature, density)

    def _look_at_bonds(self, atoms: Atoms) -> None:
        """Stop, or tell what happened, by the settings."""
        if self._bonds is None:
            return
        told = check_bonds(self._bonds, atoms, self._config)
        events = self._state.notes.setdefault("bonds", []) if told else []
        for text in told:
            self._say(f"step {self._state.step}: {text}")
            if len(events) < MOST_BONDS:
                events.append({"step": self._state.step, "event": text})

    def _tell_all(self, messages: list[str]) -> None:
        for message in messages:
            self._say(f"warning: {message}")

    def _broken(self, atoms: Atoms) -> str:
        """Beside another reason to stop: which molecule it began with, if bonds say so."""
        events = self._bonds.look(atoms) if self._bonds is not None else []
        return f" ({events[0].text})" if events else ""

    def _energy(self) -> tuple[float, int]:
        return float(self._engine.results["energy"]), len(self._engine.atoms)

    def _collect_state(self) -> None:
        state, engine = self._state, self._engine
        state.lengths = self._reporter.sync()
        for watch in (self._watch, self._uncertainty):
            if watch:
                state.lengths |= watch.sync()
        state.rng = dict(self._rng.bit_generator.state)
        state.atoms = pack_atoms(engine.atoms)
        state.calculator = engine.get_surroundings()

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
        if "bonds" in self._state.notes:
            summary["bonds"] = self._state.notes["bonds"]
        if self._watch:
            summary["collected"] = self._watch.n_collected
        if self._uncertainty and (found := self._uncertainty.summary()):
            summary["uncertainty"] = found
        self._folder.write(SUMMARY, to_yaml(summary))
        if self._config.plot:
            try:
                plot(self._folder[PLOT], statistics, len(atoms), self._config)
            except OSError as error:
                raise WriteError(f"cannot write {self._folder[PLOT]}: {error.strerror}") from error
        return summary

    def _close(self) -> None:
        self._reporter.close()
        for watch in (self._watch, self._uncertainty):
            if watch:
                watch.close()
