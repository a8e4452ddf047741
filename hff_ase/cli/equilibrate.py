"""``hff equilibrate``: packed boxes in, settled liquids out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hff_ase.cli.md import Count, Number, Switch, Text, option

SYSTEM, PROTOCOL = "System and model", "Protocol"
OUTPUT, RUN = "Output", "Restart"


def equilibrate(
    structure: Annotated[
        list[Path] | None,
        typer.Argument(help="Packed boxes of hff build, or any periodic.", show_default=False),
    ] = None,
    model: Annotated[Text, option(SYSTEM, "Name of a model or an .hff file.")] = None,
    device: Annotated[Text, option(SYSTEM, "cpu or cuda (default: cpu).")] = None,
    dtype: Annotated[Text, option(SYSTEM, "float32 or float64 (default: float32).")] = None,
    temperature: Annotated[
        Text, option(SYSTEM, "K (default: 298.15); or several: 280,300,320.")
    ] = None,
    pressure: Annotated[Text, option(SYSTEM, "bar (default: 1); or several.")] = None,
    replicas: Annotated[
        Count, option(SYSTEM, "Number in all, dealt over structures x temperatures x pressures.")
    ] = None,
    timestep: Annotated[Number, option(PROTOCOL, "fs (default: 2).")] = None,
    hydrogen_mass: Annotated[Number, option(PROTOCOL, "amu (default: 3).")] = None,
    heat: Annotated[
        Number,
        option(
            PROTOCOL, "Hot phase: so many times the temperature (default: 1.5; 2 with cations)."
        ),
    ] = None,
    hot: Annotated[Text, option(PROTOCOL, "Hot phase at constant volume (default: 10ps).")] = None,
    hot_max: Annotated[
        Text, option(PROTOCOL, "At most, while cations keep their shells (default: 100ps).")
    ] = None,
    cool: Annotated[Text, option(PROTOCOL, "Cooling (default: 3ps).")] = None,
    soft: Annotated[Text, option(PROTOCOL, "Cell rescaling before MTK (default: 10ps).")] = None,
    least: Annotated[
        Text, option(PROTOCOL, "Settled for at least so long (default: 20ps).")
    ] = None,
    max_time: Annotated[
        Text, option(PROTOCOL, "Of constant pressure, settled or not (default: 200ps).")
    ] = None,
    shells: Annotated[
        Switch,
        option(
            PROTOCOL, "First shells of cations must settle (default: yes).", "--shells/--no-shells"
        ),
    ] = None,
    seed: Annotated[Count, option(PROTOCOL, "Of velocities and noise (default: 0).")] = None,
    output: Annotated[
        Path | None, option(OUTPUT, "Settled boxes, an .extxyz file.", "--output", "-o")
    ] = None,
    run: Annotated[
        Path | None, option(OUTPUT, "Folder of the run (default: OUTPUT without its suffix).")
    ] = None,
    progress: Annotated[
        Switch, option(OUTPUT, "Progress on the screen (default: yes).", "--progress/--no-progress")
    ] = None,
    max_hours: Annotated[Number, option(RUN, "Stop after so many hours of this sitting.")] = None,
    resume: Annotated[Path | None, option(RUN, "Folder of a run to continue.")] = None,
    force: Annotated[bool, option(RUN, "Replace a run and its output.", "--force")] = False,
) -> None:
    """Equilibrate packed boxes: hot, cooled, at constant pressure until they have settled.

    Ends with exit code 3 and the reason where they have not within --max-time.
    """
    given = {name: value for name, value in locals().items() if value not in (None, [])}
    for name in ("structure", "output", "run", "resume", "force"):
        given.pop(name, None)
    from hff_ase.allocator import keep_memory
    from hff_ase.cli.output import check_output
    from hff_ase.dynamics.equilibration import EquilibrationConfig, EquilibrationRun
    from hff_ase.errors import ConfigError

    keep_memory()
    if resume is not None:
        if structure or force:
            raise ConfigError("expected --resume without structures and --force, got both")
        made = EquilibrationRun.resume(resume, settings=given)
        target = output or made.folder.path / "ready.extxyz"
    else:
        if not structure:
            raise ConfigError("expected a packed box, got none")
        target = output or Path("ready.extxyz")
        check_output(target, (".extxyz", ".xyz"), force)
        files = [str(path) for path in structure]
        folder = run or target.with_suffix("")
        given |= {"structure": files, "output": str(folder)}
        made = EquilibrationRun.start(EquilibrationConfig.from_settings(given), force=force)
    made.run()
    number = made.write_ready(target)
    typer.echo(f"{target}: {number} settled {'box' if number == 1 else 'boxes'}")
