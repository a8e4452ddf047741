"""``hff calibrate``: parameters that agree with measured numbers."""

from __future__ import annotations

from pathlib import Path

import typer

from hff_ase.cli.align import FITTING, FitSettings, check_names, going_on
from hff_ase.cli.command import command
from hff_ase.settings import Settings, setting


class ForceSettings(Settings):
    """Labelled frames beside measured values."""

    frames: tuple[str, ...] = setting(
        (),
        "Labelled frames, files or folders, whose forces shall stay right.",
        panel=FITTING,
        commas=True,
        metavar="PATH",
    )


class CalibrateConfig(FitSettings, ForceSettings):
    """How a model is calibrated."""

    weight: float = setting(
        0.0, "Of the forces on the frames: squared error over what it was.", panel=FITTING, ge=0
    )
    pareto: tuple[float, ...] = setting(
        (),
        "Several weights: a table of what agreement costs, before the fit.",
        panel=FITTING,
        commas=True,
    )
    prior: float = setting(1.0, "Factor of all prior widths.", panel=FITTING, gt=0)


@command(CalibrateConfig)
def calibrate(config: CalibrateConfig) -> None:
    """Fit parameters to measured numbers by reweighting; started again, it goes on."""
    from hff_ase.allocator import keep_memory
    from hff_ase.calculators.finetune.calibrate import CalibrateSettings
    from hff_ase.calculators.hybrid import HybridFF
    from hff_ase.dynamics.sampling.calibration_run import CalibrationRun
    from hff_ase.training.adapt.replay import read_all

    keep_memory()
    output = config.target()
    fitted, out = config.split_targets()
    calc = HybridFF.load(config.model, device=config.device)
    check_names(calc, config.parameters)
    run = CalibrationRun(
        calc,
        [*fitted, *out],
        config.folder("calibrate"),
        parameters=list(config.parameters),
        rounds=config.rounds,
        sampling=config.sampling(),
        settings=CalibrateSettings(weight=config.weight, prior=config.prior, seed=config.seed),
        frames=read_all([Path(path) for path in config.frames]) if config.frames else (),
        ensembles=config.ensembles(),
    )
    if config.pareto:
        typer.echo(run.pareto(list(config.pareto)))
    with going_on():
        report = run.run()
    run.write(output)
    typer.echo(report.markdown().rstrip())
    typer.echo(f"{output}: chi^2 {report.chi2[0]:.3g} before, {report.chi2[-1]:.3g} after")
    if report.needs_samples:
        typer.echo("the samples do not reach the minimum: more --rounds go on from here")
