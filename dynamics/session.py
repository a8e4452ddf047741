"""One sitting of a run: from a checkpoint to the end, or to wherever it is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from hff_ase.dynamics.bond_watch import BondWatch
from hff_ase.dynamics.checkpointing import (
    Checkpoint,
    WriteError,
    pack_atoms,
    unpack_atoms,
)
from hff_ase.dynamics.collecting import Watch
from hff_ase.dynamics.config import MDConfig, to_yaml
from hff_ase.dynamics.guards import CONTACT_INTERVAL, check_bonds, check_contacts, look_closer
from hff_ase.dynamics.integrators import random_momenta
from hff_ase.dynamics.minimize import minimize
from hff_ase.dynamics.movers import Mover, make_mover
from hff_ase.dynamics.outputs import Outputs
from hff_ase.dynamics.plotting import plot
from hff_ase.dynamics.progress import Screen
from hff_ase.dynamics.reporting import Moment, frame, read_input, read_statistics
from hff_ase.dynamics.rundir import (
    CONFIG,
    FAILED,
    FINAL,
    INPUT,
    PLOT,
    STATISTICS,
    SUMMARY,
    RunFolder,
)
from hff_ase.dynamics.sitting import Sitting
from hff_ase.dynamics.stopping import StopRequest
from hff_ase.dynamics.summary import summarize
from hff_ase.errors import HFFError, SimulationError
from hff_ase.units import GRAM_PER_CM3

if TYPE_CHECKING:  # torch is imported only where the calculator uses it
    from hff_ase.calculators.committee import Committee


MOST_BONDS = 100  # events that a summary holds


class Session(Sitting):
    """Carries the run of one structure on."""

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
        self._mover: Mover | None = None
        self._mass = float(unpack_atoms(checkpoint.atoms).get_masses().sum())
        self._rng = np.random.default_rng()
        self._rng.bit_generator.state = checkpoint.rng
        self._outputs = Outputs(folder, config, checkpoint.lengths, self._mass)
        self._watch = Watch(committee, config, folder, checkpoint) if committee else None
        self._bonds: BondWatch | None = None

    @property
    def _moving(self) -> Mover:
        if self._mover is None:
            raise RuntimeError("expected a mover, got none yet")
        return self._mover

    def _unpack(self) -> Atoms:
        atoms = unpack_atoms(self._state.atoms)
        atoms.calc = self._calc
        return atoms

    def _make_mover(self, atoms: Atoms, surroundings: dict[str, np.ndarray]) -> None:
        self._mover = make_mover(atoms, self._config, self._calc, self._rng, surroundings)

    def _watch_bonds(self, start: Atoms) -> None:
        self._bonds = None if self._config.bond_watch == "off" else BondWatch(start)

    def _take_up(self) -> None:
        self._watch_bonds(read_input(self._folder[INPUT]) or self._unpack())
        self._make_mover(self._unpack(), self._state.calculator)

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
        momenta = atoms.get_momenta()
        if config.velocities == "random":
            momenta = random_momenta(atoms, config.temperature, self._rng)
        masses = atoms.get_masses()[:, None]
        atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())
        self._make_mover(atoms, {})
        self._moving.begin(config.plan[0].ensemble, 0, {})
        self._outputs.begin(self._moment(0), self._moving.sample(), self._moving)

    def _begin_stage(self, ensemble: str) -> None:
        self._moving.begin(ensemble, self._state.step, self._state.integrator)

    def _advance(self, stage: int, n_left: int) -> None:
        state, config, mover = self._state, self._config, self._moving
        intervals = [config.trajectory_interval, config.checkpoint_interval, CONTACT_INTERVAL]
        if self._watch:
            intervals.append(config.look_interval)
        try:
            for sample in mover.advance(self._steps_until_due(n_left, *intervals)):
                state.step += 1
                state.stage_step += 1
                if not sample.harmless:
                    look_closer(sample, mover.atoms, mover.results, config)
                elif state.step % CONTACT_INTERVAL == 0:
                    check_contacts(mover.atoms, config.min_distance)
                    self._look_at_bonds(mover.atoms)
                if self._watch and state.step % config.look_interval == 0:
                    self._watch.look(self._moment(stage), mover.atoms, mover.results)
                self._outputs.record(self._moment(stage), sample, mover)
        except WriteError:
            raise
        except HFFError as error:
            self._folder.write(FAILED, frame(mover.atoms, self._moment(stage), {}))
            self._report("failed")
            raise SimulationError(
                f"run stopped after step {state.step}: {error}{self._broken(mover.atoms)}; "
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

    def _broken(self, atoms: Atoms) -> str:
        """Beside another reason to stop: which molecule it began with, if bonds say so."""
        events = self._bonds.look(atoms) if self._bonds is not None else []
        return f" ({events[0].text})" if events else ""

    def _energy(self) -> tuple[float, int]:
        return float(self._moving.results["energy"]), len(self._moving.atoms)

    def _collect_state(self) -> None:
        state, mover = self._state, self._moving
        state.lengths = self._outputs.sync()
        if self._watch:
            state.lengths |= self._watch.sync()
        state.rng = dict(self._rng.bit_generator.state)
        state.atoms = pack_atoms(mover.atoms)
        state.calculator = mover.get_surroundings()

    def _finish(self) -> dict[str, Any]:
        moment, mover = self._moment(len(self._config.plan) - 1), self._moving
        self._folder.write(FINAL, frame(mover.atoms, moment, mover.results, True))
        summary = self._tell("finished")
        speed = summary["speed[ns/day]"]
        self._state.phase = "finished"
        self._collect_state()  # with the integrator of the last stage's end
        self._save()
        self._say(f"finished: {self._state.step} steps, {speed:.3g} ns/day")
        return summary

    def _tell(self, status: str) -> dict[str, Any]:
        atoms = self._moving.atoms
        self._outputs.flush()
        statistics = read_statistics(self._folder[STATISTICS])
        speed = self._speed()
        summary = summarize(atoms, self._config, self._state, statistics, speed, status)
        if "bonds" in self._state.notes:
            summary["bonds"] = self._state.notes["bonds"]
        if self._watch:
            summary["collected"] = self._watch.n_collected
        self._folder.write(SUMMARY, to_yaml(summary))
        if self._config.plot:
            try:
                plot(self._folder[PLOT], statistics, len(atoms), self._config)
            except OSError as error:
                raise WriteError(f"cannot write {self._folder[PLOT]}: {error.strerror}") from error
        return summary

    def _close(self) -> None:
        self._outputs.close()
        if self._watch:
            self._watch.close()
