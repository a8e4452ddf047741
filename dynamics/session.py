"""One sitting of a run: from a checkpoint to the end, or to wherever it is killed."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from hff_ase.dynamics.checkpointing import (
    Checkpoint,
    WriteError,
    pack_atoms,
    save_checkpoint,
    unpack_atoms,
)
from hff_ase.dynamics.collecting import Watch
from hff_ase.dynamics.config import MDConfig, to_yaml
from hff_ase.dynamics.guards import CONTACT_INTERVAL, check_contacts, look_closer
from hff_ase.dynamics.integrators import random_momenta
from hff_ase.dynamics.minimize import minimize
from hff_ase.dynamics.movers import Mover, Sample, make_mover
from hff_ase.dynamics.outputs import Outputs
from hff_ase.dynamics.progress import Screen
from hff_ase.dynamics.reporting import Moment, frame, ns_per_day, plot, read_statistics
from hff_ase.dynamics.rundir import (
    CHECKPOINT,
    CONFIG,
    FAILED,
    FINAL,
    INPUT,
    PLOT,
    STATISTICS,
    SUMMARY,
    RunFolder,
)
from hff_ase.dynamics.stopping import StopRequest
from hff_ase.dynamics.summary import environment, summarize
from hff_ase.errors import HFFError, HFFWarning, SimulationError
from hff_ase.units import GRAM_PER_CM3

if TYPE_CHECKING:  # torch is imported only where the calculator uses it
    from hff_ase.calculators.committee import Committee

SECONDS_BETWEEN_CHECKPOINTS = 60.0
SAME_MODEL = 1e-3  # eV per atom: a larger difference of recomputed energies is another model


class Session:
    """Carries a run on from its checkpoint; the folder must be locked."""

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
        self._folder = folder
        self._state = checkpoint
        self._config = config
        self._calc = calc
        self._screen = screen
        self._stop = stop
        self._mover: Mover | None = None
        self._mass = float(unpack_atoms(checkpoint.atoms).get_masses().sum())
        self._rng = np.random.default_rng()
        self._rng.bit_generator.state = checkpoint.rng
        self._outputs = Outputs(folder, config, checkpoint.lengths, self._mass)
        self._watch = Watch(committee, config, folder, checkpoint) if committee else None
        self._seconds_before = float(checkpoint.notes.get("seconds", 0.0))
        self._first_step = checkpoint.step
        self._started = self._saved = time.perf_counter()

    def run(self) -> dict[str, Any]:
        """Go on to the end; the summary of the whole run.

        Raises:
            SimulationError: the run blew up, was asked to stop, or cannot write its files.
        """
        try:
            if self._state.phase == "start":
                self._prepare()
            else:
                atoms = self._unpack()
                self._make_mover(atoms, self._state.calculator)
                self._check_resumed()
            self._screen.begin(self._state.step)
            self._started = time.perf_counter()
            for index in range(self._state.stage, len(self._config.plan)):
                self._run_stage(index)
            return self._finish()
        finally:
            self._outputs.close()
            if self._watch:
                self._watch.close()

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

    def _prepare(self) -> None:
        """Everything before the first step; killed in here, it is done again from the start."""
        config, atoms = self._config, self._unpack()
        if self._state.calculator:
            self._calc.set_state(self._state.calculator)
        atoms.get_forces()
        self._folder.write(CONFIG, to_yaml(config.resolved()))
        self._folder.write(INPUT, frame(atoms, Moment(0, 1, 0.0), {}))
        if config.minimize and config.minimize_steps > 0:
            done = minimize(atoms, config, self._watch_minimization)
            self._state.notes["minimization"] = done
            self._say(
                f"minimised in {done['steps']} steps: energy {done['energy_before_eV']:.4f} to "
                f"{done['energy_after_eV']:.4f} eV, largest force "
                f"{done['largest_force_eV_per_A']:.3f} eV/A"
            )
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
        self._state.phase = "dynamics"
        self._checkpoint(stage_begun=False)

    def _watch_minimization(self, step: int, energy: float, force: float) -> None:
        self._screen.minimizing(step, energy, force)
        if self._stop.signal_name is not None:
            raise self._stop.error(
                f"while minimising; start again with hff md --resume {self._folder.path}"
            )

    def _check_resumed(self) -> None:
        """Warn where this machine or model may not give the bits of the one before."""
        state = self._state
        before, now = state.environment, environment()
        for key in now:
            if key in before and now[key] != before[key]:
                self._warn(f"{key} was {before[key]}, is {now[key]}")
        energy = float(self._moving.results["energy"])
        if state.energy is not None and energy != state.energy:
            difference = abs(energy - state.energy)
            if not difference <= SAME_MODEL * len(self._moving.atoms):
                raise SimulationError(
                    f"expected the energy of the checkpoint, {state.energy:.6f} eV, got "
                    f"{energy:.6f} eV: another model or other settings of it"
                )
            self._warn(f"the energy at the checkpoint differs by {difference:.2g} eV")
        self._state.environment = now
        self._say(f"resumed at step {state.step} in stage {state.stage + 1}")

    def _run_stage(self, index: int) -> None:
        stage, state = self._config.plan[index], self._state
        self._moving.begin(stage.ensemble, state.step, state.integrator)
        self._folder.log(f"stage {index + 1}: {stage.ensemble}, {stage.n_steps} steps")
        while state.stage_step < stage.n_steps:
            sample = self._advance(index, stage.n_steps - state.stage_step)
            density = self._mass / sample.volume / GRAM_PER_CM3
            self._screen.running(state.step, stage.ensemble, sample.temperature, density)
            if self._stop.signal_name is not None:
                self._checkpoint()
                raise self._stop.error(
                    f"at step {state.step}; continue with hff md --resume {self._folder.path}"
                )
            due = state.step % self._config.checkpoint_interval == 0
            if due or time.perf_counter() - self._saved > SECONDS_BETWEEN_CHECKPOINTS:
                self._checkpoint()
        state.stage, state.stage_step = index + 1, 0
        self._checkpoint(stage_begun=False)

    def _advance(self, stage: int, n_left: int) -> Sample:
        """Take some steps and write down what is due; what is known of the last."""
        state, config, mover = self._state, self._config, self._moving
        # nobody needs the atoms between these
        intervals = [config.trajectory_interval, config.checkpoint_interval, CONTACT_INTERVAL]
        if self._watch:
            intervals.append(config.look_interval)
        n_steps = min(n_left, *(every - state.step % every for every in intervals))
        try:
            for sample in mover.advance(n_steps):
                state.step += 1
                state.stage_step += 1
                if not sample.harmless:
                    look_closer(sample, mover.atoms, mover.results, config)
                elif state.step % CONTACT_INTERVAL == 0:
                    check_contacts(mover.atoms, config.min_distance)
                if self._watch and state.step % config.look_interval == 0:
                    self._watch.look(self._moment(stage), mover.atoms, mover.results)
                self._outputs.record(self._moment(stage), sample, mover)
        except WriteError:
            raise
        except HFFError as error:
            self._folder.write(FAILED, frame(mover.atoms, self._moment(stage), {}))
            raise SimulationError(
                f"run stopped after step {state.step}: {error}; frame saved in "
                f"{self._folder[FAILED]}"
            ) from error
        return sample

    def _moment(self, stage: int) -> Moment:
        step = self._state.step
        return Moment(step, stage + 1, round(step * self._config.timestep * 1e-3, 9))

    def _checkpoint(self, stage_begun: bool = True) -> None:
        state, mover = self._state, self._moving
        lengths = self._outputs.sync()
        if self._watch:
            lengths |= self._watch.sync()
        seconds = self._seconds_before + time.perf_counter() - self._started
        state.lengths = lengths
        state.rng = dict(self._rng.bit_generator.state)
        state.energy = float(mover.results["energy"])
        state.notes["seconds"] = seconds
        state.atoms = pack_atoms(mover.atoms)
        state.integrator = mover.get_state() if stage_begun else {}
        state.calculator = mover.get_surroundings()
        save_checkpoint(self._folder[CHECKPOINT], state)
        self._saved = time.perf_counter()

    def _finish(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._started
        speed = ns_per_day(self._state.step - self._first_step, self._config.timestep, seconds)
        moment, mover = self._moment(len(self._config.plan) - 1), self._moving
        self._folder.write(FINAL, frame(mover.atoms, moment, mover.results, True))
        statistics = read_statistics(self._folder[STATISTICS])
        summary = summarize(mover.atoms, self._config, self._state, statistics, speed)
        if self._watch:
            summary["collected"] = self._watch.n_collected
        self._folder.write(SUMMARY, to_yaml(summary))
        if self._config.plot:
            try:
                plot(self._folder[PLOT], statistics, len(mover.atoms))
            except OSError as error:
                raise WriteError(f"cannot write {self._folder[PLOT]}: {error.strerror}") from error
        self._state.phase = "finished"
        self._checkpoint(stage_begun=False)
        self._say(f"finished: {self._state.step} steps, {speed:.3g} ns/day")
        return summary

    def _say(self, message: str) -> None:
        self._folder.log(message)
        self._screen.say(message)

    def _warn(self, message: str) -> None:
        self._folder.log(f"warning: {message}")
        warnings.warn(
            f"{message}; the resumed run may differ in the last bits", HFFWarning, stacklevel=4
        )
