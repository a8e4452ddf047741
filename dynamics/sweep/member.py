"""One run of a sweep, on a worker: started or resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from hff_ase.dynamics.reporters.run_folder import SUMMARY, RunFolder
from hff_ase.dynamics.simulation.summary import read_summary
from hff_ase.dynamics.sweep.config import Member
from hff_ase.errors import HFFError, SimulationError, StoppedError
from hff_ase.files import write_whole

BOX, FAILURE = "box.extxyz", "failure.json"


def run_member(member: Member, folder: str) -> None:
    """Run a member of a sweep to its end, from its checkpoint if it has one.

    A finished run is left unchanged; an existing box is not built again; a run that was started
    continues at its last checkpoint, bit for bit. A run that fails leaves a file that says why, and
    the others continue.

    Args:
        member: the run.
        folder: its own.
    """
    place = Path(folder)
    if status_of(place) in ("finished", "failed"):
        return
    try:
        _run(member, place)
    except StoppedError:
        return  # to be resumed another time
    except HFFError as error:
        record_failure(place, str(error))


def _run(member: Member, place: Path) -> None:
    from hff_ase.dynamics.md import MDRun

    quiet = Console(quiet=True)
    if RunFolder(place).has_run:
        run = MDRun.resume(place, console=quiet)
    else:
        place.mkdir(parents=True, exist_ok=True)
        run = MDRun.start(member.config(place, _structure(member, place)), console=quiet)
    run.run()


def _structure(member: Member, place: Path) -> str:
    """The file of its box, built if it does not exist yet."""
    if member.is_file:
        return member.system
    box = place / BOX
    if not box.exists():
        from ase.io import write

        from hff_ase.dynamics.build import build_box

        atoms = build_box(member.system, member.atoms, seed=member.seed)
        new = place / "new.extxyz"
        write(new, atoms)
        new.replace(box)
    return str(box)


def record_failure(place: Path, reason: str) -> None:
    """Leave a file that says why a run failed."""
    place.mkdir(parents=True, exist_ok=True)
    write_whole(place / FAILURE, json.dumps({"error": reason}).encode())


def status_of(place: Path) -> str:
    """finished, failed, begun or waiting."""
    if summary_of(place).get("status") == "finished":
        return "finished"
    if (place / FAILURE).exists():
        return "failed"
    return "begun" if RunFolder(place).has_run else "waiting"


def summary_of(place: Path) -> dict[str, Any]:
    """Contents of its summary; empty without one."""
    if not (place / SUMMARY).exists():
        return {}
    try:
        return read_summary(RunFolder(place))
    except SimulationError:
        return {}
