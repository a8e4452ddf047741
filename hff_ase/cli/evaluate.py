"""``hff evaluate``: errors of a model on labelled frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hff_ase.cli.command import command
from hff_ase.cli.output import OutputFolder
from hff_ase.settings import setting
from hff_ase.settings.common import PrintSettings, TermSettings
from hff_ase.settings.declare import REQUIRED

if TYPE_CHECKING:
    from ase import Atoms

    from hff_ase.evaluation.report import Errors

FILES = ("errors.json", "errors.md", "parity.png")


class EvaluateSettings(TermSettings, OutputFolder, PrintSettings):
    """A model and labelled frames."""

    results = FILES[0]
    defaults = {"output": "evaluation"}  # noqa: RUF012

    model: str = setting(
        REQUIRED, "A shipped model's name or an .hff file.", positional=True, metavar="MODEL"
    )
    frames: tuple[str, ...] = setting(
        REQUIRED,
        "Labelled frames: .extxyz[.xz], .db, ... or folders.",
        positional=True,
        metavar="PATH",
    )
    reference_shift: bool = setting(
        False, "Fit one energy per element to the energy errors and subtract it first."
    )
    every: int = setting(1, "Use every n-th frame of each file.", ge=1)
    check: bool = setting(True, "Check for broken frames and labels first.")


@command(EvaluateSettings)
def evaluate(config: EvaluateSettings) -> None:
    """Write error tables and parity plots, by property, element, system and energy term."""
    from hff_ase.errors import ConfigError

    output = config.target()

    from hff_ase.allocator import keep_memory
    from hff_ase.calculators import HybridFF
    from hff_ase.data.checks import check_frames
    from hff_ase.evaluation.report import collect

    keep_memory()
    calculator = HybridFF.load(
        config.model, device=config.device, dtype=config.dtype, without=config.without
    )
    structures = _read([Path(path) for path in config.frames], config.every)
    if config.check:
        check_frames(structures)
    errors = collect(calculator, structures, reference_shift=config.reference_shift)
    if not errors.properties:
        raise ConfigError(
            f"expected labels of what {config.model} predicts, got none in the frames"
        )
    _save(errors, output, f"{calculator.info.name} on {len(structures)} frames")
    _print(errors, output, config.json_)


def _read(paths: list[Path], every: int) -> list[Atoms]:
    from hff_ase.data.frames import read_path

    return [atoms for path in paths for of_file in read_path(path) for atoms in of_file[::every]]


def _save(errors: Errors, output: Path, title: str) -> None:
    from hff_ase.errors import ConfigError
    from hff_ase.evaluation.parity import save_parity
    from hff_ase.evaluation.tables import as_json, markdown_tables
    from hff_ase.files import write_whole

    try:
        output.mkdir(exist_ok=True)
        save_parity(errors, output / "parity.png", title)
        write_whole(output / "errors.md", f"# {title}\n\n{markdown_tables(errors)}\n".encode())
        write_whole(output / "errors.json", as_json(errors).encode())
    except OSError as error:
        raise ConfigError(f"cannot write to {output}: {error.strerror}") from error


def _print(errors: Errors, output: Path, json_: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from hff_ase.evaluation.tables import as_json, tables

    if json_:
        typer.echo(as_json(errors), nl=False)
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)  # a file cuts nothing
    for made in tables(errors):
        table = Table(title=made.title, title_justify="left")
        for index, heading in enumerate(made.header):
            table.add_column(heading, justify="right" if index else "left", overflow="fold")
        for row in made.rows:
            table.add_row(*row)
        console.print(table)
    if errors.other_reference:
        shifted = 1e3 * (errors.rmse_with_shift or 0.0)
        console.print(
            "energies and model differ in their zero: with --reference-shift (energies per "
            f"element fitted and taken off) their RMSE is {shifted:.2f} meV/atom",
            soft_wrap=True,
        )
    if errors.element_shift:
        shift = ", ".join(f"{name} {value:.4f}" for name, value in errors.element_shift.items())
        console.print(f"energies shifted per element (eV): {shift}")
    console.print(f"{output}: {', '.join(FILES)}")
