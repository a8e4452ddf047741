"""``hff calibrate``: parameters that agree with measured numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hff_ase.cli.distill import SeveralValues

SAMPLING, FITTING = "Samples", "Fitting"


class CalibrateCommand(SeveralValues):
    """A command whose options of ``several`` take all values up to the next option."""

    several = ("--runs", "--parameters", "--frames", "--pareto")


def calibrate(
    model: Annotated[str, typer.Argument(help="Name of a model or an .hff file.")],
    targets: Annotated[Path, typer.Option(help="Table: .csv or .yaml (docs/calibration.md).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The calibrated .hff file.")],
    runs: Annotated[
        list[Path] | None,
        typer.Option(help="Folders of runs of this model (hff md, hff equilibrate), in the place "
                     "of sampling anew.", rich_help_panel=SAMPLING),
    ] = None,
    unsettled: Annotated[
        bool, typer.Option("--unsettled", help="Take runs that have not settled.",
                           rich_help_panel=SAMPLING),
    ] = False,
    rounds: Annotated[
        int, typer.Option(min=1, help="Sample and fit so often at most.", rich_help_panel=SAMPLING)
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
        typer.Option(help="physical (default), heads, lora, or patterns of names.",
                     rich_help_panel=FITTING),
    ] = None,
    frames: Annotated[
        list[Path] | None,
        typer.Option(help="Files of labelled frames, whose forces shall stay right.",
                     rich_help_panel=FITTING),
    ] = None,
    weight: Annotated[
        float, typer.Option(min=0, help="Of these forces: squared error over what it was.",
                            rich_help_panel=FITTING),
    ] = 0.0,
    pareto: Annotated[
        list[float] | None,
        typer.Option(help="Several weights: a table of what agreement costs, before the fit.",
                     rich_help_panel=FITTING),
    ] = None,
    prior: Annotated[
        float, typer.Option(help="Factor of all prior widths.", rich_help_panel=FITTING)
    ] = 1.0,
    keep_out: Annotated[
        float, typer.Option(help="Part of the liquids that is predicted only.",
                            rich_help_panel=FITTING),
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of packing, velocities and bootstraps.")] = 0,
    work: Annotated[
        Path | None, typer.Option(help="Folder of samples (default: OUTPUT-calibrate).")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:  # fmt: skip
    """Fit parameters to measured numbers by reweighting; started again, it goes on."""
    from dataclasses import replace

    from hff_ase.allocator import keep_memory
    from hff_ase.calculators.finetune.calibrate import CalibrateSettings
    from hff_ase.calculators.finetune.targets import read_targets, split
    from hff_ase.calculators.hybrid import HybridFF
    from hff_ase.cli.output import check_output
    from hff_ase.dynamics.sampling.calibration_run import CalibrationRun
    from hff_ase.dynamics.sampling.reading import read_ensembles
    from hff_ase.dynamics.sampling.sampler import SamplingSettings
    from hff_ase.training.adapt.replay import read_all

    keep_memory()
    check_output(output, (".hff",), force)
    fitted, out = split(read_targets(targets), keep_out, seed)
    run = CalibrationRun(
        HybridFF.load(model, device=device),
        [*fitted, *(replace(target, kept_out=True) for target in out)],
        work or output.with_name(f"{output.stem}-calibrate"),
        parameters=parameters or ["physical"],
        rounds=rounds,
        sampling=SamplingSettings(atoms=atoms, replicas=replicas, time=time, seed=seed),
        settings=CalibrateSettings(weight=weight, prior=prior, seed=seed),
        frames=read_all(list(frames)) if frames else (),
        ensembles=read_ensembles(runs, unsettled=unsettled) if runs else (),
    )
    if pareto:
        typer.echo(run.pareto(pareto))
    report = run.run()
    run.write(output)
    typer.echo(report.markdown().rstrip())
    typer.echo(f"{output}: chi^2 {report.chi2[0]:.3g} before, {report.chi2[-1]:.3g} after")
    if report.needs_samples:
        typer.echo("the samples do not reach the minimum: more --rounds go on from here")
