"""``hff calibrate``: fit parameters to measured values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hff_ase.cli.align import SAMPLING_PART, FitSettings, check_names, going_on
from hff_ase.cli.command import Part, command
from hff_ase.dynamics.sampling.config import SamplingSettings
from hff_ase.settings import Settings, setting
from hff_ase.training.fit_config import FITTING, CalibrateSettings

if TYPE_CHECKING:
    from hff_ase.calculators.finetune.responses import Response
    from hff_ase.calculators.hybrid import HybridFF


class ForceSettings(Settings):
    """Labelled frames compared with measured values."""

    frames: tuple[str, ...] = setting(
        (),
        "Labelled frames (files or folders) whose forces should stay accurate.",
        panel=FITTING,
        commas=True,
        metavar="PATH",
    )


class LineSettings(Settings):
    """Transport as a function of the parameters."""

    responses: str | None = setting(
        None,
        "Table of runs at several values of the parameters (hff respond), for targets of "
        "viscosity, conductivity or self-diffusion.",
        panel=FITTING,
        metavar="FILE",
    )

    def lines(self, calc: HybridFF, parameters: Sequence[str]) -> list[Response]:
        """The responses of the table; none without one."""
        from hff_ase.calculators.finetune.responses import read_responses
        from hff_ase.parameter_vector import ParameterVector

        if self.responses is None:
            return []
        return read_responses(self.responses, ParameterVector(calc.potential, parameters))


class CalibrateConfig(FitSettings, ForceSettings, LineSettings):
    """How a model is calibrated."""

    pareto: tuple[float, ...] = setting(
        (),
        "Several weights: print a table of the trade-off before the fit.",
        panel=FITTING,
        commas=True,
    )


@command(CalibrateConfig, SAMPLING_PART, Part(CalibrateSettings, only=("weight", "prior")))
def calibrate(
    config: CalibrateConfig, sampling: SamplingSettings, settings: CalibrateSettings
) -> None:
    """Fit parameters to measured values by reweighting; repeat the command to continue."""
    from hff_ase.allocator import keep_memory
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
        sampling=sampling,
        settings=settings,
        frames=read_all([Path(path) for path in config.frames]) if config.frames else (),
        ensembles=config.ensembles(),
        responses=config.lines(calc, config.parameters),
    )
    if config.pareto:
        typer.echo(run.pareto(list(config.pareto)))
    with going_on():
        report = run.run()
    run.write(output)
    typer.echo(report.markdown().rstrip())
    typer.echo(f"{output}: chi^2 {report.chi2[0]:.3g} before, {report.chi2[-1]:.3g} after")
    if report.needs_samples:
        typer.echo("the samples do not reach the minimum: use more --rounds to continue from here")
