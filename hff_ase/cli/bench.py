"""``hff bench``: what a force call costs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hff_ase.bench.config import BenchConfig
from hff_ase.cli.command import command
from hff_ase.cli.output import OutputFolder
from hff_ase.settings.common import PrintSettings

if TYPE_CHECKING:
    from hff_ase.bench.results import BenchResult


class BenchSettings(BenchConfig, OutputFolder, PrintSettings):
    """What is measured, how, and where the results go."""

    results = "bench.json"
    defaults = {**BenchConfig.defaults, "output": "bench"}  # noqa: RUF012


@command(BenchSettings)
def bench(config: BenchSettings) -> None:
    """Measure a model: time per step, ns/day, memory, split by term; bench.json and bench.png.

    Steps are as in MD: neighbours are reused under the skin, atoms move between steps.
    """
    output = config.target()
    if config.threads is not None:  # read when torch and numba are imported
        os.environ["OMP_NUM_THREADS"] = str(config.threads)

    from hff_ase.allocator import keep_memory
    from hff_ase.bench.benchmark import run
    from hff_ase.reading import read_structure

    keep_memory()
    structures = None if config.structure is None else [read_structure(config.structure)]
    result = run(
        config, structures, progress=lambda message: typer.echo(f"{message} ...", err=True)
    )
    _save(result, output)
    _print(result, output, config.json_)


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
