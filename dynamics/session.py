"""One sitting of a run: from a checkpoint to the end, or to wherever it is killed."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from ase import Atoms

from hff_ase.dynamics.checkpointing import Checkpoint, WriteError, save_checkpoint
from hff_ase.dynamics.config import MDConfig, to_yaml
from hff_ase.dynamics.guards import Guard
from hff_ase.dynamics.integrators import Integrator, random_momenta
from hff_ase.dynamics.minimize import minimize
from hff_ase.dynamics.progress import Screen
from hff_ase.dynamics.reporting import (
    Moment,
    columns,
    format_row,
    frame,
    header,
    ns_per_day,
    plot,
    read_statistics,
    row,
)
from hff_ase.dynamics.rundir import (
    CHECKPOINT,
    CONFIG,
    FAILED,
    FINAL,
    INPUT,
    PLOT,
    STATISTICS,
    SUMMARY,
    TRAJECTORY,
    GrowingFile,
    RunFolder,
)
from hff_ase.dynamics.stopping import StopRequest
from hff_ase.dynamics.summary import environment, summarize
from hff_ase.errors import HFFError, HFFWarning, SimulationError, StoppedError

SECONDS_BETWEEN_CHECKPOINTS = 60.0
SAME_MODEL = 1e-3  # eV per atom: a larger difference of recomputed energies is another model


def pack_atoms(atoms: Atoms) -> dict[str, np.ndarray]:
    """Everything about a structure that a run keeps, as arrays: exact, unlike a text file."""
    packed = {
        f"arrays/{name}": array.copy()
        for name, array in atoms.arrays.items()
        if array.dtype.kind in "iufb"
    }
    packed["cell"], packed["pbc"] = np.array(atoms.cell), atoms.pbc.copy()
    if "charge" in atoms.info:
        packed["charge"] = np.array(atoms.info["charge"])
    return packed


def unpack_atoms(packed: dict[str, np.ndarray]) -> Atoms:
    """The structure that `pack_atoms` took apart."""
    atoms = Atoms(packed["arrays/numbers"], cell=packed["cell"], pbc=packed["pbc"])
    for name, array in packed.items():
        if name.startswith("arrays/"):
            atoms.set_array(name.removeprefix("arrays/"), array.copy())
    if "charge" in packed:
        atoms.info["charge"] = packed["charge"].item()
    return atoms


def calculator_state(calc: Any) -> dict[str, np.ndarray]:
    """What the calculator needs to give the same bits again (its neighbour list)."""
    return calc.get_state() if hasattr(calc, "get_state") else {}


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
    ) -> None:
        self._folder = folder
        self._state = checkpoint
        self._config = config
        self._calc = calc
        self._screen = screen
        self._stop = stop
        self._atoms = unpack_atoms(checkpoint.atoms)
        self._atoms.calc = calc
        if checkpoint.calculator:
            calc.set_state(checkpoint.calculator)
        self._rng = np.random.default_rng()
        self._rng.bit_generator.state = checkpoint.rng
        lengths = checkpoint.lengths
        self._statistics = GrowingFile(folder[STATISTICS], lengths.get(STATISTICS, 0))
        self._trajectory = GrowingFile(folder[TRAJECTORY], lengths.get(TRAJECTORY, 0))
        self._seconds_before = float(checkpoint.notes.get("seconds", 0.0))
        self._first_step = checkpoint.step
        self._started = self._saved = time.perf_counter()

    def run(self) -> dict[str, Any]:
        """Go on to the end; the summary of the whole run.

        Raises:
            SimulationError: the run blew up, was asked to stop, or cannot write its files.
        """
        try:
            self._atoms.get_forces()
            if self._state.phase == "start":
                self._prepare()
            else:
                self._check_resumed()
            self._screen.begin(self._state.step)
            self._started = time.perf_counter()
            for index in range(self._state.stage, len(self._config.plan)):
                self._run_stage(index)
            return self._finish()
        finally:
            self._statistics.close()
            self._trajectory.close()

    def _prepare(self) -> None:
        """Everything before the first step; killed in here, it is done again from the start."""
        atoms, config = self._atoms, self._config
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
        momenta = atoms.get_momenta()
        if config.velocities == "random":
            momenta = random_momenta(atoms, config.temperature, self._rng)
        masses = atoms.get_masses()[:, None]
        atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())
        atoms.get_forces()
        terms = list(self._calc.results.get("energy_terms", {}))
        self._statistics.write(header(columns(atoms, terms)))
        first = Integrator(config.plan[0].ensemble, atoms, config, self._rng)
        self._record(0, first, everything=True)
        self._state.phase = "dynamics"
        self._checkpoint(None)

    def _watch_minimization(self, step: int, energy: float, force: float) -> None:
        self._screen.minimizing(step, energy, force)
        if self._stop.signal_name is not None:
            raise StoppedError(
                f"stopped by {self._stop.signal_name} while minimising; start again with "
                f"hff md --resume {self._folder.path}",
                self._stop.signal_name,
            )

    def _check_resumed(self) -> None:
        """Warn where this machine or model may not give the bits of the one before."""
        state = self._state
        before, now = state.environment, environment()
        for key in now:
            if key in before and now[key] != before[key]:
                self._warn(f"{key} was {before[key]}, is {now[key]}")
        energy = float(self._calc.results["energy"])
        if state.energy is not None and energy != state.energy:
            difference = abs(energy - state.energy)
            if not difference <= SAME_MODEL * len(self._atoms):
                raise SimulationError(
                    f"expected the energy of the checkpoint, {state.energy:.6f} eV, got "
                    f"{energy:.6f} eV: another model or other settings of it"
                )
            self._warn(f"the energy at the checkpoint differs by {difference:.2g} eV")
        self._state.environment = now
        self._say(f"resumed at step {state.step} in stage {state.stage + 1}")

    def _run_stage(self, index: int) -> None:
        stage, state = self._config.plan[index], self._state
        integrator = Integrator(stage.ensemble, self._atoms, self._config, self._rng)
        if state.integrator:
            integrator.set_state(state.integrator)
        guard = Guard(self._atoms, self._config)
        self._folder.log(f"stage {index + 1}: {stage.ensemble}, {stage.n_steps} steps")
        while state.stage_step < stage.n_steps:
            self._advance(integrator, guard)
            self._record(index, integrator)
            self._screen.running(state.step, stage.ensemble, self._atoms)
            if self._stop.signal_name is not None:
                self._checkpoint(integrator)
                raise StoppedError(
                    f"stopped by {self._stop.signal_name} at step {state.step}; continue with "
                    f"hff md --resume {self._folder.path}",
                    self._stop.signal_name,
                )
            due = state.step % self._config.checkpoint_interval == 0
            if due or time.perf_counter() - self._saved > SECONDS_BETWEEN_CHECKPOINTS:
                self._checkpoint(integrator)
        state.stage, state.stage_step = index + 1, 0
        self._checkpoint(None)

    def _advance(self, integrator: Integrator, guard: Guard) -> None:
        state = self._state
        try:
            integrator.step()
            state.step += 1
            state.stage_step += 1
            results = self._calc.results
            guard.check(state.step, float(results["energy"]), results["forces"])
        except HFFError as error:
            self._folder.write(FAILED, frame(self._atoms, self._moment(state.stage), {}))
            raise SimulationError(
                f"run stopped after step {state.step}: {error}; frame saved in "
                f"{self._folder[FAILED]}"
            ) from error

    def _moment(self, stage: int) -> Moment:
        step = self._state.step
        return Moment(step, stage + 1, round(step * self._config.timestep * 1e-3, 9))

    def _record(self, stage: int, integrator: Integrator, everything: bool = False) -> None:
        step, results = self._state.step, self._calc.results
        moment = self._moment(stage)
        if everything or step % self._config.statistics_interval == 0:
            kinetic = float(self._atoms.get_kinetic_energy())
            conserved = integrator.conserved_energy(float(results["energy"]), kinetic)
            self._statistics.write(format_row(row(self._atoms, moment, conserved, results)))
        if everything or step % self._config.trajectory_interval == 0:
            with_forces = self._config.trajectory_forces
            self._trajectory.write(frame(self._atoms, moment, results, with_forces))

    def _checkpoint(self, integrator: Integrator | None) -> None:
        state = self._state
        lengths = {STATISTICS: self._statistics.sync(), TRAJECTORY: self._trajectory.sync()}
        seconds = self._seconds_before + time.perf_counter() - self._started
        state.lengths = lengths
        state.rng = dict(self._rng.bit_generator.state)
        state.energy = float(self._calc.results["energy"])
        state.notes["seconds"] = seconds
        state.atoms = pack_atoms(self._atoms)
        state.integrator = {} if integrator is None else integrator.get_state()
        state.calculator = calculator_state(self._calc)
        save_checkpoint(self._folder[CHECKPOINT], state)
        self._saved = time.perf_counter()

    def _finish(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._started
        speed = ns_per_day(self._state.step - self._first_step, self._config.timestep, seconds)
        moment = self._moment(len(self._config.plan) - 1)
        self._folder.write(FINAL, frame(self._atoms, moment, self._calc.results, True))
        statistics = read_statistics(self._folder[STATISTICS])
        summary = summarize(self._atoms, self._config, self._state, statistics, speed)
        self._folder.write(SUMMARY, to_yaml(summary))
        if self._config.plot:
            try:
                plot(self._folder[PLOT], statistics, len(self._atoms))
            except OSError as error:
                raise WriteError(f"cannot write {self._folder[PLOT]}: {error.strerror}") from error
        self._state.phase = "finished"
        self._checkpoint(None)
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
