"""``hff evaluate``: errors of a model on labelled frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ase import Atoms

    from hff_ase.evaluation.report import Errors

FILES = ("errors.json", "errors.md", "parity.png")
OUTPUT = "Output"


def evaluate(
    model: Annotated[str, typer.Argument(help="A shipped model's name or a .hff file.")],
    frames: Annotated[
        list[Path], typer.Argument(help="Labelled frames: .extxyz[.xz], .db, ... or folders.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder to write to.", rich_help_panel=OUTPUT)
    ] = Path("evaluation"),
    reference_shift: Annotated[
        bool,
        typer.Option(
            "--reference-shift",
            help="Fit energies per element to the energy errors and take them off first.",
        ),
    ] = False,
    without: Annotated[
        list[str] | None, typer.Option(help="A term to leave out (may be repeated).")
    ] = None,
    every: Annotated[int, typer.Option(help="Use every so many frames of each file.")] = 1,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Refuse broken frames and labels first.")
    ] = True,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Precision of the networks.")] = "float32",
    force: Annotated[
        bool, typer.Option("--force", help="Replace earlier results.", rich_help_panel=OUTPUT)
    ] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print as JSON.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Error tables and parity plots, per property, element, system and energy term."""
    from hff_ase.errors import ConfigError

    if every < 1:
        raise ConfigError(f"expected --every of at least 1, got {every}")
    _check_folder(output, force)

    from hff_ase.allocator import keep_memory
    from hff_ase.calculators import HybridFF
    from hff_ase.data.checks import check_frames
    from hff_ase.evaluation.report import collect

    keep_memory()
    calculator = HybridFF.load(model, device=device, dtype=dtype, without=without or ())
    structures = _read(frames, every)
    if check:
        check_frames(structures)
    errors = collect(calculator, structures, reference_shift=reference_shift)
    if not errors.properties:
        raise ConfigError(f"expected labels of what {model} predicts, got none in the frames")
    _save(errors, output, f"{calculator.info.name} on {len(structures)} frames")
    _print(errors, output, json_)


def _read(paths: list[Path], every: int) -> list[Atoms]:
    from hff_ase.data.frames import read_path

    return [atoms for path in paths for of_file in read_path(path) for atoms in of_file[::every]]


def _check_folder(output: Path, force: bool) -> None:
    """Refuse a folder that could not be written at the end."""
    import os

    from hff_ase.errors import ConfigError

    if output.exists() and not output.is_dir():
        raise ConfigError(f"expected a folder for the results, got the file {output}")
    if (output / FILES[0]).exists() and not force:
        raise ConfigError(f"expected a folder without results (or --force), got {output}")
    place = output if output.is_dir() else output.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ConfigError(f"expected a folder that can be written to, got {place}")


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
            "the energies have another zero than the model's: with --reference-shift (energies per "
            f"element fitted and taken off) their RMSE is {shifted:.2f} meV/atom",
            soft_wrap=True,
        )
    if errors.element_shift:
        shift = ", ".join(f"{name} {value:.4f}" for name, value in errors.element_shift.items())
        console.print(f"energies shifted per element (eV): {shift}")
    console.print(f"{output}: {', '.join(FILES)}")
