"""The simulation of an equilibration: the phases of the protocol, each as long as it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hff_ase.dynamics.config import DEFAULT_PRESSURE, MDConfig
from hff_ase.dynamics.engine.torch.record import COLUMNS
from hff_ase.dynamics.equilibration.corridor import bonds_of, broken, cause
from hff_ase.dynamics.equilibration.groups import states
from hff_ase.dynamics.equilibration.judging import judge_replicas
from hff_ase.dynamics.equilibration.protocol import EquilibrationConfig, EquilibrationPhase
from hff_ase.dynamics.equilibration.shells import begin_record, look
from hff_ase.dynamics.equilibration.table import density_table
from hff_ase.dynamics.equilibration.verdict import FORGOTTEN, Verdict, why_not
from hff_ase.dynamics.replicas.replica_engine import Replica, ReplicaEngine
from hff_ase.dynamics.replicas.replica_simulation import ReplicaSimulation
from hff_ase.dynamics.replicas.reporter import replica_folder
from hff_ase.dynamics.reporters.run_folder import CONFIG, FINAL, STATISTICS, RunFolder
from hff_ase.dynamics.reporters.screen import Screen
from hff_ase.dynamics.reporters.statistics import frame, read_statistics
from hff_ase.dynamics.simulation.checkpoint import Checkpoint
from hff_ase.dynamics.simulation.stopping import StopRequest
from hff_ase.errors import SimulationError
from hff_ase.settings import parse_time, to_yaml
from hff_ase.units import GRAM_PER_CM3

VERDICT, TABLE = "verdict.yaml", "densities.txt"
LOOK = 100  # steps between two looks at the shells
VOLUME = COLUMNS.index("volume")


class UnsettledError(SimulationError):
    """An equilibration that reached its longest time before everything had settled.

    Args:
        why: what has not settled after how long, and how long it likely takes.
        command: the command that continues, without the time that is likely needed.
        longer: that time as a setting, or ``TIME`` if it is unknown.

    Attributes:
        why, longer: as given, for a caller that runs an equilibration as one of its stages.
    """

    exit_code = 3

    def __init__(self, why: str, command: str, longer: str) -> None:
        super().__init__(f"{why}, continue with {command} --max-time {longer}")
        self.why, self.longer = why, longer


class EquilibrationSimulation(ReplicaSimulation):
    """See `Simulation`; replicas through the phases of a protocol.

    What its end depends on, the statistics files and the shells seen so far, is at every checkpoint
    what it was: a resumed run takes the same decisions.
    """

    resumed_by = "hff equilibrate --resume"

    def __init__(
        self,
        folder: RunFolder,
        config: EquilibrationConfig,
        checkpoint: Checkpoint,
        calc: Any,
        screen: Screen,
        stop: StopRequest,
    ) -> None:
        super().__init__(folder, config.replicas, checkpoint, calc, screen, stop)
        self._protocol, self._expected = config.protocol, config.expected
        self._phases = config.protocol.phases
        self._all = config

    # --- phases -------------------------------------------------------------------------------

    def _prepare(self) -> None:
        super()._prepare()
        self._folder.write(CONFIG, to_yaml(self._all.resolved()))
        records = {
            str(replica.index): begin_record(replica.atoms) for replica in self._engine.replicas
        }
        self._state.notes["shells"] = {name: one for name, one in records.items() if one}

    def _begin_stage(self, ensemble: str) -> None:
        """An engine at the temperature and with the barostat of the phase."""
        phase, engine = self._phases[self._state.stage], self._engine
        base = self._config.replica_configs()
        replicas = [
            Replica(replica.index, atoms, at(base[replica.index], phase))
            for replica, atoms in zip(engine.replicas, engine.all_atoms(), strict=True)
        ]
        self._engine_or_none = ReplicaEngine(replicas, self._calc, engine.get_surroundings())
        kelvin = " and ".join(
            f"{one * phase.heat:.0f}" for one in sorted(set(self._config.temperatures))
        )
        longest = phase.time
        if phase.name == "hot" and not self._state.notes.get("shells"):
            longest = parse_time(self._protocol.hot)  # no cations to wait for
        self._say(f"{phase.name}: {ensemble} at {kelvin} K, up to {longest * 1e-3:.4g} ps")
        super()._begin_stage(ensemble)

    def _is_over(self, index: int) -> bool:
        phase, done = self._phases[index], self._state.stage_step
        ended = super()._is_over(index)
        if phase.name == "hot":
            least = round(parse_time(self._protocol.hot) / self._settings.timestep)
            if done < least or (done % LOOK and not ended):
                return ended
            return ended or self._forgotten()
        if phase.name != "final" or not done:
            return ended
        if not ended and self._state.step % self._settings.checkpoint_interval:
            return False
        verdicts = self._judge()
        self._write_verdicts(verdicts)
        if self._settled_twice(all(one.settled for one in verdicts.values())):
            return True
        if ended:
            self._checkpoint()
            self._write_last_frames()
            for line in density_table(self._state.notes["verdicts"], self._all.measured):
                self._say(line)
            raise self._unsettled(verdicts)
        return False

    def _departures(self, index: int) -> list[str]:
        return []  # verdicts and the corridor say more

    def _settled_twice(self, settled: bool) -> bool:
        """Whether this look and the one before found so: of many looks one errs by chance."""
        before = self._state.notes.get("settled_at")
        if not settled:
            self._state.notes["settled_at"] = None
        elif before is None:
            self._state.notes["settled_at"] = self._state.step
        return settled and before is not None and before < self._state.step

    # --- what is watched ----------------------------------------------------------------------

    def _advance(self, stage: int, n_left: int) -> None:
        before = self._state.step
        super()._advance(stage, min(n_left, LOOK - before % LOOK))
        if self._state.step > before and self._state.step % LOOK == 0:
            self._look_at_shells(stage)

    def _look_at_shells(self, stage: int) -> None:
        engine, notes = self._engine, self._state.notes["shells"]
        if not notes:
            return
        counted = self._phases[stage].under_pressure
        for replica, atoms in zip(engine.replicas, engine.all_atoms(), strict=True):
            if str(replica.index) in notes:
                look(notes[str(replica.index)], atoms, self._state.step, counted)

    def _forgotten(self) -> bool:
        """Whether all replicas with cations have lost the shells of their packing."""
        alive = {str(replica.index) for replica in self._engine.replicas}
        shells = [own for name, own in self._state.notes["shells"].items() if name in alive]
        return all(own["kept"] and own["kept"][-1] <= FORGOTTEN for own in shells)

    def _failing(self, row: Tensor) -> dict[int, str]:
        bad = super()._failing(row)
        if not self._phases[self._state.stage].under_pressure:
            return bad
        protocol, conditions = self._protocol, self._config.conditions
        for place, replica in enumerate(self._engine.replicas):
            density = self._mass(replica) / float(row[place, VOLUME]) / GRAM_PER_CM3
            expected = self._expected[conditions[self._config.combination(replica.index)].structure]
            limits = protocol.lowest * expected, protocol.highest * expected
            if place not in bad and not limits[0] <= density <= limits[1]:
                bad[place] = self._name_cause(place, density, limits)
        return bad

    def _mass(self, replica: Replica) -> float:
        return float(replica.atoms.get_masses().sum())

    def _name_cause(self, place: int, density: float, limits: tuple[float, float]) -> str:
        replica = self._engine.replicas[place]
        self._reporters[replica.index].sync()
        statistics = read_statistics(replica_folder(self._folder, replica.index)[STATISTICS])
        late = statistics["time[ps]"] > statistics["time[ps]"][-1] - 1.0
        names = ("temperature[K]", "pressure[bar]")
        recent = {name: float(statistics[name][late].mean()) for name in names}
        start = self._structures[
            self._config.conditions[self._config.combination(replica.index)].structure
        ]
        n_broken = broken(self._engine.all_atoms()[place], bonds_of(start))
        bar = replica.config.pressure
        asked = replica.config.temperature, DEFAULT_PRESSURE if bar is None else bar
        return cause(density, limits, recent, asked, n_broken)

    # --- verdict ------------------------------------------------------------------------------

    def _judge(self) -> dict[str, Verdict]:
        """By state, over what constant pressure has given so far."""
        for reporter in self._reporters.values():
            reporter.sync()
        alive = {replica.index for replica in self._engine.replicas}
        groups = {
            name: [one for one in replicas if one in alive]
            for name, replicas in states(self._config, self._structures).items()
        }
        records = self._state.notes["shells"] if self._protocol.shells else {}
        first = 1 + next(k for k, phase in enumerate(self._phases) if phase.under_pressure)
        every = self._settings.statistics_interval * self._settings.timestep * 1e-3
        least = parse_time(self._protocol.least) * 1e-3
        return {
            name: judge_replicas(self._folder, replicas, records, first, every, least)
            for name, replicas in groups.items()
            if replicas
        }

    def _write_verdicts(self, verdicts: dict[str, Verdict]) -> None:
        told = {name: one.as_dict() for name, one in verdicts.items()}
        self._state.notes["verdicts"] = told
        self._folder.write(VERDICT, to_yaml({"states": told}))
        self._folder.write(TABLE, "\n".join(density_table(told, self._all.measured)) + "\n")
        for name, one in verdicts.items():
            state = "settled" if one.settled else f"not settled: {'; '.join(one.reasons)}"
            self._say(f"after {one.length:.1f} ps at constant pressure, {name}: {state}")

    def _write_last_frames(self) -> None:
        moment = self._moment(self._state.stage)
        for place, replica in enumerate(self._engine.replicas):
            view = self._engine.look_at(place)
            own = replica_folder(self._folder, replica.index)
            own.write(FINAL, frame(view.atoms, moment, view.results, True))

    def _unsettled(self, verdicts: Mapping[str, Verdict]) -> UnsettledError:
        told, likely, longer = why_not(verdicts)
        why = f"not settled after {self._protocol.max_time} at constant pressure: {told}; {likely}"
        return UnsettledError(why, f"{self.resumed_by} {self._folder.path}", longer)

    def _summary(
        self, summaries: Mapping[int, Mapping[str, Any]], speed: float, status: str
    ) -> dict[str, Any]:
        whole = super()._summary(summaries, speed, status)
        whole["config"] = self._all.resolved()
        return {**whole, "states": self._state.notes.get("verdicts", {})}

    def _table(self, summary: Mapping[str, Any]) -> list[str]:
        return density_table(summary["states"], self._all.measured)


def at(config: MDConfig, phase: EquilibrationPhase) -> MDConfig:
    """The settings of a replica in a phase."""
    kelvin = config.temperature * phase.heat
    return config.model_copy(update={"temperature": kelvin, "pdamp": phase.pdamp})
