"""``hff lammps``: a LAMMPS input with forces from a model, on many MPI ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

SYSTEM, RUN = "System and model", "How it runs"


def option(panel: str, text: str, *names: str) -> Any:
    """A command line option in a panel of the help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)


def lammps(
    input: Annotated[
        Path,
        typer.Argument(
            help="LAMMPS input with a line 'fix ID all external pf/callback 1 1'.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None, option(SYSTEM, "Name of a model or an .hff file (default: electrolyte).")
    ] = None,
    types: Annotated[
        str | None,
        option(SYSTEM, "Elements of the atom types: H,Li,C (default: read off the masses)."),
    ] = None,
    charge: Annotated[
        float | None, option(SYSTEM, "Total charge of the box, e (default: 0).")
    ] = None,
    dtype: Annotated[str | None, option(SYSTEM, "float32 or float64 (default: float32).")] = None,
    device: Annotated[
        str | None,
        option(SYSTEM, "cpu, or cuda: a card for each rank of a machine (default: cpu)."),
    ] = None,
    skin: Annotated[
        float | None,
        option(SYSTEM, "How far neighbours are listed beyond cutoffs, A (default: 1)."),
    ] = None,
    ranks: Annotated[
        int | None,
        option(RUN, "MPI processes to start (default: 1, or those that mpiexec or srun started)."),
    ] = None,
    variables: Annotated[
        list[str] | None,
        option(RUN, "NAME=VALUE of a variable of the input; may be given again.", "--variable"),
    ] = None,
    log: Annotated[str | None, option(RUN, "LAMMPS' log file (default: log.lammps).")] = None,
) -> None:
    """Run a LAMMPS input on MPI ranks, with charges and the long range exact."""
    given = {name: value for name, value in locals().items() if value is not None}
    ranks = given.pop("ranks", None)
    if types is not None:
        given["types"] = types.replace(",", " ").split()

    from hff_ase.dynamics.lammps.launch import launch
    from hff_ase.dynamics.lammps.run import LammpsSettings

    launch(LammpsSettings(**given), ranks)
