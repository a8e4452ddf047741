"""``hff compare``: several analyses compared with measured values."""

from __future__ import annotations

from pathlib import Path

import typer

from hff_ase.cli.command import command
from hff_ase.settings import setting
from hff_ase.settings.common import OUTPUT, PrintSettings
from hff_ase.settings.declare import REQUIRED


class CompareSettings(PrintSettings):
    """What is compared."""

    folders: tuple[str, ...] = setting(
        REQUIRED, "Folders with properties.json.", positional=True, metavar="FOLDER"
    )
    experiment: tuple[str, ...] = setting(
        (),
        "Properties, such as density,viscosity,conductivity.",
        panel="What",
        commas=True,
        shown="all that were measured",
    )
    plot: str | None = setting(
        None, "Parity plot: a .png, .svg or .pdf file.", panel=OUTPUT, metavar="FILE"
    )


@command(CompareSettings)
def compare(config: CompareSettings) -> None:
    """Compare computed with measured properties: a table and a parity plot."""
    from hff_ase.dynamics.properties.compare import as_dict, parity_plot, table
    from hff_ase.dynamics.properties.compare import compare as beside

    names = [name.strip() for name in config.experiment]
    found = beside([Path(folder) for folder in config.folders], names)
    if config.json_:
        import json

        typer.echo(json.dumps(as_dict(found), indent=1))
    else:
        typer.echo("\n".join(table(found)))
    if config.plot is not None:  # last: where nothing was measured the table says so
        parity_plot(found, Path(config.plot))
