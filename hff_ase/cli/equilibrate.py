"""``hff equilibrate``: packed boxes in, settled liquids out."""

from __future__ import annotations

from pathlib import Path

from hff_ase.cli.command import Part, command_of_run
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.equilibration.protocol import ALONE, DEFAULTS, FOREIGN, Protocol
from hff_ase.dynamics.replicas.config import SEVERAL, ReplicaSettings
from hff_ase.settings import Given, setting
from hff_ase.settings.common import OUTPUT, RunSwitches


class EquilibrateSwitches(RunSwitches):
    """Where the boxes and the run go."""

    output: str = setting(
        "ready.extxyz",
        "File for the settled boxes, .extxyz.",
        short="-o",
        panel=OUTPUT,
        metavar="FILE",
    )
    run: str | None = setting(
        None,
        "Folder of the run.",
        panel=OUTPUT,
        metavar="FOLDER",
        shown="the output without its suffix",
    )


@command_of_run(
    Part(MDConfig, without=(*FOREIGN, *ALONE, "output"), several=SEVERAL, defaults=DEFAULTS),
    ReplicaSettings,
    Protocol,
    switches=EquilibrateSwitches,
)
def equilibrate(given: Given, switches: EquilibrateSwitches) -> None:
    """Equilibrate packed boxes: heat, cool, then constant pressure until they have settled.

    Ends with exit code 3 and the reason where they have not within --max-time.
    """
    from hff_ase.allocator import keep_memory
    from hff_ase.cli.output import check_output
    from hff_ase.dynamics.equilibration import EquilibrationConfig, EquilibrationRun
    from hff_ase.errors import ConfigError

    keep_memory()
    target = Path(switches.output)
    if switches.resume is not None:
        if "structure" in given or switches.force:
            raise ConfigError("expected --resume without structures and --force, got both")
        made = EquilibrationRun.resume(switches.resume, settings=given)
        if "output" not in switches.model_fields_set:
            target = made.folder.path / "ready.extxyz"
    else:
        folder = switches.run or str(target.with_suffix(""))
        config = EquilibrationConfig.load(given, {"output": folder})
        if "structure" not in given:
            raise ConfigError("expected a packed box, got none")
        check_output(target, (".extxyz", ".xyz"), switches.force)
        made = EquilibrationRun.start(config, force=switches.force)
    made.run()
    number = made.write_ready(target)
    print_done(target, number)


def print_done(target: Path, number: int) -> None:
    """Print the results."""
    import typer

    typer.echo(f"{target}: {number} settled {'box' if number == 1 else 'boxes'}")
