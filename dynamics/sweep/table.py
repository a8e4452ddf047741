"""The table of a sweep: a row for every run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hff_ase.dynamics.sweep.config import Member
from hff_ase.dynamics.sweep.member import FAILURE, status_of, summary_of
from hff_ase.errors import ConfigError
from hff_ase.files import write_whole

TABLE = "table.csv"
MEASURED = ("temperature[K]", "pressure[bar]", "density[g/cm^3]", "potential[eV]")


def row_of(member: Member, place: Path) -> dict[str, Any]:
    """A run's row: what it is, its status, and means with errors over its last stage."""
    summary = summary_of(place)
    row: dict[str, Any] = {
        "system": member.system,
        "set_temperature[K]": member.temperature,
        "set_pressure[bar]": member.pressure,
        "seed": member.seed,
        "status": status_of(place),
        "atoms": summary.get("atoms"),
        "time[ps]": summary.get("time[ps]"),
    }
    stages = summary.get("stages") or [{}]
    averages = stages[-1].get("averages", {})
    for name in MEASURED:
        found = averages.get(name, {})
        row[name], row[f"error of {name}"] = found.get("mean"), found.get("error")
    row["folder"] = place.name
    row["error"] = None
    if row["status"] == "failed":
        row["error"] = json.loads((place / FAILURE).read_text(encoding="utf-8"))["error"]
    return row


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The table as csv, whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        write_whole(path, text.getvalue().encode())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
