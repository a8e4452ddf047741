"""``hff respond``: how transport answers to a few parameters of a model."""

from __future__ import annotations

from pathlib import Path

import typer

from hff_ase.cli.align import check_names, going_on
from hff_ase.cli.command import command
from hff_ase.cli.output import OutputFile
from hff_ase.dynamics.sampling.config import SAMPLING, ResponseSettings
from hff_ase.settings import setting
from hff_ase.settings.common import DEVICE, OUTPUT
from hff_ase.settings.declare import REQUIRED


class RespondConfig(ResponseSettings, OutputFile):
    """A model, what is measured, and the parameters that are changed."""

    suffixes = (".csv",)

    model: str = setting(
        REQUIRED, "Name of a model or an .hff file.", positional=True, metavar="MODEL"
    )
    targets: str = setting(
        REQUIRED, "Table of measured values: .csv or .yaml (docs/calibration.md).", metavar="FILE"
    )
    parameters: tuple[str, ...] = setting(
        REQUIRED,
        "What to change, one at a time, such as dispersion.scale,coulomb.scale.",
        panel=SAMPLING,
        commas=True,
        metavar="NAME",
    )
    output: str = setting(
        "responses.csv", "The table, for hff calibrate --responses.", short="-o", panel=OUTPUT,
        metavar="FILE",
    )  # fmt: skip
    run: str | None = setting(
        None, "Folder for the runs.", panel=OUTPUT, metavar="FOLDER", shown="OUTPUT-respond"
    )
    device: str = DEVICE


@command(RespondConfig)
def respond(config: RespondConfig) -> None:
    """Run viscosity, conductivity or self-diffusion at several values of a few parameters.

    Repeat the command to continue.
    """
    from hff_ase.allocator import keep_memory
    from hff_ase.calculators.finetune.targets import read_targets
    from hff_ase.calculators.hybrid import HybridFF
    from hff_ase.dynamics.sampling.lookup import with_reference
    from hff_ase.dynamics.sampling.response_run import ResponseRun

    keep_memory()
    output = config.target()
    calc = HybridFF.load(config.model, device=config.device)
    check_names(calc, config.parameters)
    folder = Path(config.run) if config.run else output.with_name(f"{output.stem}-respond")
    targets = with_reference(read_targets(Path(config.targets)))
    run = ResponseRun(calc, targets, folder, config.parameters, config)
    with going_on():
        table = run.run()
    run.write(output, table)
    typer.echo(f"{output}: {len(run.points())} models, {len(table.splitlines()) - 1} values")
