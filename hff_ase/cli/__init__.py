"""The command line: one thin function per file over the Python class that does the work."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import warnings
from typing import NoReturn, TextIO

import typer

from hff_ase._version import __version__
from hff_ase.cli.align import align
from hff_ase.cli.analyse import analyse
from hff_ase.cli.bench import bench
from hff_ase.cli.build import build
from hff_ase.cli.calibrate import calibrate
from hff_ase.cli.compare import compare
from hff_ase.cli.conditioning import conditioning
from hff_ase.cli.distill import distill
from hff_ase.cli.equilibrate import equilibrate
from hff_ase.cli.evaluate import evaluate
from hff_ase.cli.finetune import finetune
from hff_ase.cli.fit_physics import fit_physics
from hff_ase.cli.import_bamboo import import_bamboo
from hff_ase.cli.import_byteff import import_byteff
from hff_ase.cli.import_phyneo import import_phyneo
from hff_ase.cli.info import info
from hff_ase.cli.ipi_path import ipi_path
from hff_ase.cli.label import app as label
from hff_ase.cli.lammps import lammps
from hff_ase.cli.md import md
from hff_ase.cli.models import models
from hff_ase.cli.pimd import pimd
from hff_ase.cli.properties import properties
from hff_ase.cli.report import report
from hff_ase.cli.respond import respond
from hff_ase.cli.sweep import sweep
from hff_ase.cli.train import train
from hff_ase.errors import HFFError, HFFWarning

app = typer.Typer(
    name="hff",
    help="Hybrid force field for liquid electrolytes: build boxes, run MD, label, train, inspect.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
SIMULATE, TRAIN, MODELS = "Simulate", "Label and train", "Models and installation"
PROPERTIES = "Properties"
app.command(rich_help_panel=SIMULATE)(build)
app.command(rich_help_panel=SIMULATE)(equilibrate)
app.command(rich_help_panel=SIMULATE)(md)
app.command(rich_help_panel=SIMULATE)(pimd)
app.command(rich_help_panel=SIMULATE)(lammps)
app.command(rich_help_panel=SIMULATE)(sweep)
app.command(name="ipi-path", rich_help_panel=SIMULATE)(ipi_path)
app.command(rich_help_panel=PROPERTIES)(properties)
app.command(rich_help_panel=PROPERTIES)(analyse)
app.command(rich_help_panel=PROPERTIES)(report)
app.command(rich_help_panel=PROPERTIES)(compare)
app.add_typer(label, name="label", rich_help_panel=TRAIN)
app.command(rich_help_panel=TRAIN)(train)
app.command(rich_help_panel=TRAIN)(finetune)
app.command(rich_help_panel=TRAIN)(distill)
app.command(rich_help_panel=TRAIN)(align)
app.command(rich_help_panel=TRAIN)(calibrate)
app.command(rich_help_panel=TRAIN)(respond)
app.command(name="fit-physics", rich_help_panel=TRAIN)(fit_physics)
app.command(rich_help_panel=TRAIN)(conditioning)
app.command(rich_help_panel=TRAIN)(evaluate)
app.command(rich_help_panel=MODELS)(models)
app.command(rich_help_panel=MODELS)(bench)
app.command(name="import-bamboo", rich_help_panel=MODELS)(import_bamboo)
app.command(name="import-byteff", rich_help_panel=MODELS)(import_byteff)
app.command(name="import-phyneo", rich_help_panel=MODELS)(import_phyneo)
app.command(rich_help_panel=MODELS)(info)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options before the command."""


def main() -> None:
    """Run the command line: user errors give one line on stderr and exit code 2."""
    if not __debug__:  # ASE's reader of extended xyz skips its second line in an assertion
        _stop("expected Python with assertions, got -O or PYTHONOPTIMIZE: ASE needs them", 2)
    warnings.showwarning = _show_warning
    # OpenMP's threads wait for each other at full load for long by default: where other work has
    # one of the cores, a step of molecular dynamics then takes many times as long. Not waiting at
    # all is twice as slow on idle cores; a short wait is right in both cases. Read when torch
    # is imported; without effect where a policy is set.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        code = app(prog_name="hff", standalone_mode=False)  # None, or why it left early
    except typer.TyperException as error:
        _stop(_usage(error), 2)
    except HFFError as error:
        _stop(str(error), error.exit_code)
    except KeyboardInterrupt:
        _stop("interrupted", 130)
    except OSError as error:  # a disk, folder or device that no command expected to fail
        place = f" ({error.filename})" if error.filename else ""
        _stop(f"{error.strerror or error}{place}", 2)
    except SystemExit as leaving:
        code = leaving.code
    if code == 130:  # typer's answer to Ctrl-C, which it gives silently
        _stop("interrupted", 130)
    problem = _flush()
    if problem is not None and code in (None, 0):
        _stop(f"cannot print: {problem}", 2)
    sys.exit(code)


def _usage(error: typer.TyperException) -> str:
    """The error in a command's arguments, as far as typer can tell."""
    context, option = getattr(error, "ctx", None), getattr(error, "option_name", None)
    if context is None or option is None or getattr(error, "possibilities", None) is None:
        return error.format_message()
    known = [flag for one in context.command.params for flag in (*one.opts, *one.secondary_opts)]
    close = difflib.get_close_matches(option, known, n=2)
    hint = f"did you mean {' or '.join(close)}?" if close else f"see {context.command_path} --help"
    return f"unknown option {option}; {hint}"


def _stop(message: str, code: int) -> NoReturn:
    """Print one line on stderr and exit."""
    with contextlib.suppress(OSError):
        if message:
            typer.echo("hff: " + " ".join(message.split()), err=True)
    _flush()
    sys.exit(code)


def _flush() -> str | None:
    """Flush stdout; returns the reason if that fails.

    A reader that has gone (``hff models | head``) has seen what it wanted: no failure.
    """
    if sys.stdout is None:  # closed before Python started: >&-, some daemons
        return None
    try:
        sys.stdout.flush()
    except OSError as error:
        # what cannot be written must not be tried again while Python shuts down
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return None if isinstance(error, BrokenPipeError) else error.strerror
    return None


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own warnings as one line; others as usual."""
    if issubclass(category, HFFWarning):
        typer.echo(f"hff: warning: {message}", err=True)
    else:
        typer.echo(warnings.formatwarning(message, category, filename, lineno, line), err=True)
