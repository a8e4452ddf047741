"""``hff import-byteff``: published parameters of ByteFF-Pol as an .hff file."""

from __future__ import annotations

from pathlib import Path

import typer

from hff_ase.cli.command import command
from hff_ase.cli.import_bamboo import LongRangeSettings
from hff_ase.settings import setting
from hff_ase.settings.common import MODEL
from hff_ase.settings.declare import REQUIRED


class ImportByteFFSettings(LongRangeSettings):
    """What is imported, and how."""

    defaults = {"output": "byteff.hff"}  # noqa: RUF012

    folders: tuple[str, ...] = setting(
        REQUIRED,
        "One folder per molecule, with NAME.json and NAME.itp.",
        positional=True,
        metavar="FOLDER",
    )
    as_published: bool = setting(
        False,
        "As in the published files: pair terms cut off sharply, equivalent atoms "
        "differing in their last digits.",
        panel=MODEL,
    )
    cutoff: float = setting(10.0, "Cutoff of pair terms.", unit="Angstrom", panel=MODEL, gt=0)


@command(ImportByteFFSettings)
def import_byteff(config: ImportByteFFSettings) -> None:
    """Import a polarisable ByteFF-Pol force field for given molecules."""
    output = config.target()
    from hff_ase.calculators import HybridFF
    from hff_ase.importers.byteff import example, from_byteff, info_of

    folders = [Path(folder) for folder in config.folders]
    potential = from_byteff(
        folders,
        as_published=config.as_published,
        cutoff=config.cutoff,
        tolerance=config.tolerance,
    )
    calculator = HybridFF(potential, info_of(output.stem, potential))
    calculator.save(output, [example(folders, potential)])
    typer.echo(f"{output}: {calculator.info.description}")
