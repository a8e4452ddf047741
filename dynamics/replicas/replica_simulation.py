"""The simulation of replicas: all in one batch, each with its own files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hff_ase.dynamics.guards.checks import CONTACT_INTERVAL
from hff_ase.dynamics.guards.molecule_watch import MoleculeWatch
from hff_ase.dynamics.guards.uncertainty_watch import UncertaintyWatch
from hff_ase.dynamics.guards.watch import Seen, Watch, findings
from hff_ase.dynamics.replicas.composition import label
from hff_ase.dynamics.replicas.config import ReplicaConfig
from hff_ase.dynamics.replicas.failures import blowing_up, write_down
from hff_ase.dynamics.replicas.packing import (
    pack_places,
    pack_structures,
    unpack_replicas,
    unpack_structures,
)
from hff_ase.dynamics.replicas.replica_engine import Replica, ReplicaEngine
from hff_ase.dynamics.replicas.reporter import (
    ReplicaReporter,
    allow_open_files,
    replica_folder,
)
from hff_ase.dynamics.replicas.start import make_replicas, relax
from hff_ase.dynamics.replicas.summary import replica_summary, run_summary, table
from hff_ase.dynamics.reporters.plots import Columns, plot, plot_replicas
from hff_ase.dynamics.reporters.run_folder import (
    CONFIG,
    FINAL,
    INPUT,
    PLOT,
    STATISTICS,
    SUMMARY,
    RunFolder,
)
from hff_ase.dynamics.reporters.screen import Screen
from hff_ase.dynamics.reporters.statistics import Moment, frame, read_statistics
from hff_ase.dynamics.simulation.checkpoint import Checkpoint
from hff_ase.dynamics.simulation.departures import departures
from hff_ase.dynamics.simulation.simulation import Simulation
from hff_ase.dynamics.simulation.stopping import StopRequest
from hff_ase.errors import HFFError, HFFWarning, SimulationError
from hff_ase.settings import to_yaml

MOST_PLOTS = 16  # of single replicas; more take longer than anybody looks at them


class ReplicaSimulation(Simulation):
    """A simulation of replicas; those that blow up are dropped, the others continue."""

    def __init__(
        self,
        folder: RunFolder,
        config: ReplicaConfig,
        checkpoint: Checkpoint,
        calc: Any,
        screen: Screen,
        stop: StopRequest,
    ) -> None:
        super().__init__(folder, config.shared, checkpoint, screen, stop)
        self._config, self._calc = config, calc
        self._engine_or_none: ReplicaEngine | None = None
        self._structures = unpack_structures(checkpoint, config)
        self._reporters: dict[int, ReplicaReporter] = {}
        self._watches: list[Watch] = []
        allow_open_files(config.n_replicas)

    @property
    def _engine(self) -> ReplicaEngine:
        if self._engine_or_none is None:
            raise RuntimeError("expected an engine, got none yet")
        return self._engine_or_none

    def _open(self, replicas: list[Replica]) -> None:
        folder, state, shared = self._folder, self._state, self._settings
        starts = {}
        for replica in replicas:
            self._reporters[replica.index] = ReplicaReporter(folder, replica, state.lengths)
            condition = self._config.conditions[self._config.combination(replica.index)]
            starts[replica.index] = self._structures[condition.structure]
        self._watches = [MoleculeWatch(starts, shared.bond_watch)]
        uncertainty = UncertaintyWatch.of(self._calc, shared.uncertainty_interval, folder, state)
        self._watches += [uncertainty] if uncertainty else []

    def _resume(self) -> None:
        replicas = unpack_replicas(self._state, self._config, self._structures)
        self._engine_or_none = ReplicaEngine(replicas, self._calc, self._state.calculator)
        self._open(replicas)

    def _prepare(self) -> None:
        config = self._config
        self._folder.write(CONFIG, to_yaml(config.resolved()))
        self._say(
            f"{config.n_replicas} replicas; structures x temperatures x pressures: "
            f"{config.described}"
        )
        if self._settings.minimize and self._settings.minimize_steps > 0:
            done = relax(self._structures, config, self._calc, self._watch_minimization)
            self._state.notes["minimization"] = done
            for number, one in enumerate(done):
                self._say_minimized(one, f"structure {number + 1} ")
        replicas = make_replicas(self._structures, config)
        engine = self._engine_or_none = ReplicaEngine(replicas, self._calc)
        engine.begin(self._settings.plan[0].ensemble, 0, {})
        self._open(replicas)
        row = engine.here()
        for place, replica in enumerate(replicas):
            view = engine.look_at(place)
            start = frame(view.atoms, Moment(0, 1, 0.0), view.results)
            replica_folder(self._folder, replica.index).write(INPUT, start)
            reporter = self._reporters[replica.index]
            reporter.begin(self._moment(0), engine.sample(row, place), view)

    def _begin_stage(self, ensemble: str) -> None:
        self._engine.begin(ensemble, self._state.step, self._state.integrator)

    def _advance(self, stage: int, n_left: int) -> None:
        state, engine, shared = self._state, self._engine, self._settings
        intervals = [shared.trajectory_interval, shared.checkpoint_interval, CONTACT_INTERVAL]
        intervals += [watch.interval for watch in self._watches]
        try:
            rows = engine.advance(self._steps_until_due(n_left, *intervals))
        except HFFError as error:
            self._drop(engine.blame(error), stage)
            return
        bad: dict[int, str] = {}
        for row in rows:
            state.step += 1
            state.stage_step += 1
            bad = self._failing(row)
            bad |= self._stopped(stage, bad)
            if self._due(state.step):
                self._record(stage, row, leave_out=bad)
        if bad:
            self._drop(bad, stage)
            return
        kelvin = float(engine.temperatures(rows[-1]).mean())
        self._screen.running(state.step, shared.plan[stage].ensemble, kelvin, float("nan"))

    def _stopped(self, stage: int, bad: Mapping[int, str]) -> dict[int, str]:
        """The replicas that a watch stops, and why; those already failing are skipped."""
        engine, moment = self._engine, self._moment(stage)
        places = {replica.index: place for place, replica in enumerate(engine.replicas)}
        stopped: dict[int, str] = {}

        def see() -> list[Seen]:
            left = [one for one in places.items() if not {one[1]} & {*bad, *stopped}]
            views = [(number, engine.look_at(place)) for number, place in left]
            return [Seen(number, view.atoms, view.results) for number, view in views]

        for found in findings(self._watches, moment, see):
            told = f"replica {found.replica}, step {moment.step}: {found.text}"
            if found.stops:
                stopped[places[found.replica]] = found.text
            else:
                self._say(f"warning: {told}" if found.warning else told)
        return stopped

    def _failing(self, row: Tensor) -> dict[int, str]:
        """The replicas that cannot continue after a step, and why."""
        return blowing_up(self._engine, row, self._state.step)

    def _due(self, step: int) -> bool:
        shared = self._settings
        intervals = (
            shared.statistics_interval,
            shared.trajectory_interval,
            shared.pressure_interval,
        )
        return any(every is not None and step % every == 0 for every in intervals)

    def _record(self, stage: int, row: Tensor, leave_out: Mapping[int, str]) -> None:
        engine, moment = self._engine, self._moment(stage)
        for place, replica in enumerate(engine.replicas):
            if place not in leave_out:
                reporter = self._reporters[replica.index]
                reporter.record(moment, engine.sample(row, place), engine.look_at(place))

    def _drop(self, bad: Mapping[int, str], stage: int) -> None:
        """Continue without these replicas; their last frames are saved.

        Raises:
            SimulationError: none is left.
        """
        engine, state = self._engine, self._state
        messages = write_down(self._folder, engine, bad, self._moment(stage))
        left = [place for place in range(len(engine.replicas)) if place not in bad]
        if not left:
            raise SimulationError(f"no replica is left; {next(iter(messages.values()))}")
        failed = list(state.notes.get("failed", []))
        for place, message in messages.items():
            number = engine.replicas[place].index
            failed.append({"replica": number, "step": state.step, "reason": bad[place]})
            state.lengths |= self._reporters[number].sync()
            self._reporters.pop(number).close()
            self._folder.log(message)
            warnings.warn(f"{message}; {len(left)} continue", HFFWarning, stacklevel=5)
        state.notes["failed"] = failed
        self._engine_or_none = engine.only(left)
        self._checkpoint()

    def _energy(self) -> tuple[float, int]:
        n_atoms = sum(len(replica.atoms) for replica in self._engine.replicas)
        return self._engine.energy(), n_atoms

    def _collect_state(self) -> None:
        state, engine = self._state, self._engine
        for reporter in self._reporters.values():  # beside those of replicas that have failed
            state.lengths |= reporter.sync()
        for watch in self._watches:
            state.lengths |= watch.sync()
        state.atoms = pack_structures(self._structures) | pack_places(engine)
        state.calculator = engine.get_surroundings()

    def _departures(self, index: int) -> list[str]:
        engine, found = self._engine, list[str]()
        for place, replica in enumerate(engine.replicas):
            self._reporters[replica.index].flush()
            rows = read_statistics(replica_folder(self._folder, replica.index)[STATISTICS])
            atoms = engine.look_at(place).atoms
            lines = departures(rows, index + 1, replica.config, atoms)
            found += [f"replica {replica.index}: {line}" for line in lines]
        return found

    def _finish(self) -> dict[str, Any]:
        engine, moment = self._engine, self._moment(len(self._settings.plan) - 1)
        for place, replica in enumerate(engine.replicas):
            own, view = replica_folder(self._folder, replica.index), engine.look_at(place)
            own.write(FINAL, frame(view.atoms, moment, view.results, True))
        whole = self._tell("finished")
        n_done, speed = len(engine.replicas), whole["speed_each[ns/day]"]
        self._state.phase = "finished"
        self._collect_state()  # with the integrator of the last stage's end
        self._save()
        for line in self._table(whole):
            self._say(line)
        self._say(
            f"finished: {n_done} replicas, {self._state.step} steps, {speed:.3g} ns/day each, "
            f"{speed * n_done:.3g} ns/day together"
        )
        return whole

    def _tell(self, status: str) -> dict[str, Any]:
        speed, engine, config = self._speed(), self._engine, self._config
        summaries: dict[int, dict[str, Any]] = {}
        groups: dict[str, list[Columns]] = {}
        for place, replica in enumerate(engine.replicas):
            own, atoms = replica_folder(self._folder, replica.index), engine.look_at(place).atoms
            self._reporters[replica.index].flush()
            rows = read_statistics(own[STATISTICS])
            summary = replica_summary(atoms, rows, replica, config, self._state, speed, status)
            own.write(SUMMARY, to_yaml(summary))
            summaries[replica.index] = summary
            groups.setdefault(config.name_of(config.combination(replica.index)), []).append(rows)
            if self._settings.plot and len(engine.replicas) <= MOST_PLOTS:
                plot(own[PLOT], rows, len(atoms), replica.config)
        whole = self._summary(summaries, speed, status)
        for watch in self._watches:
            whole |= watch.summary()
        whole |= self._far_from_asked()
        self._folder.write(SUMMARY, to_yaml(whole))
        if self._settings.plot:
            periodic = all("density[g/cm^3]" in rows for own in groups.values() for rows in own)
            plot_replicas(self._folder[PLOT], groups, periodic)
        return whole

    def _summary(
        self, summaries: Mapping[int, Mapping[str, Any]], speed: float, status: str
    ) -> dict[str, Any]:
        """The summary of the whole run, from the replicas that finished."""
        compositions = [label(one) for one in self._structures]
        return run_summary(self._config, self._state, summaries, speed, status, compositions)

    def _table(self, summary: Mapping[str, Any]) -> list[str]:
        """The part of the summary that is shown at the end."""
        return table(summary)

    def _close(self) -> None:
        for reporter in self._reporters.values():
            reporter.close()
        for watch in self._watches:
            watch.close()
