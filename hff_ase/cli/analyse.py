"""``hff analyse``: properties of a run, or of trajectories of any program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hff_ase.cli.md import Count, Number, Switch, Text, option

if TYPE_CHECKING:
    from hff_ase.dynamics.properties.state import StatePoint

WHAT, FOREIGN, OUTPUT = "What", "Trajectories of other programs", "Output"


def analyse(
    source: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folder of hff md, hff equilibrate or hff properties; or trajectory files of one "
            "liquid, each a replica.",
            show_default=False,
        ),
    ] = None,
    properties: Annotated[
        Text,
        option(
            WHAT, "Such as density,viscosity,conductivity (default: all usual ones).", "--property"
        ),
    ] = None,
    list_: Annotated[
        bool, option(WHAT, "Print the properties that there are, and what they need.", "--list")
    ] = False,
    skip: Annotated[
        Text, option(WHAT, "Beginning that is left out in any case, such as 20ps.")
    ] = None,
    recipe: Annotated[
        Text, option(WHAT, "What the liquid is, for measured values (default: as the box says).")
    ] = None,
    charge: Annotated[
        list[str] | None,
        option(WHAT, "Formal charge of a species, such as Li=1; may be given again."),
    ] = None,
    convergence: Annotated[
        Switch,
        option(
            WHAT,
            "Also shorter stretches and single replicas (default: yes).",
            "--convergence/--no-convergence",
        ),
    ] = None,
    topology: Annotated[
        Path | None, option(FOREIGN, "File with elements and molecules: pdb, tpr, psf, data ...")
    ] = None,
    temperature: Annotated[Number, option(FOREIGN, "K.")] = None,
    interval: Annotated[
        Text, option(FOREIGN, "Time between frames, such as 1ps (default: as the file says).")
    ] = None,
    unwrapped: Annotated[
        bool,
        option(
            FOREIGN, "Positions go on across the boundary; take them as they are.", "--unwrapped"
        ),
    ] = False,
    frames: Annotated[Count, option(FOREIGN, "Read so many frames of each file at most.")] = None,
    output: Annotated[
        Path | None,
        option(OUTPUT, "Folder for properties.json (default: the run's).", "--output", "-o"),
    ] = None,
    json_: Annotated[bool, option(OUTPUT, "Print properties.json.", "--json")] = False,
    progress: Annotated[
        Switch, option(OUTPUT, "Progress on the screen (default: yes).", "--progress/--no-progress")
    ] = None,
) -> None:
    """Compute properties with honest errors and write properties.json.

    What a run is too short for is refused, with how much longer it has to be.
    """
    from hff_ase.dynamics.properties import analyse as compute
    from hff_ase.dynamics.properties.reading import Reading, read_sources
    from hff_ase.dynamics.properties.table import as_dict, lines, write_analysis
    from hff_ase.errors import ConfigError

    if list_:
        typer.echo(_listed())
        return
    if not source:
        raise ConfigError("expected the folder of a run or trajectories, got none")
    given = Reading(
        recipe=recipe,
        charges=_charges(charge or []),
        skip=_picoseconds(skip) or 0.0,
        topology=topology,
        temperature=temperature,
        interval=_picoseconds(interval),
        wrapped=not unwrapped,
        frames=frames,
    )
    states, place = read_sources(source, given)
    names = [name.strip() for name in (properties or "").split(",") if name.strip()]
    with _bar(states, progress is not False and not json_) as read:
        found = compute(states, names, convergence=convergence is not False, progress=read)
    content = as_dict(found)
    target = output or place
    target.mkdir(parents=True, exist_ok=True)
    written = write_analysis(found, target)
    if json_:
        import json

        typer.echo(json.dumps(content, indent=1))
        return
    typer.echo("\n".join([*lines(content), str(written)]))


class _bar:  # noqa: N801
    """A progress bar over the frames of state points; gives what to call with each chunk."""

    def __init__(self, states: list[StatePoint], shown: bool) -> None:
        from rich.console import Console

        from hff_ase.progress import ProgressBar

        self._done = 0
        self._bar = ProgressBar("analyse", None, shown, Console(stderr=True))

    def __enter__(self) -> Any:
        self._bar.__enter__()
        return self._read

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def _read(self, n_frames: int) -> None:
        self._done += n_frames
        if self._bar.due():
            self._bar.update(f"{self._done} frames read", self._done)


def _picoseconds(text: str | None) -> float | None:
    """A time with its unit in ps."""
    from hff_ase.dynamics.config import parse_time

    return None if text is None else 1e-3 * parse_time(text)


def _charges(given: list[str]) -> dict[str, float] | None:
    """Charges such as ``Li=1`` by species."""
    from hff_ase.errors import ConfigError

    found = {}
    for entry in given:
        name, separator, value = entry.rpartition("=")
        try:
            if not separator:
                raise ValueError
            found[name] = float(value)
        except ValueError:
            raise ConfigError(f"expected a charge such as Li=1, got {entry!r}") from None
    return found or None


def _listed() -> str:
    """Every property with what it needs."""
    from hff_ase.dynamics.properties.plans import PLANS

    told = []
    for name, plan in PLANS.items():
        held = f"constant {plan.held}" if plan.held else "any"
        told.append(f"{name:<16} {plan.title}: {held}, {', '.join(plan.stored)}")
    return "\n".join(told)
