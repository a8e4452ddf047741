"""How far a run of ``hff properties`` has come: its folders, its notes, and what they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hff_ase.dynamics.properties.folders import read_folder
from hff_ase.dynamics.properties.request import Point, Request, read_request
from hff_ase.dynamics.properties.stages import EQUILIBRATE, NPT, NVT
from hff_ase.dynamics.properties.state import GAS, PRESSURE, VOLUME, StatePoint
from hff_ase.dynamics.reporters.growing_file import write_atomically
from hff_ase.dynamics.reporters.run_folder import CONFIG
from hff_ase.errors import SimulationError
from hff_ase.settings import parse_time

PROGRESS = "progress.json"


def folder_of(run: Path, point: Point) -> Path:
    """The folder of a state point within that of the run."""
    liquid = re.sub(r"[^A-Za-z0-9.]+", "-", point.recipe).strip("-")
    return run / f"{liquid}-{point.temperature:g}K"


def notes_of(place: Path) -> dict[str, Any]:
    """Decisions that were made for a state point, by name; none where it has not begun."""
    try:
        return dict(json.loads((place / PROGRESS).read_text(encoding="utf-8")))
    except OSError:
        return {}


def note(place: Path, name: str, value: Any) -> None:
    """Add a decision to the notes of a state point."""
    content = {**notes_of(place), name: value}
    write_atomically(place / PROGRESS, (json.dumps(content, indent=1) + "\n").encode())


def states_of_run(
    folder: Path, request: Request | None = None, points: Sequence[Point] | None = None
) -> list[StatePoint]:
    """State points of a run of ``hff properties``, as far as they have come.

    Args:
        folder: of the run.
        request: None reads that of the folder.
        points: these only.

    Raises:
        ConfigError: no such run.
        SimulationError: nothing has been run yet.
    """
    asked = request or read_request(folder)
    points = asked.points if points is None else points
    found = [state for point in points if (state := _state(folder, asked, point)) is not None]
    if not found:
        raise SimulationError(f"expected runs that have begun in {folder}, got none yet")
    return found


def _state(folder: Path, request: Request, point: Point) -> StatePoint | None:
    """What there is of one point; None where no stage has written anything."""
    place, parts = folder_of(folder, point), {}
    for name in (EQUILIBRATE, NPT, NVT):
        if (place / name / CONFIG).is_file():
            skip = 1e-3 * parse_time(request.settle) if name == NVT else 0.0
            parts[name] = read_folder(place / name, recipe=point.recipe, skip=skip)[0]
    if not parts:
        return None
    pressure = parts.get(NPT) or parts.get(EQUILIBRATE)
    stretches = tuple(pressure.held(PRESSURE)) if pressure else ()
    notes = [note for note in (pressure.notes if pressure else ()) if "have not settled" in note]
    about = dict(next(reversed(parts.values())).about)
    if NVT in parts:
        stretches += parts[NVT].held(VOLUME)
    if (place / GAS / CONFIG).is_file():
        from hff_ase.dynamics.properties.gas_stage import gas_stretches

        stretches += gas_stretches(place)
    told = notes_of(place).get("equilibrate", "settled")
    if told != "settled":
        notes.append(told)
    about["stages"] = {name: part.about["stages"] for name, part in parts.items()}
    about["folder"] = str(place)
    return StatePoint(
        point.name,
        point.temperature,
        stretches,
        point.recipe,
        request.pressure,
        about,
        tuple(dict.fromkeys(notes)),
    )
