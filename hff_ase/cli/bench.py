"""``hff bench``: what a force call costs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import Field, model_validator

from hff_ase.cli.command import command
from hff_ase.cli.output import OutputFolder
from hff_ase.settings import TimeStep, setting
from hff_ase.settings.common import MODEL, ModelSettings, PrintSettings

if TYPE_CHECKING:
    from hff_ase.bench import BenchResult

SYSTEM, MEASUREMENT = "Systems", "Measurement"


class BenchSettings(ModelSettings, OutputFolder, PrintSettings):
    """What is measured, and how."""

    results = "bench.json"
    defaults = {"output": "bench", "model": "electrolyte"}  # noqa: RUF012
    alternatives = (("structure",), ("atoms", "recipe"))

    structure: str | None = setting(
        None,
        "What to measure, anything ASE reads (the last frame); or --atoms.",
        positional=True,
        metavar="FILE",
    )
    atoms: tuple[Annotated[int, Field(ge=1)], ...] = setting(
        (1000,), "Boxes of about so many atoms.", panel=SYSTEM, commas=True
    )
    recipe: str = setting("1.0 M LiPF6 in EC:DMC 1:1 v/v", "What fills them.", panel=SYSTEM)
    replicas: tuple[Annotated[int, Field(ge=1)], ...] = setting(
        (1,), "So many copies in one batch.", panel=SYSTEM, commas=True
    )
    kernels: Literal["auto", "reference"] = setting(
        "auto", "Compiled kernels where there are some, or plain torch.", panel=MODEL
    )
    skin: float = setting(1.0, "Of the neighbour list.", unit="Angstrom", panel=MODEL, ge=0)
    threads: int | None = setting(None, "Of the CPU.", panel=MEASUREMENT, shown="all", ge=1)
    timestep: TimeStep = setting(1.0, "For ns/day.", unit="fs", panel=MEASUREMENT)
    repeats: int = setting(5, "Blocks of steps.", panel=MEASUREMENT, ge=1)
    stress: bool = setting(True, "Compute the stress too.", panel=MEASUREMENT)
    md_steps: int = setting(
        100,
        "Steps of MD, also to count neighbour searches; 0: times without them.",
        panel=MEASUREMENT,
        ge=0,
    )
    ensembles: tuple[str, ...] = setting(
        (),
        "Time the batched MD engine too, searches included: nvt,npt.",
        panel=MEASUREMENT,
        commas=True,
        metavar="ENSEMBLE",
    )
    overhead: bool = setting(False, "ASE's MD against bare force calls.", panel=MEASUREMENT)

    @model_validator(mode="after")
    def _one_source(self) -> BenchSettings:
        if self.structure is not None and {"atoms", "recipe"} & self.model_fields_set:
            raise ValueError("expected either a structure or --atoms and --recipe, got both")
        return self


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
    result = run(
        config.model or "",
        None if config.structure is None else [read_structure(config.structure)],
        sizes=config.atoms,
        recipe=config.recipe,
        replicas=config.replicas,
        kernels=config.kernels,
        device=config.device,
        dtype=config.dtype,
        skin=config.skin,
        threads=config.threads,
        timestep=config.timestep,
        stress=config.stress,
        repeats=config.repeats,
        md_steps=config.md_steps,
        overhead=config.overhead,
        ensembles=config.ensembles,
        progress=lambda message: typer.echo(f"{message} ...", err=True),
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
