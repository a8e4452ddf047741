"""``hff compare``: several analyses beside measured values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hff_ase.cli.md import Text, option

WHAT, OUTPUT = "What", "Output"


def compare(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders with properties.json.", show_default=False)
    ],
    experiment: Annotated[
        Text,
        option(WHAT, "Such as density,viscosity,conductivity (default: all that were measured)."),
    ] = None,
    plot: Annotated[
        Path | None, option(OUTPUT, "Parity plot: a .png, .svg or .pdf file.", "--plot")
    ] = None,
    json_: Annotated[bool, option(OUTPUT, "Print as JSON.", "--json")] = False,
) -> None:
    """Compare computed properties with measured ones: a table, and a parity plot."""
    from hff_ase.dynamics.properties.compare import as_dict, parity_plot, table
    from hff_ase.dynamics.properties.compare import compare as beside

    names = [name.strip() for name in (experiment or "").split(",") if name.strip()]
    found = beside(folders, names)
    if plot is not None:
        parity_plot(found, plot)
    if json_:
        import json

        typer.echo(json.dumps(as_dict(found), indent=1))
        return
    typer.echo("\n".join(table(found)))
