"""``hff bench``: what a force call costs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hff_ase.bench import BenchResult

SYSTEM, MODEL, MEASUREMENT, OUTPUT = "Systems", "Model", "Measurement", "Output"


def bench(
    structure: Annotated[
        Path | None,
        typer.Argument(help="What to measure, anything ASE reads (the last frame); or --atoms."),
    ] = None,
    atoms: Annotated[
        str | None,
        typer.Option(
            help="Boxes of about so many atoms: 1000,10000,100000 (default: 1000).",
            rich_help_panel=SYSTEM,
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="What fills them (default: 1.0 M LiPF6 in EC:DMC 1:1 v/v).",
            rich_help_panel=SYSTEM,
            show_default=False,
        ),
    ] = None,
    replicas: Annotated[
        str,
        typer.Option(
            "--replicas",
            "--batch",
            help="So many copies in one batch; several: 1,8,64.",
            rich_help_panel=SYSTEM,
        ),
    ] = "1",
    model: Annotated[
        str, typer.Option(help="Name of a model or an .hff file.", rich_help_panel=MODEL)
    ] = "electrolyte",
    kernels: Annotated[
        str, typer.Option(help="auto or reference.", rich_help_panel=MODEL)
    ] = "auto",
    device: Annotated[str, typer.Option(help="cpu or cuda.", rich_help_panel=MODEL)] = "cpu",
    dtype: Annotated[
        str, typer.Option(help="float32 or float64.", rich_help_panel=MODEL)
    ] = "float32",
    skin: Annotated[
        float, typer.Option(help="Of the neighbour list, A.", rich_help_panel=MODEL)
    ] = 1.0,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Of the CPU (default: all).", rich_help_panel=MEASUREMENT, show_default=False
        ),
    ] = None,
    timestep: Annotated[str, typer.Option(help="For ns/day.", rich_help_panel=MEASUREMENT)] = "1fs",
    repeats: Annotated[int, typer.Option(help="Blocks of steps.", rich_help_panel=MEASUREMENT)] = 5,
    stress: Annotated[
        bool, typer.Option(help="Compute the stress too.", rich_help_panel=MEASUREMENT)
    ] = True,
    md_steps: Annotated[
        int,
        typer.Option(
            help="Steps of MD, also to count neighbour searches; 0: times without them.",
            rich_help_panel=MEASUREMENT,
        ),
    ] = 100,
    md: Annotated[
        str | None,
        typer.Option(
            help="Time the batched MD engine too, searches included: nvt,npt.",
            rich_help_panel=MEASUREMENT,
            show_default=False,
        ),
    ] = None,
    overhead: Annotated[
        bool,
        typer.Option(
            "--overhead", help="ASE's MD against bare force calls.", rich_help_panel=MEASUREMENT
        ),
    ] = False,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder.", rich_help_panel=OUTPUT),
    ] = Path("bench"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is there.", rich_help_panel=OUTPUT)
    ] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print as JSON.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Measure a model: time per step, ns/day, memory, split by term; bench.json and bench.png.

    Steps are as in MD: neighbours are reused under the skin, atoms move between steps.
    """
    from hff_ase.errors import ConfigError

    if structure is not None and (atoms is not None or recipe is not None):
        raise ConfigError("expected either a structure or --atoms and --recipe, got both")
    sizes, copies = _numbers("--atoms", atoms or "1000"), _numbers("--replicas", replicas)
    _check_folder(output, force)
    if threads is not None:  # read when torch and numba are imported
        if threads < 1:
            raise ConfigError(f"expected at least 1 thread, got {threads}")
        os.environ["OMP_NUM_THREADS"] = str(threads)

    from hff_ase.allocator import keep_memory
    from hff_ase.bench.benchmark import RECIPE, run
    from hff_ase.dynamics.config import parse_time
    from hff_ase.reading import read_structure

    keep_memory()
    result = run(
        model,
        None if structure is None else [read_structure(structure)],
        sizes=sizes,
        recipe=recipe or RECIPE,
        replicas=copies,
        kernels=kernels,
        device=device,
        dtype=dtype,
        skin=skin,
        threads=threads,
        timestep=parse_time(timestep),
        stress=stress,
        repeats=repeats,
        md_steps=md_steps,
        overhead=overhead,
        ensembles=[] if md is None else md.split(","),
        progress=lambda message: typer.echo(f"{message} ...", err=True),
    )
    _save(result, output)
    _print(result, output, json_)


def _save(result: BenchResult, output: Path) -> None:
    from hff_ase.bench.plot import save_plot
    from hff_ase.bench.report import as_json
    from hff_ase.errors import ConfigError
    from hff_ase.files import write_whole

    try:
        output.mkdir(exist_ok=True)
        write_whole(output / "bench.json", as_json(result).encode())
        save_plot(result, output / "bench.png")
    except OSError as error:
        raise ConfigError(f"cannot write to {output}: {error.strerror}") from error


def _print(result: BenchResult, output: Path, json_: bool) -> None:
    from rich.console import Console

    from hff_ase.bench.report import as_json, tables

    if json_:
        typer.echo(as_json(result), nl=False)
        return
    console = Console(highlight=False)
    for table in tables(result):
        console.print(table)
    console.print(f"{output}: bench.json, bench.png")


def _numbers(option: str, text: str) -> list[int]:
    """The whole numbers of a list such as 1000,10000."""
    from hff_ase.errors import ConfigError

    try:
        numbers = [int(part.replace("_", "")) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ConfigError(
            f"expected {option} as positive whole numbers such as 1,8,64, got {text!r}"
        )
    return numbers


def _check_folder(output: Path, force: bool) -> None:
    """Refuse a folder that could not be written at the end.

    Raises:
        ConfigError: it holds results already, is a file, or cannot be made.
    """
    from hff_ase.errors import ConfigError

    if output.exists() and not output.is_dir():
        raise ConfigError(f"expected a folder for the results, got the file {output}")
    if (output / "bench.json").exists() and not force:
        raise ConfigError(f"expected a folder without results (or --force), got {output}")
    place = output if output.is_dir() else output.parent
    if not place.is_dir():
        raise ConfigError(f"expected an existing folder for {output}, got none at {place}")
    if not os.access(place, os.W_OK):
        raise ConfigError(f"expected a folder that can be written to, got {place}")
