"""``hff distill``: a student from the mean of several teachers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hff_ase.cli.command import Part, command_of_run
from hff_ase.cli.output import OutputFile
from hff_ase.dynamics.config import MDConfig
from hff_ase.settings import Given, setting
from hff_ase.settings.common import OUTPUT
from hff_ase.settings.declare import REQUIRED
from hff_ase.training.config import DISTILLING, TrainingSettings
from hff_ase.training.sections import AboutSection

if TYPE_CHECKING:
    from ase import Atoms

TEACHERS, STUDENT, SAMPLE = "Teachers and frames", "Student", "Frames from dynamics"
SAMPLING = ("time", "temperature", "ensemble", "timestep", "trajectory_interval")
DEFAULTS = {"time": "5ps", "ensemble": "nvt"}


class DistillTraining(TrainingSettings):
    """How the student is trained."""

    defaults = DISTILLING

    model: AboutSection = AboutSection()


class DistillSettings(OutputFile):
    """Teachers, student and frames."""

    suffixes = (".hff",)

    output: str = setting(
        REQUIRED, "The .hff file of the student.", short="-o", panel=OUTPUT, metavar="FILE"
    )
    teachers: tuple[str, ...] = setting(
        REQUIRED,
        "Models (names or .hff files), or factories of any ASE calculator (module:function, "
        "file.py:function).",
        panel=TEACHERS,
        commas=True,
        metavar="MODEL",
    )
    student: str = setting(
        "get-small",
        "get-small, get-smaller, ... or an .hff file to start from.",
        panel=STUDENT,
        metavar="MODEL",
    )
    frames: tuple[str, ...] = setting(
        (),
        "Files or folders of structures; their labels are not used.",
        panel=TEACHERS,
        commas=True,
        metavar="PATH",
    )
    sample: tuple[str, ...] = setting(
        (),
        "Starting structures of runs with the first teacher, which give the frames.",
        panel=SAMPLE,
        commas=True,
        metavar="FILE",
    )
    terms_of: str | None = setting(
        None,
        "Model whose physical terms (charges, Coulomb, dispersion ...) the student gets.",
        panel=STUDENT,
        metavar="MODEL",
        shown="the first teacher of this package",
    )
    hold_out: float = setting(
        0.1, "Fraction of the frames to validate on.", panel=TEACHERS, ge=0, lt=1
    )
    run: str | None = setting(
        None,
        "Folder for labels and training.",
        panel=OUTPUT,
        metavar="FOLDER",
        shown="OUTPUT-distill",
    )


@command_of_run(
    Part(MDConfig, only=SAMPLING, defaults=DEFAULTS), DistillTraining, switches=DistillSettings
)
def distill(given: Given, config: DistillSettings) -> None:
    """Train a fast model on the mean of several others; repeat the command to continue."""
    import os

    from hff_ase.allocator import keep_memory
    from hff_ase.calculators.finetune.distill import distill as distil
    from hff_ase.calculators.finetune.distill import read_structures
    from hff_ase.dynamics.simulation.stopping import stop_on_signals
    from hff_ase.errors import ConfigError
    from hff_ase.files import write_whole

    keep_memory()
    sampling, training = given.only(*SAMPLING), given.only(*DistillTraining.names())
    checked = DistillTraining.load(training)
    MDConfig.load(sampling.over(DEFAULTS))
    output = config.target()
    if not config.frames and not config.sample:
        raise ConfigError("expected --frames or --sample, got neither")
    folder = Path(config.run) if config.run else output.with_name(f"{output.stem}-distill")
    structures = read_structures(config.frames) if config.frames else []
    for index, start in enumerate(config.sample):
        options = sampling.over({**DEFAULTS, "device": checked.device, "structure": start})
        structures += sampled(folder / f"md-{index}", config.teachers[0], options)
    about = {"model": {"name": output.stem}}
    with stop_on_signals() as stop:
        distil(
            config.student,
            config.teachers,
            structures,
            output=folder,
            settings=training.over(about, DistillTraining),
            hold_out=config.hold_out,
            device=checked.device,
            like=config.terms_of,
            report=_say_labelled,
            stop=stop,
        )
    write_whole(output, (folder / "training" / "model.hff").read_bytes())
    typer.echo(f"{output}: {os.path.getsize(output) / 1e6:.2g} MB, the log is in {folder}/training")


def sampled(folder: Path, model: str, settings: Given) -> list[Atoms]:
    """Frames of a run of dynamics, which is resumed if it had been started."""
    from hff_ase.calculators.factories import make_calculator, names_factory
    from hff_ase.data.frames import read_frames
    from hff_ase.dynamics.md import MDRun
    from hff_ase.dynamics.reporters.run_folder import RunFolder, trajectory_name

    made: dict[str, Any] = {"model": model, "plot": False}
    calc = make_calculator(model) if names_factory(model) else None
    asked = Given(made).over(settings)
    if RunFolder(folder).has_run:
        run = MDRun.resume(folder, calc, settings=asked)
    else:
        run = MDRun.start(MDConfig.load(asked, {"output": str(folder)}), calc=calc)
    run.run()
    return read_frames(folder / trajectory_name(run.config.trajectory_format))


def _say_labelled(done: int, total: int) -> None:
    typer.echo(f"labelled {done} of {total} frames", err=True)
