"""``hff pimd``: path integral molecular dynamics with i-PI."""

from __future__ import annotations

from typing import Any

import typer

from hff_ase.cli.command import command_of_run
from hff_ase.dynamics.pimd.config import PIMDConfig
from hff_ase.settings import Given, setting
from hff_ase.settings.common import RESTART, RunSwitches


class PIMDSwitches(RunSwitches):
    """How a run is started or resumed."""

    write_only: bool = setting(
        False, "Only write input.xml and the files it needs; do not run.", panel=RESTART
    )


@command_of_run(PIMDConfig, switches=PIMDSwitches)
def pimd(given: Given, switches: PIMDSwitches) -> None:
    """Run path-integral dynamics with i-PI, all beads in one forward pass."""
    from hff_ase.dynamics.pimd.pimd_run import PIMDRun
    from hff_ase.errors import ConfigError

    if switches.resume is not None:
        asked = given.without("classical", "progress")
        refused = [*asked, *(n for n in ("write_only", "force") if getattr(switches, n))]
        if refused:
            name = refused[0].replace("_", "-")
            raise ConfigError(f"expected --resume alone, got {name} as well")
        run = PIMDRun.open(switches.resume, given.get("classical"))
        run.run(progress=given.get("progress", True))
        return
    run = PIMDRun.create(PIMDConfig.load(given), force=switches.force)
    if switches.write_only:
        _say_how_to_run(run)
    else:
        _report(run.run(progress=run.config.progress))


def _say_how_to_run(run: Any) -> None:
    from hff_ase.dynamics.pimd.force_fields import driver_path

    typer.echo(f"wrote {run['input.xml']}; run it there with: i-pi input.xml")
    if run.config.transport != "ffdirect":
        from hff_ase.dynamics.pimd.processes import driver_commands

        for command in driver_commands(run.config, run.address):
            typer.echo("and beside it: " + " ".join(command))
    typer.echo(f"driver: {driver_path()}")


def _report(summary: dict[str, Any]) -> None:
    from hff_ase.dynamics.pimd.pimd_run import FEW_FRAMES

    frames = summary["rdf_frames"]
    if frames is not None and frames < FEW_FRAMES:
        typer.echo(
            f"rdf.dat is of {frames} frames of each bead, mostly noise: a longer run, or a shorter "
            "--trajectory-interval, gives more"
        )
    for name, species in summary["quantum_kinetic_energy"].items():
        typer.echo(
            f"{name}: kinetic energy {species['kinetic[meV/atom]']:.1f} meV/atom, "
            f"{species['over_classical']:.2f} of classical"
        )
