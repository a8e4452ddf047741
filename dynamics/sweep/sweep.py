"""All runs of a sweep on Dask's workers, and their table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hff_ase.dynamics.sweep.config import SweepSettings, members_of
from hff_ase.dynamics.sweep.member import (
    FAILURE,
    record_failure,
    run_member,
    status_of,
)
from hff_ase.dynamics.sweep.table import TABLE, row_of, write_table
from hff_ase.errors import ConfigError
from hff_ase.workers import as_finished

Progress = Callable[[int, int, int], None]  # finished, failed, all


def run_sweep(
    settings: SweepSettings,
    md: Mapping[str, Any],
    *,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Run every member of a sweep to its end; finished ones are not repeated.

    The same call continues a sweep that was killed: finished runs are read, runs that were begun go
    on at their checkpoints. A worker that dies loses what its run did since the last checkpoint;
    another worker takes it up.

    Args:
        settings: of the sweep.
        md: settings of every run (`hff_ase.dynamics.config.MDConfig`).
        retry_failed: run again what failed before.
        progress: called when a run ends.

    Returns:
        A row of the table for every run, in order; the table is in ``table.csv`` of the folder.

    Raises:
        ConfigError: settings that cannot be, no Dask, or a folder that cannot be written.
    """
    members = members_of(settings, md)
    folder = Path(settings.output).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"expected a folder for the runs, got {folder}: {error}") from error
    places = {member.name: folder / member.name for member in members}
    if retry_failed:
        for place in places.values():
            (place / FAILURE).unlink(missing_ok=True)
    waiting = {
        member.name: (member, str(places[member.name]))
        for member in members
        if status_of(places[member.name]) not in ("finished", "failed")
    }
    _tell(progress, places)
    done = as_finished(
        run_member,
        waiting,
        name="run",
        workers=settings.workers,
        threads=settings.threads,
        cluster=settings.cluster,
    )
    try:
        for name, failure in done:
            if failure is not None:
                record_failure(places[name], f"{type(failure).__name__}: {failure}")
            _tell(progress, places)
    finally:
        done.close()
        rows = [row_of(member, places[member.name]) for member in members]
        write_table(folder / TABLE, rows)
    return rows


def _tell(progress: Progress | None, places: Mapping[str, Path]) -> None:
    if progress is not None:
        states = [status_of(place) for place in places.values()]
        progress(states.count("finished"), states.count("failed"), len(states))
