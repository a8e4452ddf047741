"""What may change when a run is resumed: settings without influence on the physics, and its length.

A run becomes longer when its last stage does, or when further stages follow.

A checkpoint at the end of the last stage keeps the variables of the integrator, so that a run of
10 ps made 10 ps longer is, bit for bit, the run of 20 ps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hff_ase.dynamics.config import ENSEMBLES, steps_of
from hff_ase.dynamics.simulation.checkpoint import Checkpoint
from hff_ase.errors import ConfigError, SimulationError
from hff_ase.settings import Given, parse_time

NOT_PHYSICS = (
    *("progress", "plot", "output", "max_hours", "outside_domain", "bond_watch"),
)  # may differ when a run is resumed
WITHOUT_STATE = {"ase": ("nve", "nvt")}  # integrators without variables of their own, by engine


def extend_stages(stages: Sequence[str], by: str) -> list[str]:
    """The stages with the last one longer (``10ps``) or one more (``nvt:10ps``).

    Raises:
        ConfigError: neither a time nor a stage.
    """
    ensemble, separator, length = by.partition(":")
    if separator:
        if ensemble not in ENSEMBLES:
            raise ConfigError(
                f"expected ENSEMBLE:TIME with one of {', '.join(ENSEMBLES)}, got {by!r}"
            )
        parse_time(length)
        return [*stages, by]
    name, _, last = stages[-1].partition(":")
    return [*stages[:-1], f"{name}:{parse_time(last) + parse_time(by):.12g}fs"]


def with_stages(run: Sequence[str], settings: Mapping[str, Any]) -> Given:
    """Settings requested for a resumed run, with ``extend`` and ``time`` translated into stages.

    Args:
        run: stages of the run, such as ``npt:20ps``.
        settings: what the user asks for now.

    Raises:
        ConfigError: ``time`` or ``ensemble`` of a run with several stages.
    """
    places = Given.of(settings).places
    asked = dict(settings)
    by = asked.pop("extend", None)
    if by is not None:
        if {"time", "ensemble", "stages"} & asked.keys():
            raise ConfigError("expected either extend or other lengths, got both")
        return Given({**asked, "stages": extend_stages(run, str(by))}, places)
    if not {"time", "ensemble"} & asked.keys():
        return Given(asked, places)
    if len(run) > 1:
        raise ConfigError(
            f"expected stages of the run ({', '.join(run)}; the last may be longer, others may "
            "follow) or --extend, got a time or an ensemble for all of it"
        )
    ensemble, _, time = run[0].partition(":")
    stage = f"{asked.pop('ensemble', ensemble)}:{asked.pop('time', time)}"
    return Given({**asked, "stages": [stage]}, places)


def goes_on(run: Sequence[str], asked: Sequence[str], timestep: float) -> bool:
    """Whether stages extend those of a run: the last may be longer, others may follow."""
    before, now = steps_of(run, timestep), steps_of(asked, timestep)
    if now[: len(before) - 1] != before[:-1] or len(now) < len(before):
        return False
    last, same = before[-1], now[len(before) - 1]
    return same.ensemble == last.ensemble and same.n_steps >= last.n_steps


def edited(config: Path, run: Mapping[str, Any]) -> Given:
    """Settings edited in the config.yaml of a run since it was written."""
    if not config.is_file():
        return Given({})
    found = Given.of(config)
    same = [name for name, value in found.items() if name in run and run[name] == value]
    return found.without(*same)


def asked_of(config: Path, run: Mapping[str, Any], settings: Mapping[str, Any]) -> Given:
    """All settings requested for a run: the edited config.yaml, overridden by ``settings``.

    Raises:
        ConfigError: as `with_stages`, or a config.yaml that cannot be read.
    """
    changes = with_stages(run["stages"], edited(config, run))
    stages = changes.get("stages", run["stages"])
    return with_stages(stages, settings).over(changes)


def take_changes(checkpoint: Checkpoint, resolved: Mapping[str, Any], cell: bool) -> bool:
    """Adapt a checkpoint to a run that was made longer; returns whether it was.

    Args:
        checkpoint: changed in place; one at the end of shorter stages becomes one within longer.
        resolved: the run's settings with what may change.
        cell: whether the structure has one.

    Raises:
        SimulationError: the run ended without the state of its integrator (an older version).
        ConfigError: an npt stage was added to a structure without a cell.
    """
    before = checkpoint.config
    old = steps_of(before["stages"], before["timestep"])
    new = steps_of(resolved["stages"], resolved["timestep"])
    if old == new:  # the rest, such as max_hours, is not in the checkpoint
        return False
    checkpoint.config = {**before, "stages": resolved["stages"], "pressure": resolved["pressure"]}
    if not cell and any(stage.ensemble.startswith("npt") for stage in new):
        raise ConfigError("expected a periodic box for npt, got a structure without one")
    if checkpoint.stage == len(old) and checkpoint.phase != "start":
        last = len(old) - 1
        if new[last].n_steps > old[last].n_steps:
            stateless = WITHOUT_STATE.get(str(before.get("engine")), ())
            if not checkpoint.integrator and old[last].ensemble not in stateless:
                raise SimulationError(
                    "expected the state of the integrator at the end of the run, got none (an "
                    "older version wrote it): add a stage, such as --extend nvt:10ps"
                )
            checkpoint.stage, checkpoint.stage_step = last, old[last].n_steps
        else:
            checkpoint.integrator = {}
        checkpoint.phase = "dynamics"
    return True


def with_changes(run: Mapping[str, Any], asked: Mapping[str, Any], given: Given) -> dict[str, Any]:
    """Resolved settings of a run, with new values of those that may change.

    Args:
        run, asked: resolved settings.
        given: what was asked for, which knows where that stands.

    Raises:
        ConfigError: another setting differs; names it.
    """
    free = set(NOT_PHYSICS)
    if goes_on(run["stages"], asked["stages"], run["timestep"]):
        free.add("stages")
        if run["pressure"] is None:  # no stage needed one so far
            free.add("pressure")
    for name, value in run.items():
        if name not in free and asked[name] != value:
            raise ConfigError(
                f"{given.where(name)}expected the settings of the run to resume, {name} {value!r}, "
                f"got {asked[name]!r}"
            )
    return {**run, **{name: asked[name] for name in free}}
