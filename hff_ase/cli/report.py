"""``hff report``: a self-contained page about a run."""

from __future__ import annotations

from pathlib import Path

import typer

from hff_ase.cli.analyse import PropertySettings
from hff_ase.cli.command import command
from hff_ase.settings import setting
from hff_ase.settings.common import OUTPUT
from hff_ase.settings.declare import REQUIRED


class ReportSettings(PropertySettings):
    """The run to report on; named properties are analysed first."""

    folder: str = setting(
        REQUIRED,
        "A run, or any folder with properties.json (hff analyse).",
        positional=True,
        metavar="FOLDER",
    )
    output: str | None = setting(
        None,
        "File for the page.",
        short="-o",
        panel=OUTPUT,
        metavar="FILE",
        shown="report.html there",
    )


@command(ReportSettings)
def report(config: ReportSettings) -> None:
    """Write an HTML page with results, errors, experiment, plots and molecules.

    It needs neither a server nor a network. A run without properties.json is analysed first.
    """
    from hff_ase.dynamics.properties import analyse, write_analysis
    from hff_ase.dynamics.properties.page.render import write_report
    from hff_ase.dynamics.properties.reading import Reading, states_of
    from hff_ase.dynamics.properties.table import PROPERTIES

    folder = Path(config.folder)
    if config.property_ or not (folder / PROPERTIES).is_file():
        names = [name.strip() for name in config.property_]
        write_analysis(analyse(states_of(folder, Reading()), names), folder)
    typer.echo(str(write_report(folder, None if config.output is None else Path(config.output))))
