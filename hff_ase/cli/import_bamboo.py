"""``hff import-bamboo``: a published checkpoint as an .hff file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_bamboo(
    checkpoint: Annotated[
        Path, typer.Argument(help="benchmark.pt (TorchScript), or .npz of its arrays.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The .hff file to write.", rich_help_panel="Output"),
    ] = Path("bamboo.hff"),
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the output.", rich_help_panel="Output")
    ] = False,
    published_forces: Annotated[
        bool,
        typer.Option(
            "--published-forces",
            help="Forces and stress at fixed charges, as published; not the gradient of the "
            "energy. Without it they are the exact gradient.",
            rich_help_panel="Model",
        ),
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(help="Accuracy of long-range electrostatics.", rich_help_panel="Model"),
    ] = 1e-6,
) -> None:
    """Import a published BAMBOO checkpoint (its licence stays its own)."""
    from hff_ase.cli.output import check_output

    check_output(output, (".hff",), force)
    from ase import Atoms

    from hff_ase.calculators import HybridFF

    calculator = HybridFF.from_bamboo(
        checkpoint, charge_response=not published_forces, tolerance=tolerance
    )
    water = Atoms("OH2", [[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])
    salt = Atoms("LiF", [[0.0, 0.0, 0.0], [1.9, 0.1, 0.0]], cell=[6.0, 6.5, 7.0], pbc=True)
    calculator.save(output, [water, salt])
    typer.echo(f"{output}: {calculator.info.description}, from {checkpoint}")
