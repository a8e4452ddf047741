"""``hff align``: a model with measured densities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hff_ase.cli.distill import SeveralValues

SEVERAL = ("--runs", "--parameters")
SAMPLING, TRAINING = "Sampling", "Training"


class AlignCommand(SeveralValues):
    """A command whose options of `SEVERAL` take all values up to the next option."""

    several = SEVERAL


def align(
    model: Annotated[str, typer.Argument(help="Name of a model or an .hff file.")],
    targets: Annotated[
        Path, typer.Option(help="Table of densities: .csv or .yaml (docs/calibration.md).")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The aligned .hff file.")],
    runs: Annotated[
        list[Path] | None,
        typer.Option(help="Folders of runs of this model at constant pressure, in the place of "
                     "sampling anew.", rich_help_panel=SAMPLING),
    ] = None,
    unsettled: Annotated[
        bool, typer.Option("--unsettled", help="Take runs that have not settled.",
                           rich_help_panel=SAMPLING),
    ] = False,
    rounds: Annotated[
        int, typer.Option(min=1, help="Sample and train so often.", rich_help_panel=SAMPLING)
    ] = 1,
    atoms: Annotated[
        int, typer.Option(min=1, help="Of a box.", rich_help_panel=SAMPLING)
    ] = 230,
    replicas: Annotated[
        int, typer.Option(min=2, help="Boxes of each liquid.", rich_help_panel=SAMPLING)
    ] = 3,
    time: Annotated[
        str, typer.Option(help="Of production of each box.", rich_help_panel=SAMPLING)
    ] = "200ps",
    parameters: Annotated[
        list[str] | None,
        typer.Option(help="What is trained: heads (default), lora, or patterns of names.",
                     rich_help_panel=TRAINING),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of Adam.", rich_help_panel=TRAINING)] = 300,
    learning_rate: Annotated[
        float, typer.Option(help="At the beginning.", rich_help_panel=TRAINING)
    ] = 1e-3,
    keep_out: Annotated[
        float, typer.Option(help="Part of the liquids that is predicted only.",
                            rich_help_panel=TRAINING),
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of packing, velocities and frames.")] = 0,
    work: Annotated[
        Path | None, typer.Option(help="Folder of samples and training (default: OUTPUT-align).")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:  # fmt: skip
    """Align the densities of a model to measured ones; started again, it goes on."""
    from dataclasses import replace

    from hff_ase.allocator import keep_memory
    from hff_ase.calculators.finetune.alignment_loss import AlignSettings
    from hff_ase.calculators.finetune.targets import read_targets, split
    from hff_ase.calculators.hybrid import HybridFF
    from hff_ase.cli.output import check_output
    from hff_ase.dynamics.sampling.alignment_run import AlignmentRun
    from hff_ase.dynamics.sampling.reading import read_ensembles
    from hff_ase.dynamics.sampling.sampler import SamplingSettings
    from hff_ase.dynamics.simulation.stopping import stop_on_signals

    keep_memory()
    check_output(output, (".hff",), force)
    fitted, out = split(read_targets(targets), keep_out, seed)
    wanted = [*fitted, *(replace(target, kept_out=True) for target in out)]
    run = AlignmentRun(
        HybridFF.load(model, device=device),
        wanted,
        work or output.with_name(f"{output.stem}-align"),
        parameters=parameters or ["heads"],
        rounds=rounds,
        sampling=SamplingSettings(atoms=atoms, replicas=replicas, time=time, seed=seed),
        training=AlignSettings(steps=steps, learning_rate=learning_rate, seed=seed),
        ensembles=read_ensembles(runs, unsettled=unsettled) if runs else (),
    )
    with stop_on_signals() as stop:
        run.run(stop)
    run.write(output)
    typer.echo(output.with_suffix(".md").read_text().rstrip())
    typer.echo(f"{output}: {len(fitted)} densities aligned, {len(out)} kept out")
