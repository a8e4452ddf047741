"""``hff analyse``: properties of a run, or of trajectories of any program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hff_ase.cli.command import command
from hff_ase.settings import Duration, Kelvin, Settings, parse_time, setting
from hff_ase.settings.common import OUTPUT, PrintSettings

if TYPE_CHECKING:
    from hff_ase.dynamics.properties.state import StatePoint

WHAT, FOREIGN = "What", "Trajectories of other programs"


class PropertySettings(Settings):
    """Which properties."""

    property_: tuple[str, ...] = setting(
        (),
        "Properties, such as density,viscosity,conductivity.",
        panel=WHAT,
        commas=True,
        shown="all usual ones",
        alias="property",
    )


class AnalyseSettings(PropertySettings, PrintSettings):
    """What is analysed, and how."""

    source: tuple[str, ...] = setting(
        (),
        "Folder of hff md, hff equilibrate or hff properties; or trajectory files of one liquid, "
        "each a replica.",
        positional=True,
        metavar="PATH",
    )
    list_: bool = setting(
        False,
        "List the available properties and what they need.",
        panel=WHAT,
        alias="list",
    )
    skip: Duration | None = setting(
        None, "Leave out at least this much of the beginning, such as 20ps.", panel=WHAT
    )
    recipe: str | None = setting(
        None,
        "Recipe of the liquid, to look up measured values.",
        panel=WHAT,
        shown="as the box says",
    )
    formal_charges: dict[str, float] = setting(
        {}, "Formal charge of a species, such as Li=1.", panel=WHAT, metavar="SPECIES=CHARGE"
    )
    convergence: bool = setting(True, "Also analyse shorter parts and single replicas.", panel=WHAT)
    topology: str | None = setting(
        None,
        "Topology file with elements and molecules: pdb, tpr, psf, data ...",
        panel=FOREIGN,
        metavar="FILE",
    )
    temperature: Kelvin | None = setting(
        None, "Temperature of the trajectory.", unit="K", panel=FOREIGN
    )
    interval: Duration | None = setting(
        None, "Time between frames, such as 1ps.", panel=FOREIGN, shown="as the file says"
    )
    unwrapped: bool = setting(
        False, "Positions are unwrapped already; use them as they are.", panel=FOREIGN
    )
    max_frames: int | None = setting(
        None, "Largest number of frames to read from each file.", panel=FOREIGN, ge=1
    )
    output: str | None = setting(
        None,
        "Folder for properties.json.",
        short="-o",
        panel=OUTPUT,
        metavar="FOLDER",
        shown="the run's; of FILE, FILE-properties",
    )
    progress: bool = setting(True, "Show progress on the screen.", panel=OUTPUT)


@command(AnalyseSettings)
def analyse(config: AnalyseSettings) -> None:
    """Compute properties with their errors and write properties.json.

    What a run is too short for is refused, with how much longer it has to be.
    """
    from hff_ase.dynamics.properties import analyse as compute
    from hff_ase.dynamics.properties.reading import Reading, read_sources
    from hff_ase.dynamics.properties.table import as_dict, lines, write_analysis
    from hff_ase.errors import ConfigError

    if config.list_:
        typer.echo(_listed())
        return
    if not config.source:
        raise ConfigError("expected the folder of a run or trajectories, got none")
    given = Reading(
        recipe=config.recipe,
        charges=config.formal_charges or None,
        skip=_picoseconds(config.skip) or 0.0,
        topology=None if config.topology is None else Path(config.topology),
        temperature=config.temperature,
        interval=_picoseconds(config.interval),
        wrapped=not config.unwrapped,
        frames=config.max_frames,
    )
    states, place = read_sources([Path(path) for path in config.source], given)
    names = [name.strip() for name in config.property_]
    with _bar(states, config.progress and not config.json_) as read:
        found = compute(states, names, convergence=config.convergence, progress=read)
    content = as_dict(found)
    target = Path(config.output) if config.output else place
    target.mkdir(parents=True, exist_ok=True)
    written = write_analysis(found, target)
    if config.json_:
        import json

        typer.echo(json.dumps(content, indent=1))
        return
    typer.echo("\n".join([*lines(content), str(written)]))


class _bar:  # noqa: N801
    """A progress bar over the frames of state points; yields a function for each chunk."""

    def __init__(self, states: list[StatePoint], shown: bool) -> None:
        from rich.console import Console

        from hff_ase.progress import ProgressBar

        self._done = 0
        self._total = _frames_of(states) if shown else None
        self._bar = ProgressBar("analyse", self._total, shown, Console(stderr=True))

    def __enter__(self) -> Any:
        self._bar.__enter__()
        return self._read

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def _read(self, n_frames: int) -> None:
        self._done += n_frames
        if self._bar.due():
            step = self._done if self._total is None else min(self._done, self._total)
            self._bar.update(f"{self._done} frames read", step)  # some are read more than once


def _frames_of(states: list[StatePoint]) -> int | None:
    """Frames of all trajectories; None where that is not known before they are read."""
    from hff_ase.dynamics.observables.reading import count_frames

    counts = [
        count_frames(stretch.trajectory, stretch.frames)
        for state in states
        for stretch in {one.trajectory: one for one in state.stretches}.values()
        if stretch.trajectory is not None
    ]
    return None if None in counts else sum(one for one in counts if one is not None)


def _picoseconds(text: str | None) -> float | None:
    """A time with its unit in ps."""
    return None if text is None else 1e-3 * parse_time(text)


def _listed() -> str:
    """Every property with what it needs."""
    from hff_ase.dynamics.properties.plans import PLANS

    told = []
    for name, plan in PLANS.items():
        held = f"constant {plan.held}" if plan.held else "any"
        told.append(f"{name:<16} {plan.title}: {held}, {', '.join(plan.stored)}")
    return "\n".join(told)
