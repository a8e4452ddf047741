"""``hff sweep``: molecular dynamics of many liquids at many state points."""

from __future__ import annotations

from typing import Any

import typer

from hff_ase.cli.command import Part, command_of_run
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.sweep.config import OF_MEMBERS, SweepSettings
from hff_ase.settings import Given, Section, setting
from hff_ase.settings.common import WHERE


class SweepSwitches(Section):
    """How a sweep is resumed."""

    retry_failed: bool = setting(False, "Retry runs that failed before.", panel=WHERE)


@command_of_run(SweepSettings, Part(MDConfig, without=OF_MEMBERS), switches=SweepSwitches)
def sweep(given: Given, switches: SweepSwitches) -> None:
    """Run molecular dynamics of many liquids at many state points on several workers.

    The same command continues a killed sweep: nothing is lost, nothing is done twice.
    """
    from hff_ase.dynamics.sweep import run_sweep

    own, md = given.take(SweepSettings)
    settings = SweepSettings.load(own)
    rows = run_sweep(settings, md, retry_failed=switches.retry_failed, progress=_say)
    _print(rows, settings.output)
    failed = [row for row in rows if row["status"] == "failed"]
    if failed:
        raise typer.Exit(3)


def _say(finished: int, failed: int, total: int) -> None:
    typer.echo(f"{finished} of {total} runs finished, {failed} failed", err=True)


def _print(rows: list[dict[str, Any]], output: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in ("system", "K", "bar", "seed", "status", "ps", "g/cm3"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        density, error = row["density[g/cm^3]"], row["error of density[g/cm^3]"]
        shown = "" if density is None else f"{density:.4f} +- {error or 0.0:.4f}"
        facts = (row["set_temperature[K]"], row["set_pressure[bar]"], row["seed"], row["status"])
        texts = ["" if fact is None else f"{fact}" for fact in (*facts, row["time[ps]"])]
        table.add_row(row["system"], *texts, shown)
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=160)).print(table)
    for row in rows:
        if row["error"]:
            console.print(f"{row['folder']}: {row['error']}", soft_wrap=True)
    console.print(f"{output}/table.csv", soft_wrap=True)
