"""``hff distill``: a student from the mean of several teachers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from ase import Atoms

SEVERAL = ("--teachers", "--frames", "--sample", "--set")
TEACHERS, STUDENT, SAMPLE = "Teachers and frames", "Student", "Frames from dynamics"


class SeveralValues(TyperCommand):
    """A command whose options of ``several`` take all values up to the next option."""

    several: tuple[str, ...] = SEVERAL

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, with ``--teachers a b`` read as ``--teachers a --teachers b``."""
        return super().parse_args(ctx, repeated(args, self.several))


def repeated(args: Sequence[str], several: Sequence[str] = SEVERAL) -> list[str]:
    """Arguments with an option of several values before each of them."""
    out: list[str] = []
    option = None  # whose further values follow
    first = False
    for arg in args:
        if arg.startswith("-") and len(arg) > 1:
            option = arg if arg in several else None
            first = True
            out.append(arg)
        else:
            out += [arg] if option is None or first else [option, arg]
            first = False
    return out


def distill(
    teachers: Annotated[
        list[str],
        typer.Option(
            help="Models (names or .hff files), or factories of any ASE calculator "
            "(module:function, file.py:function); one or more.", rich_help_panel=TEACHERS),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .hff file of the student.")
    ],
    student: Annotated[
        str,
        typer.Option(help="get-small, get-smaller, ... or an .hff file to start from.",
                     rich_help_panel=STUDENT),
    ] = "get-small",
    frames: Annotated[
        list[str] | None,
        typer.Option(help="Files or folders of structures; their labels are not used.",
                     rich_help_panel=TEACHERS),
    ] = None,
    sample: Annotated[
        list[str] | None,
        typer.Option(help="Starting structures of runs of the first teacher, for frames.",
                     rich_help_panel=SAMPLE),
    ] = None,
    time: Annotated[
        str, typer.Option(help="Length of each run.", rich_help_panel=SAMPLE)
    ] = "5ps",
    temperature: Annotated[float, typer.Option(help="K.", rich_help_panel=SAMPLE)] = 300.0,
    ensemble: Annotated[
        str, typer.Option(help="nve, nvt, nvt-nhc or npt.", rich_help_panel=SAMPLE)
    ] = "nvt",
    timestep: Annotated[
        str, typer.Option(help="fs, or with its unit.", rich_help_panel=SAMPLE)
    ] = "1fs",
    interval: Annotated[
        int, typer.Option(min=1, help="Steps between frames.", rich_help_panel=SAMPLE)
    ] = 100,
    terms_of: Annotated[
        str | None,
        typer.Option(help="Model whose physical terms (charges, Coulomb, dispersion ...) the "
                     "student gets (default: the first teacher of this package).",
                     rich_help_panel=STUDENT),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of the training (default: 20000).",
                     rich_help_panel=STUDENT),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Yaml file with sections of a training (loss, optimizer, ...).",
                     rich_help_panel=STUDENT),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="section.key=value, over the file.", rich_help_panel=STUDENT),
    ] = None,
    hold_out: Annotated[
        float, typer.Option(help="Part of the frames to validate on.", rich_help_panel=TEACHERS)
    ] = 0.1,
    work: Annotated[
        Path | None, typer.Option(help="Folder of labels and training (default: OUTPUT-distill).")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:  # fmt: skip
    """Train a fast model on the mean of several others; started again, it goes on."""
    import os

    from hff_ase.allocator import keep_memory
    from hff_ase.calculators.finetune.distill import distill as distil
    from hff_ase.calculators.finetune.distill import read_structures
    from hff_ase.cli.output import check_output
    from hff_ase.dynamics.simulation.stopping import stop_on_signals
    from hff_ase.errors import ConfigError
    from hff_ase.files import write_whole

    keep_memory()
    check_output(output, (".hff",), force)
    if not frames and not sample:
        raise ConfigError("expected --frames or --sample, got neither")
    folder = work or output.with_name(f"{output.stem}-distill")
    settings = training_settings(config, set_ or (), steps, output.stem)
    models = [name for given in teachers for name in given.split(",") if name]
    structures = read_structures(frames) if frames else []
    options = {
        "time": time, "temperature": temperature, "ensemble": ensemble, "timestep": timestep,
        "trajectory_interval": interval, "device": device,
    }  # fmt: skip
    for index, start in enumerate(sample or ()):
        structures += sampled(folder / f"md-{index}", start, models[0], options)
    with stop_on_signals() as stop:
        distil(
            student, models, structures, output=folder, settings=settings, hold_out=hold_out,
            device=device, like=terms_of, report=_say_labelled, stop=stop,
        )  # fmt: skip
    write_whole(output, (folder / "training" / "model.hff").read_bytes())
    typer.echo(f"{output}: {os.path.getsize(output) / 1e6:.2g} MB, the log is in {folder}/training")


def training_settings(
    config: Path | None, overrides: Sequence[str], steps: int | None, name: str
) -> dict[str, Any]:
    """Sections of a training from a file, overrides and the length."""
    import os

    from hff_ase.training.settings import read_yaml

    settings = read_yaml(config or os.devnull, overrides)[0]
    if steps is not None:
        schedule = dict(settings.get("schedule") or {})
        schedule.pop("epochs", None)
        settings["schedule"] = {**schedule, "steps": steps}
    model = dict(settings.get("model") or {})
    return {**settings, "model": {"name": name, **model}}


def sampled(folder: Path, start: str, model: str, options: dict[str, Any]) -> list[Atoms]:
    """Frames of a run of dynamics, which goes on if it was begun."""
    from hff_ase.calculators.factories import make_calculator, names_factory
    from hff_ase.data.frames import read_frames
    from hff_ase.dynamics.config import MDConfig
    from hff_ase.dynamics.md import MDRun
    from hff_ase.dynamics.reporters.run_folder import RunFolder, trajectory_name

    settings = {"structure": start, "model": model, "output": str(folder), "plot": False, **options}
    calc = make_calculator(model) if names_factory(model) else None
    if RunFolder(folder).has_run:
        settings.pop("output")
        run = MDRun.resume(folder, calc, settings=settings)
    else:
        run = MDRun.start(MDConfig(**settings), calc=calc)
    run.run()
    return read_frames(folder / trajectory_name(run.config.trajectory_format))


def _say_labelled(done: int, total: int) -> None:
    typer.echo(f"labelled {done} of {total} frames", err=True)
