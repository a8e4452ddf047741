"""``hff import-phyneo``: an XML force field of PhyNEO and its bonded network as an .hff file."""

from __future__ import annotations

import typer

from hff_ase.cli.command import command
from hff_ase.cli.import_bamboo import LongRangeSettings
from hff_ase.settings import setting
from hff_ase.settings.common import MODEL
from hff_ase.settings.declare import REQUIRED


class ImportPhyNEOSettings(LongRangeSettings):
    """What is imported, and how."""

    defaults = {"output": "phyneo.hff"}  # noqa: RUF012

    xml: str = setting(
        REQUIRED, "XML force field in the form that DMFF reads.", positional=True, metavar="FILE"
    )
    sgnn: tuple[str, ...] = setting(
        REQUIRED,
        "Weights of the bonded networks, .npz files of their arrays (docs/skeletons.md says how "
        "to make them of the published ones); no pickle is loaded.",
        metavar="FILE",
    )
    molecules: tuple[str, ...] | None = setting(
        None, "Names of residues to take; by default all that the networks describe.", panel=MODEL
    )
    as_published: bool = setting(
        False,
        "Moments in the published frames, with which energies change when everything is turned, "
        "and pairs cut sharply.",
        panel=MODEL,
    )
    cutoff: float = setting(
        9.0, "Of pair terms and of the real-space sums.", unit="Angstrom", panel=MODEL, gt=0
    )


@command(ImportPhyNEOSettings)
def import_phyneo(config: ImportPhyNEOSettings) -> None:
    """Import a multipolar PhyNEO force field (it keeps its own licence)."""
    output = config.target()
    from hff_ase.calculators import HybridFF
    from hff_ase.importers.phyneo import example, from_phyneo, info_of

    potential = from_phyneo(
        config.xml,
        config.sgnn,
        config.molecules,
        as_published=config.as_published,
        cutoff=config.cutoff,
        tolerance=config.tolerance,
    )
    calculator = HybridFF(potential, info_of(output.stem, potential))
    calculator.save(output, [example(potential)])
    typer.echo(f"{output}: {calculator.info.description}")
