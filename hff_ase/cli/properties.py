"""``hff properties``: from a recipe to numbers with errors, on one page."""

from __future__ import annotations

from typing import Any

import typer

from hff_ase.cli.command import command_of_run
from hff_ase.dynamics.properties.request import Request
from hff_ase.settings import Given, Section, setting
from hff_ase.settings.common import CLUSTER, OUTPUT, RESTART, THREADS, WORKERS


class PropertySwitches(Section):
    """Output folder, whether to run at all, and where."""

    output: str = setting(
        "properties", "Folder of the run.", short="-o", panel=OUTPUT, metavar="FOLDER"
    )
    json_: bool = setting(False, "Print as JSON.", panel=OUTPUT, alias="json")
    plan: bool = setting(
        False, "Only print the errors to expect on this machine, and the cost.", panel=OUTPUT
    )
    resume: str | None = setting(
        None,
        "Folder of a run to continue; --npt, --nvt, --budget and --property may change.",
        panel=RESTART,
        metavar="FOLDER",
    )
    workers: int = WORKERS
    threads: int = THREADS
    cluster: str | None = CLUSTER


@command_of_run(Request, switches=PropertySwitches)
def properties(given: Given, switches: PropertySwitches) -> None:
    """Build, equilibrate, run, analyse and report: properties of a liquid with their errors.

    Killed at any moment, it continues with --resume FOLDER.
    """
    from hff_ase.allocator import keep_memory
    from hff_ase.dynamics.properties.property_run import PropertyRun
    from hff_ase.dynamics.properties.table import as_dict, lines
    from hff_ase.errors import ConfigError

    keep_memory()
    if switches.resume is not None:
        if switches.plan:
            raise ConfigError("expected either --resume or --plan, got both")
        run = PropertyRun.resume(switches.resume, settings=given)
    else:
        request = Request.load(given)
        if request.model is None:
            raise ConfigError("expected a model, got none: --model electrolyte")
        if switches.plan:
            typer.echo(_planned(request, switches))
            return
        run = PropertyRun.start(switches.output, request)
    if switches.workers > 1 or switches.cluster is not None:
        from hff_ase.dynamics.properties.on_workers import run_on_workers

        found = run_on_workers(run, switches.workers, switches.threads, switches.cluster)
    else:
        found = run.run()
    content = as_dict(found)
    if switches.json_:
        import json

        typer.echo(json.dumps(content, indent=1))
        return
    typer.echo("\n".join(lines(content)))


def _planned(request: Any, switches: PropertySwitches) -> str:
    """The errors to expect, by a short timing on this machine."""
    import json
    from pathlib import Path

    from hff_ase.dynamics.properties.planning import as_dict, make_plan, table

    plan = make_plan(request, Path(switches.output))
    if switches.json_:
        return json.dumps(as_dict(plan), indent=1)
    return "\n".join(table(plan))
