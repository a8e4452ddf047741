"""An analysis as properties.json and curves.json, as lines of text, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hff_ase._version import __version__
from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.properties.analysis import Analysis, Quantity, StateResult
from hff_ase.dynamics.properties.model import model_facts
from hff_ase.dynamics.reference.lookup import Measurement
from hff_ase.dynamics.reporters.growing_file import write_atomically
from hff_ase.errors import ConfigError

__all__ = ["read_properties", "write_analysis"]

PROPERTIES, CURVES = "properties.json", "curves.json"
FORMAT = 1


def write_analysis(analysis: Analysis, folder: str | Path) -> Path:
    """Write properties.json and curves.json; the path of the first.

    Args:
        analysis: what was found.
        folder: where to.

    Raises:
        WriteError: they cannot be written.
    """
    place = Path(folder)
    write_atomically(place / CURVES, _text(_curves(analysis), None))
    write_atomically(place / PROPERTIES, _text(as_dict(analysis), 1))
    return place / PROPERTIES


def read_properties(path: str | Path) -> dict[str, Any]:
    """The contents of properties.json, by its folder or its path.

    Raises:
        ConfigError: none there, or not of this form.
    """
    place = Path(path)
    place = place / PROPERTIES if place.is_dir() else place
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(f"expected {place} (hff analyse writes it), got none") from None
    except ValueError as error:
        raise ConfigError(f"expected JSON in {place}, got something else: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(f"expected properties of format {FORMAT} in {place}, got something else")
    return content


def read_curves(folder: str | Path) -> list[dict[str, Any]]:
    """The contents of the curves.json beside properties.json, by state point; empty without one."""
    try:
        content = json.loads((Path(folder) / CURVES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return list(content["states"])


def as_dict(analysis: Analysis) -> dict[str, Any]:
    """The contents of properties.json."""
    return {
        "format": FORMAT,
        "hff_ase": __version__,
        **dict(analysis.about),
        "states": [_state(one) for one in analysis.results],
    }


def _state(result: StateResult) -> dict[str, Any]:
    state = result.state
    return {
        "name": state.name,
        "recipe": state.recipe,
        "temperature[K]": state.temperature,
        "pressure[bar]": state.pressure,
        "composition": dict(result.composition),
        "atoms": result.n_atoms,
        "replicas": result.n_replicas,
        "notes": list(result.notes),
        "about": {**state.about, "model_facts": model_facts(state.about.get("model"))},
        "quantities": {name: _quantity(one) for name, one in result.quantities.items()},
    }


def _quantity(quantity: Quantity) -> dict[str, Any]:
    entry = {"property": quantity.plan, **_observable(quantity.found, quantity.target)}
    entry |= {"target": quantity.target, "verdict": quantity.verdict}
    entry["experiment"] = None if quantity.experiment is None else _experiment(quantity.experiment)
    if quantity.convergence is not None:
        own = quantity.convergence
        columns = {"time[ps]": own.time, "value": own.value, "error": own.error}
        entry["convergence"] = {k: [_finite(x) for x in v] for k, v in columns.items()}
    if quantity.replicas:
        entry["each_replica"] = {
            "value": [_finite(one.value) for one in quantity.replicas],
            "error": [_finite(one.error) for one in quantity.replicas],
        }
    return entry


def _observable(found: Observable, target: float) -> dict[str, Any]:
    """An observable for JSON; a refused one has no value."""
    entry = found.as_dict(target)
    entry = {
        {"correlation_time": "correlation_time[ps]", "length": "length[ps]"}.get(k, k): v
        for k, v in entry.items()
    }
    if found.refused:
        entry |= {"value": None, "error": None, "interval_95": None}
    longer = found.longer(target)
    return entry | {"longer": round(longer, 3) if math.isfinite(longer) else None}


def _experiment(known: Measurement) -> dict[str, Any]:
    return {
        "value": known.value,
        "uncertainty": known.uncertainty,
        "unit": known.unit,
        "temperature[K]": known.temperature,
        "source": known.source,
        "interpolated": known.interpolated,
    }


def _curves(analysis: Analysis) -> dict[str, Any]:
    """The contents of curves.json."""
    states: list[dict[str, Any]] = [
        {name: [curve.as_dict() for curve in own] for name, own in result.curves.items() if own}
        | ({} if result.structure is None else {"box": dict(result.structure)})
        for result in analysis.results
    ]
    return {"format": FORMAT, "states": states}


def lines(content: Mapping[str, Any]) -> list[str]:
    """properties.json as lines of text: a block for each state point."""
    told = []
    for state in content["states"]:
        told.append(f"{state['name']}  ({state['replicas']} x {state['atoms']} atoms)")
        rows = [("quantity", "value", "experiment", "verdict")]
        for name, one in state["quantities"].items():
            rows.append((name, with_unit(one), measured_text(one["experiment"]), one["verdict"]))
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        told += [
            "  "
            + "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True))
            for row in rows
        ]
        told += [f"  note: {note}" for note in state["notes"]]
    return [line.rstrip() for line in told]


def with_unit(entry: Mapping[str, Any]) -> str:
    """A number as ``1.284 +- 0.003 g/cm^3``."""
    if entry["value"] is None:
        return "-"
    found = Observable(entry["value"], entry["error"], entry["unit"], "", 0.0)
    return str(found)


def measured_text(entry: Mapping[str, Any] | None) -> str:
    """A measured value with its uncertainty; ``-`` where nothing is known."""
    if entry is None:
        return "-"
    return str(Observable(entry["value"], entry["uncertainty"], "", "", 0.0))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _text(content: Mapping[str, Any], indent: int | None) -> bytes:
    return (json.dumps(content, indent=indent, allow_nan=False) + "\n").encode()
