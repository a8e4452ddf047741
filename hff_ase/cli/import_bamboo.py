"""``hff import-bamboo``: a published checkpoint as an .hff file."""

from __future__ import annotations

import typer

from hff_ase.cli.command import command
from hff_ase.cli.output import OutputFile
from hff_ase.settings import setting
from hff_ase.settings.common import MODEL
from hff_ase.settings.declare import REQUIRED


class LongRangeSettings(OutputFile):
    """Long-range settings of importers of models with charges."""

    suffixes = (".hff",)

    tolerance: float = setting(1e-6, "Accuracy of long-range electrostatics.", panel=MODEL, gt=0)


class ImportBambooSettings(LongRangeSettings):
    """What is imported, and how."""

    defaults = {"output": "bamboo.hff"}  # noqa: RUF012

    checkpoint: str = setting(
        REQUIRED,
        "benchmark.pt (TorchScript), or .npz of its arrays.",
        positional=True,
        metavar="FILE",
    )
    charge_response: bool = setting(
        True,
        "Forces and stress are the exact gradient of the energy; otherwise those at fixed "
        "charges, as published.",
        panel=MODEL,
    )


@command(ImportBambooSettings)
def import_bamboo(config: ImportBambooSettings) -> None:
    """Import a published BAMBOO checkpoint (it keeps its own licence)."""
    output = config.target()
    from ase import Atoms

    from hff_ase.calculators import HybridFF

    calculator = HybridFF.from_bamboo(
        config.checkpoint, charge_response=config.charge_response, tolerance=config.tolerance
    )
    water = Atoms("OH2", [[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])
    salt = Atoms("LiF", [[0.0, 0.0, 0.0], [1.9, 0.1, 0.0]], cell=[6.0, 6.5, 7.0], pbc=True)
    calculator.save(output, [water, salt])
    typer.echo(f"{output}: {calculator.info.description}, from {config.checkpoint}")
