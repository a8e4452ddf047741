"""Averages over replicas at the same conditions, with errors from their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from hff_ase.dynamics.config import DEFAULT_PRESSURE
from hff_ase.dynamics.replicas.config import Condition, ReplicaConfig
from hff_ase.dynamics.replicas.replica_engine import Replica
from hff_ase.dynamics.reporters.statistics import finite_or_none
from hff_ase.dynamics.simulation.checkpoint import Checkpoint
from hff_ase.dynamics.simulation.summary import summarize

SHOWN = {"temperature[K]": ".2f", "density[g/cm^3]": ".4f", "pressure[bar]": ".0f"}


def replica_summary(
    atoms: Atoms,
    statistics: Mapping[str, np.ndarray],
    replica: Replica,
    config: ReplicaConfig,
    state: Checkpoint,
    speed: float,
    status: str = "finished",
) -> dict[str, Any]:
    """The contents of one replica's summary.yaml: that of a single run.

    Args:
        atoms: at the end.
        statistics: columns of its statistics file.
        replica: its number and settings.
        config: of the whole run.
        state: of the whole run at the end.
        speed: ns/day since the run was last started or resumed.
        status: see `hff_ase.dynamics.simulation.summary.summarize`.
    """
    summary = summarize(atoms, replica.config, state, statistics, speed, status)
    if summary["minimization"] is not None:
        condition = config.conditions[config.combination(replica.index)]
        summary["minimization"] = summary["minimization"][condition.structure]
    return {"replica": replica.index, **summary}


def over_replicas(entries: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Mean of the means of some runs, and its standard error.

    Args:
        entries: ``mean`` and ``error`` of each; the error of the first is taken where it is alone.
    """
    means = [entry["mean"] for entry in entries if entry["mean"] is not None]
    if not means:
        return {"mean": None, "error": None}
    if len(means) == 1:
        return {"mean": means[0], "error": entries[0]["error"]}
    error = float(np.std(means, ddof=1) / np.sqrt(len(means)))
    return {"mean": float(np.mean(means)), "error": finite_or_none(error)}


def of_condition(
    config: ReplicaConfig, number: int, summaries: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Averages over the replicas of a combination that finished.

    Args:
        config: of the run.
        number: of the combination.
        summaries: by replica.
    """
    condition: Condition = config.conditions[number]
    own = [one for k, one in sorted(summaries.items()) if config.combination(k) == number]
    file = config.structures[condition.structure]
    entry: dict[str, Any] = {
        "structure": condition.structure + 1 if file is None else Path(file).name,
        "temperature": condition.temperature,
    }
    if config.shared.needs_cell:
        bar = condition.pressure
        entry["pressure"] = DEFAULT_PRESSURE if bar is None else bar
    return entry | averages_of(own)


def averages_of(own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Number of some replicas, and averages over them, from their summaries."""
    last = [one["stages"][-1]["averages"] for one in own]
    names = list(last[0]) if last else []
    averages = {name: over_replicas([one[name] for one in last]) for name in names}
    return {"replicas": len(own), "averages": averages}


def of_states(
    config: ReplicaConfig,
    compositions: Sequence[str],
    summaries: Mapping[int, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Averages over all replicas of one composition, temperature and pressure, where those are of
    several structures: packings of one recipe.

    Args:
        config: of the run.
        compositions: of the structures.
        summaries: by replica.
    """
    found: dict[tuple[str, float, float | None], list[int]] = {}
    for number, one in enumerate(config.conditions):
        state = (compositions[one.structure], one.temperature, one.pressure)
        found.setdefault(state, []).append(number)
    entries = []
    for (composition, kelvin, bar), numbers in found.items():
        if len({config.conditions[number].structure for number in numbers}) < 2:
            continue
        entry: dict[str, Any] = {"structure": composition, "temperature": kelvin}
        if config.shared.needs_cell:
            entry["pressure"] = DEFAULT_PRESSURE if bar is None else bar
        own = [one for k, one in sorted(summaries.items()) if config.combination(k) in numbers]
        entries.append(entry | averages_of(own))
    return entries


def run_summary(
    config: ReplicaConfig,
    state: Checkpoint,
    summaries: Mapping[int, Mapping[str, Any]],
    speed: float,
    status: str = "finished",
    compositions: Sequence[str] = (),
) -> dict[str, Any]:
    """The contents of the run's summary.yaml.

    Args:
        config: of the run.
        state: at the end.
        summaries: of the replicas that came to the end, by number.
        speed: of each, ns/day since the run was last started or resumed.
        status: see `hff_ase.dynamics.simulation.summary.summarize`.
        compositions: of the structures; with them, packings of one recipe are averaged (`states`).
    """
    states = of_states(config, compositions, summaries) if compositions else []
    conditions = [of_condition(config, k, summaries) for k in range(config.n_combinations)]
    return {
        "status": status,
        "replicas": config.n_replicas,
        "failed": state.notes.get("failed", []),
        "steps": state.step,
        "time[ps]": state.step * config.shared.timestep * 1e-3,
        "averages_over": (
            "the second half of the last stage, then the replicas; error: standard error over "
            "replicas (that of its own where there is one)"
        ),
        "conditions": conditions,
        **({"states": states} if states else {}),
        "minimization": state.notes.get("minimization"),
        "speed_each[ns/day]": float(speed),
        "speed_together[ns/day]": float(speed) * len(summaries),
        "wall_time[s]": float(state.notes.get("seconds", 0.0)),
        "environment": state.environment,
        "config": config.resolved(),
    }


def table(summary: Mapping[str, Any]) -> list[str]:
    """The conditions of `run_summary`, and the states of several, as lines with aligned columns."""
    conditions = [*summary["conditions"], *summary.get("states", [])]
    several = len({entry["structure"] for entry in conditions}) > 1
    keys = ["structure"] * several + ["temperature"]
    keys += ["pressure"] * ("pressure" in conditions[0]) + ["replicas"]
    found = {name for entry in conditions for name in entry["averages"]}
    names = [name for name in SHOWN if name in found]
    headings = {"temperature": "T/K", "pressure": "p/bar"}
    rows = [[headings.get(key, key) for key in keys] + [f"<{name}>" for name in names]]
    for entry in conditions:
        known = [entry[key] for key in keys]
        cells = [f"{value:g}" if isinstance(value, float) else str(value) for value in known]
        rows.append(
            cells + [with_error(entry["averages"].get(name), SHOWN[name]) for name in names]
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def with_error(entry: Mapping[str, float | None] | None, form: str) -> str:
    """A mean and its error, such as ``299.8 +- 0.3``."""
    if entry is None or entry["mean"] is None:
        return "-"
    if entry["error"] is None:
        return format(entry["mean"], form)
    return f"{entry['mean']:{form}} +- {entry['error']:{form}}"
