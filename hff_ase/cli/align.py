"""``hff align``: align a model to measured densities."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any

import typer

from hff_ase.cli.command import Part, command
from hff_ase.cli.output import OutputFile
from hff_ase.dynamics.sampling.config import SAMPLING, SamplingSettings
from hff_ase.settings import Settings, setting
from hff_ase.settings.common import DEVICE, OUTPUT
from hff_ase.settings.declare import REQUIRED
from hff_ase.training.fit_config import FITTING, AlignSettings

if TYPE_CHECKING:
    from hff_ase.calculators.finetune.targets import Target
    from hff_ase.calculators.hybrid import HybridFF

# `seed` is that of the whole command
SAMPLING_PART = Part(SamplingSettings, without=("seed",))


class TargetSettings(Settings):
    """A model, what is measured, and runs of the model."""

    model: str = setting(
        REQUIRED, "Name of a model or an .hff file.", positional=True, metavar="MODEL"
    )
    targets: str = setting(
        REQUIRED, "Table of measured values: .csv or .yaml (docs/calibration.md).", metavar="FILE"
    )
    runs: tuple[str, ...] = setting(
        (),
        "Folders of existing runs of this model (hff md, hff equilibrate) to use instead "
        "of sampling.",
        panel=SAMPLING,
        commas=True,
        metavar="FOLDER",
    )
    unsettled: bool = setting(False, "Use runs that have not settled.", panel=SAMPLING)
    parameters: tuple[str, ...] = setting(
        ("physical",),
        "What to change: physical, heads, lora, or patterns of parameter names.",
        panel=FITTING,
        commas=True,
        metavar="NAME",
    )
    device: str = DEVICE


class FitSettings(TargetSettings, OutputFile):
    """Output of a fit, its samples, and excluded targets."""

    suffixes = (".hff",)

    output: str = setting(
        REQUIRED, "The .hff file of the new model.", short="-o", panel=OUTPUT, metavar="FILE"
    )
    rounds: int = setting(
        1, "Largest number of rounds of sampling and fitting.", panel=SAMPLING, ge=1
    )
    keep_out: float = setting(
        0.0, "Fraction of the liquids that is predicted, not fitted.", panel=FITTING, ge=0, lt=1
    )
    seed: int = setting(
        0, "Seed of packing, velocities and choice of frames.", panel=SAMPLING, ge=0
    )
    run: str | None = setting(
        None, "Folder for the samples.", panel=OUTPUT, metavar="FOLDER", shown="OUTPUT-COMMAND"
    )

    def folder(self, command: str) -> Path:
        """Where samples are kept."""
        output = Path(self.output)
        return Path(self.run) if self.run else output.with_name(f"{output.stem}-{command}")

    def ensembles(self) -> Any:
        """What the given runs have sampled."""
        from hff_ase.dynamics.sampling.reading import read_ensembles

        folders = [Path(folder) for folder in self.runs]
        return read_ensembles(folders, unsettled=self.unsettled) if folders else ()

    def split_targets(self) -> tuple[list[Target], list[Target]]:
        """Targets that are fitted, and those that are predicted only."""
        from dataclasses import replace

        from hff_ase.calculators.finetune.targets import read_targets, split
        from hff_ase.dynamics.build import parse_recipe
        from hff_ase.dynamics.sampling.lookup import with_reference

        fitted, out = split(read_targets(Path(self.targets)), self.keep_out, self.seed)
        for target in (*fitted, *out):  # a slip is reported before hours of sampling
            parse_recipe(target.liquid)
        kept_out = [replace(target, kept_out=True) for target in out]
        return with_reference(fitted), with_reference(kept_out)


class AlignConfig(FitSettings):
    """How a model is aligned."""

    defaults = {"parameters": ("heads",)}  # noqa: RUF012


@command(AlignConfig, SAMPLING_PART, Part(AlignSettings, only=("steps", "learning_rate")))
def align(config: AlignConfig, sampling: SamplingSettings, training: AlignSettings) -> None:
    """Align the densities of a model to experiment; repeat the command to continue."""
    from hff_ase.allocator import keep_memory
    from hff_ase.calculators.hybrid import HybridFF
    from hff_ase.dynamics.sampling.alignment_run import AlignmentRun
    from hff_ase.dynamics.simulation.stopping import stop_on_signals

    keep_memory()
    output = config.target()
    fitted, out = config.split_targets()
    calc = HybridFF.load(config.model, device=config.device)
    check_names(calc, config.parameters)
    run = AlignmentRun(
        calc,
        [*fitted, *out],
        config.folder("align"),
        parameters=list(config.parameters),
        rounds=config.rounds,
        sampling=sampling,
        training=training,
        ensembles=config.ensembles(),
    )
    with stop_on_signals() as stop, going_on():
        run.run(stop)
    run.write(output)
    typer.echo(output.with_suffix(".md").read_text().rstrip())
    typer.echo(f"{output}: {len(fitted)} densities aligned, {len(out)} kept out")


def check_names(calc: HybridFF, names: Iterable[str]) -> None:
    """Refuse parameters that the model does not have, before anything is sampled or read."""
    from hff_ase.parameter_vector import ParameterVector

    ParameterVector(calc.potential, [name for name in names if name != "lora"])


@contextlib.contextmanager
def going_on() -> Iterator[None]:
    """Say how to continue the whole command after a stopped sampling, not one of its runs."""
    from hff_ase.errors import StoppedError

    try:
        yield
    except StoppedError as error:
        name = Signals(error.exit_code - 128).name
        raise StoppedError(f"stopped by {name}; repeat the command to continue", name) from None
