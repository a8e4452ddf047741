"""One sitting of a run of replicas: from a checkpoint to the end, or to wherever it is killed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hff_ase.dynamics.checkpointing import Checkpoint, save_checkpoint
from hff_ase.dynamics.config import to_yaml
from hff_ase.dynamics.guards import CONTACT_INTERVAL
from hff_ase.dynamics.progress import Screen
from hff_ase.dynamics.replicas.beginning import deal, relax
from hff_ase.dynamics.replicas.config import ReplicaConfig
from hff_ase.dynamics.replicas.failures import blowing_up, write_down
from hff_ase.dynamics.replicas.files import (
    ReplicaOutputs,
    allow_open_files,
    replica_folder,
)
from hff_ase.dynamics.replicas.keeping import (
    pack_places,
    pack_structures,
    unpack_replicas,
    unpack_structures,
)
from hff_ase.dynamics.replicas.mover import Replica, ReplicaMover
from hff_ase.dynamics.replicas.summary import replica_summary, run_summary, table
from hff_ase.dynamics.reporting import Moment, frame, ns_per_day
from hff_ase.dynamics.rundir import CHECKPOINT, CONFIG, FINAL, INPUT, SUMMARY, RunFolder
from hff_ase.dynamics.session import SAME_MODEL, SECONDS_BETWEEN_CHECKPOINTS
from hff_ase.dynamics.stopping import StopRequest
from hff_ase.dynamics.summary import environment
from hff_ase.errors import HFFError, HFFWarning, SimulationError


class ReplicaSession:
    """Carries a run on from its checkpoint; the folder must be locked."""

    def __init__(
        self,
        folder: RunFolder,
        config: ReplicaConfig,
        checkpoint: Checkpoint,
        calc: Any,
        screen: Screen,
        stop: StopRequest,
    ) -> None:
        self._folder, self._config, self._shared = folder, config, config.shared
        self._state = checkpoint
        self._calc, self._screen, self._stop = calc, screen, stop
        self._mover: ReplicaMover | None = None
        self._structures = unpack_structures(checkpoint, config)
        self._outputs: dict[int, ReplicaOutputs] = {}
        self._seconds_before = float(checkpoint.notes.get("seconds", 0.0))
        self._first_step = checkpoint.step
        self._started = self._saved = time.perf_counter()

    def run(self) -> dict[str, Any]:
        """Go on to the end; the summary of the whole run.

        Raises:
            SimulationError: every replica blew up, the run was asked to stop, or cannot write its
                files.
        """
        allow_open_files(self._config.n_replicas)
        try:
            if self._state.phase == "start":
                self._prepare()
            else:
                replicas = unpack_replicas(self._state, self._config)
                self._mover = ReplicaMover(replicas, self._calc, self._state.calculator)
                self._open(replicas)
                self._check_resumed()
            self._screen.begin(self._state.step)
            self._started = time.perf_counter()
            for index in range(self._state.stage, len(self._shared.plan)):
                self._run_stage(index)
            return self._finish()
        finally:
            for outputs in self._outputs.values():
                outputs.close()

    @property
    def _moving(self) -> ReplicaMover:
        if self._mover is None:
            raise RuntimeError("expected a mover, got none yet")
        return self._mover

    def _open(self, replicas: list[Replica]) -> None:
        for replica in replicas:
            outputs = ReplicaOutputs(self._folder, replica, self._state.lengths)
            self._outputs[replica.index] = outputs

    def _prepare(self) -> None:
        """Everything before the first step; killed in here, it is done again from the start."""
        config = self._config
        self._folder.write(CONFIG, to_yaml(config.resolved()))
        self._say(
            f"{config.n_replicas} replicas; structures x temperatures x pressures: "
            f"{len(config.structures)} x {len(config.temperatures)} x {len(config.pressures)}"
        )
        if self._shared.minimize and self._shared.minimize_steps > 0:
            done = relax(self._structures, config, self._calc, self._watch_minimization)
            self._state.notes["minimization"] = done
            for number, one in enumerate(done):
                self._say(
                    f"structure {number + 1} minimised in {one['steps']} steps: energy "
                    f"{one['energy_before_eV']:.4f} to {one['energy_after_eV']:.4f} eV, largest "
                    f"force {one['largest_force_eV_per_A']:.3f} eV/A"
                )
        replicas = deal(self._structures, config)
        mover = self._mover = ReplicaMover(replicas, self._calc)
        mover.begin(self._shared.plan[0].ensemble, 0, {})
        self._open(replicas)
        row = mover.here()
        for place, replica in enumerate(replicas):
            view = mover.look_at(place)
            start = frame(view.atoms, Moment(0, 1, 0.0), view.results)
            replica_folder(self._folder, replica.index).write(INPUT, start)
            outputs = self._outputs[replica.index]
            outputs.begin(self._moment(0), mover.sample(row, place), view)
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
        state, mover = self._state, self._moving
        before, now = state.environment, environment()
        for key in now:
            if key in before and now[key] != before[key]:
                self._warn(f"{key} was {before[key]}, is {now[key]}")
        energy = mover.energy()
        if state.energy is not None and energy != state.energy:
            difference = abs(energy - state.energy)
            n_atoms = sum(len(replica.atoms) for replica in mover.replicas)
            if not difference <= SAME_MODEL * n_atoms:
                raise SimulationError(
                    f"expected the energy of the checkpoint, {state.energy:.6f} eV, got "
                    f"{energy:.6f} eV: another model or other settings of it"
                )
            self._warn(f"the energy at the checkpoint differs by {difference:.2g} eV")
        state.environment = now
        self._say(f"resumed at step {state.step} in stage {state.stage + 1}")

    def _run_stage(self, index: int) -> None:
        stage, state = self._shared.plan[index], self._state
        self._moving.begin(stage.ensemble, state.step, state.integrator)
        self._folder.log(f"stage {index + 1}: {stage.ensemble}, {stage.n_steps} steps")
        while state.stage_step < stage.n_steps:
            rows = self._advance(index, stage.n_steps - state.stage_step)
            if rows is not None:
                self._show(rows[-1], stage.ensemble)
            if self._stop.signal_name is not None:
                self._checkpoint()
                raise self._stop.error(
                    f"at step {state.step}; continue with hff md --resume {self._folder.path}"
                )
            due = state.step % self._shared.checkpoint_interval == 0
            if due or time.perf_counter() - self._saved > SECONDS_BETWEEN_CHECKPOINTS:
                self._checkpoint()
        state.stage, state.stage_step = index + 1, 0
        self._checkpoint(stage_begun=False)

    def _advance(self, stage: int, n_left: int) -> Tensor | None:
        """Take some steps and write down what is due; what is known of the replicas that go on.

        None where a replica was dropped instead, or too.
        """
        state, mover = self._state, self._moving
        intervals = (
            self._shared.trajectory_interval,
            self._shared.checkpoint_interval,
            CONTACT_INTERVAL,
        )
        n_steps = min(n_left, *(every - state.step % every for every in intervals))
        try:
            rows = mover.advance(n_steps)
        except HFFError as error:
            self._drop(mover.blame(error), stage)
            return None
        bad: dict[int, str] = {}
        for row in rows:
            state.step += 1
            state.stage_step += 1
            bad = blowing_up(mover, row, state.step)
            if self._due(state.step):
                self._record(stage, row, leave_out=bad)
        if not bad:
            return rows
        self._drop(bad, stage)
        return None

    def _due(self, step: int) -> bool:
        shared = self._shared
        intervals = (
            shared.statistics_interval,
            shared.trajectory_interval,
            shared.pressure_interval,
        )
        return any(every is not None and step % every == 0 for every in intervals)

    def _record(self, stage: int, row: Tensor, leave_out: Mapping[int, str]) -> None:
        mover, moment = self._moving, self._moment(stage)
        for place, replica in enumerate(mover.replicas):
            if place not in leave_out:
                outputs = self._outputs[replica.index]
                outputs.record(moment, mover.sample(row, place), mover.look_at(place))

    def _drop(self, bad: Mapping[int, str], stage: int) -> None:
        """Go on without the replicas at these places; their last frames are saved.

        Raises:
            SimulationError: none is left.
        """
        mover, state = self._moving, self._state
        messages = write_down(self._folder, mover, bad, self._moment(stage))
        left = [place for place in range(len(mover.replicas)) if place not in bad]
        if not left:
            raise SimulationError(f"no replica is left; {next(iter(messages.values()))}")
        failed = list(state.notes.get("failed", []))
        for place, message in messages.items():
            number = mover.replicas[place].index
            failed.append({"replica": number, "step": state.step, "reason": bad[place]})
            state.lengths |= self._outputs[number].sync()
            self._outputs.pop(number).close()
            self._folder.log(message)
            warnings.warn(f"{message}; {len(left)} go on", HFFWarning, stacklevel=5)
        state.notes["failed"] = failed
        self._mover = mover.only(left)
        self._checkpoint()

    def _show(self, row: Tensor, ensemble: str) -> None:
        kelvin = float(self._moving.temperatures(row).mean())
        self._screen.running(self._state.step, ensemble, kelvin, float("nan"))

    def _moment(self, stage: int) -> Moment:
        step = self._state.step
        return Moment(step, stage + 1, round(step * self._shared.timestep * 1e-3, 9))

    def _checkpoint(self, stage_begun: bool = True) -> None:
        state, mover = self._state, self._moving
        lengths = dict(state.lengths)  # of those that have failed
        for outputs in self._outputs.values():
            lengths |= outputs.sync()
        state.lengths = lengths
        state.energy = mover.energy()
        state.notes["seconds"] = self._seconds_before + time.perf_counter() - self._started
        state.atoms = pack_structures(self._structures) | pack_places(mover)
        state.integrator = mover.get_state() if stage_begun else {}
        state.calculator = mover.get_surroundings()
        save_checkpoint(self._folder[CHECKPOINT], state)
        self._saved = time.perf_counter()

    def _finish(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._started
        speed = ns_per_day(self._state.step - self._first_step, self._shared.timestep, seconds)
        mover, moment = self._moving, self._moment(len(self._shared.plan) - 1)
        summaries: dict[int, dict[str, Any]] = {}
        for place, replica in enumerate(mover.replicas):
            own, view = replica_folder(self._folder, replica.index), mover.look_at(place)
            own.write(FINAL, frame(view.atoms, moment, view.results, True))
            summary = replica_summary(own, view.atoms, replica, self._config, self._state, speed)
            own.write(SUMMARY, to_yaml(summary))
            summaries[replica.index] = summary
        whole = run_summary(self._config, self._state, summaries, speed)
        self._folder.write(SUMMARY, to_yaml(whole))
        self._state.phase = "finished"
        self._checkpoint(stage_begun=False)
        for line in table(whole):
            self._say(line)
        n_done = len(summaries)
        self._say(
            f"finished: {n_done} replicas, {self._state.step} steps, {speed:.3g} ns/day each, "
            f"{speed * n_done:.3g} ns/day together"
        )
        return whole

    def _say(self, message: str) -> None:
        self._folder.log(message)
        self._screen.say(message)

    def _warn(self, message: str) -> None:
        self._folder.log(f"warning: {message}")
        warnings.warn(
            f"{message}; the resumed run may differ in the last bits", HFFWarning, stacklevel=4
        )
