"""``hff report``: one page of a run that opens anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hff_ase.cli.md import Text, option

OUTPUT, WHAT = "Output", "What"


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A run, or any folder with properties.json (hff analyse).", show_default=False
        ),
    ],
    properties: Annotated[
        Text,
        option(WHAT, "Such as density,conductivity: analyse these (anew) first.", "--property"),
    ] = None,
    output: Annotated[
        Path | None, option(OUTPUT, "The page (default: report.html there).", "--output", "-o")
    ] = None,
) -> None:
    """Write one HTML page with numbers, errors, experiment, plots and molecules.

    It needs neither a server nor a network. A run without properties.json is analysed first.
    """
    from hff_ase.dynamics.properties import analyse, write_analysis
    from hff_ase.dynamics.properties.page.render import write_report
    from hff_ase.dynamics.properties.reading import Reading, states_of
    from hff_ase.dynamics.properties.table import PROPERTIES

    if properties is not None or not (folder / PROPERTIES).is_file():
        names = [name.strip() for name in (properties or "").split(",") if name.strip()]
        write_analysis(analyse(states_of(folder, Reading()), names), folder)
    typer.echo(str(write_report(folder, output)))
