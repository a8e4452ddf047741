"""``hff import-byteff``: published parameters of ByteFF-Pol as an .hff file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_byteff(
    folders: Annotated[
        list[Path], typer.Argument(help="A folder per molecule, with NAME.json and NAME.itp.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The .hff file to write.", rich_help_panel="Output"),
    ] = Path("byteff.hff"),
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the output.", rich_help_panel="Output")
    ] = False,
    as_published: Annotated[
        bool,
        typer.Option(
            "--as-published",
            help="Pair terms cut sharply and equivalent atoms apart by their last digits, as in "
            "the published files.",
            rich_help_panel="Model",
        ),
    ] = False,
    cutoff: Annotated[
        float, typer.Option(help="Of pair terms, Angstrom.", rich_help_panel="Model")
    ] = 10.0,
    tolerance: Annotated[
        float,
        typer.Option(help="Accuracy of long-range electrostatics.", rich_help_panel="Model"),
    ] = 1e-6,
) -> None:
    """Import a polarisable force field of ByteFF-Pol for some molecules."""
    from hff_ase.cli.output import check_output

    check_output(output, (".hff",), force)
    from hff_ase.calculators import HybridFF
    from hff_ase.importers.byteff import example, from_byteff, info_of

    potential = from_byteff(folders, as_published=as_published, cutoff=cutoff, tolerance=tolerance)
    calculator = HybridFF(potential, info_of(output.stem, potential))
    calculator.save(output, [example(folders, potential)])
    typer.echo(f"{output}: {calculator.info.description}")
