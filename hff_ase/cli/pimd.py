"""``hff pimd``: path integral molecular dynamics with i-PI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

SYSTEM, DYNAMICS, OUTPUT, RUN = "System and model", "Dynamics", "Output", "How it runs, restart"


def option(panel: str, text: str, *names: str) -> Any:
    """A command line option in a panel of the help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)


Text: TypeAlias = str | None
Number: TypeAlias = float | None
Count: TypeAlias = int | None


def pimd(
    structure: Annotated[
        Path | None,
        typer.Argument(help="Starting structure, anything ASE reads (the last frame)."),
    ] = None,
    model: Annotated[Text, option(SYSTEM, "Name of a model or an .hff file.")] = None,
    committee: Annotated[
        list[str] | None, option(SYSTEM, "Further model (the mean drives); may be given again.")
    ] = None,
    inner_model: Annotated[
        Text, option(SYSTEM, "Cheap model for every bead and inner step; see --contract, --mts.")
    ] = None,
    dtype: Annotated[Text, option(SYSTEM, "float32 or float64 (default: float32).")] = None,
    device: Annotated[Text, option(SYSTEM, "cpu or cuda (default: cpu).")] = None,
    outside_domain: Annotated[
        bool,
        option(
            SYSTEM, "Go on with molecules that the model was not trained on.", "--outside-domain"
        ),
    ] = False,
    beads: Annotated[Count, option(DYNAMICS, "Replicas (default: 32; 1 is classical).")] = None,
    contract: Annotated[
        Count, option(DYNAMICS, "Beads of the correction to the full model (default: all).")
    ] = None,
    mts: Annotated[
        Count, option(DYNAMICS, "Inner steps per timestep, which is the outer one (default: 1).")
    ] = None,
    temperature: Annotated[Number, option(DYNAMICS, "K (default: 300).")] = None,
    time: Annotated[Text, option(DYNAMICS, "Length with its unit: 5ps (default: 1ps).")] = None,
    timestep: Annotated[Text, option(DYNAMICS, "fs, or with its unit (default: 0.5fs).")] = None,
    ensemble: Annotated[Text, option(DYNAMICS, "nvt or npt (default: nvt).")] = None,
    thermostat: Annotated[
        Text, option(DYNAMICS, "pile_l, piglet (with --gle) or trpmd (default: pile_l).")
    ] = None,
    gle: Annotated[
        Text, option(DYNAMICS, "File with the A and C matrices of i-PI's nm_gle thermostat.")
    ] = None,
    tau: Annotated[Text, option(DYNAMICS, "Of the centroid's thermostat, fs (100).")] = None,
    pressure: Annotated[Number, option(DYNAMICS, "bar, for npt (default: 1).")] = None,
    tau_barostat: Annotated[Text, option(DYNAMICS, "fs (default: 500).")] = None,
    seed: Annotated[Count, option(DYNAMICS, "Of velocities and thermostats (default: 0).")] = None,
    start_from: Annotated[
        Text, option(DYNAMICS, "i-PI checkpoint with as many beads to start from.")
    ] = None,
    extras: Annotated[
        list[str] | None, option(OUTPUT, "charges or dipole to files; may be given again.")
    ] = None,
    rdf: Annotated[
        list[str] | None, option(OUTPUT, "Pair of elements such as O-H; may be given again.")
    ] = None,
    classical: Annotated[
        Path | None, option(OUTPUT, "Folder of a classical run (hff md, or --beads 1) to compare.")
    ] = None,
    properties_interval: Annotated[Count, option(OUTPUT, "Steps between rows (10).")] = None,
    trajectory_interval: Annotated[Count, option(OUTPUT, "Steps between frames (100).")] = None,
    checkpoint_interval: Annotated[
        Count, option(OUTPUT, "Steps between checkpoints (1000).")
    ] = None,
    output: Annotated[
        Text, option(OUTPUT, "Folder of the run (default: pimd).", "--output", "-o")
    ] = None,
    minimize: Annotated[
        bool | None,
        option(DYNAMICS, "Relax the start first (default: yes).", "--minimize/--no-minimize"),
    ] = None,
    transport: Annotated[
        Text, option(RUN, "ffdirect (in i-PI's process), socket or shm (default: ffdirect).")
    ] = None,
    drivers: Annotated[
        Count, option(RUN, "Drivers that share the beads, with socket or shm (default: 1).")
    ] = None,
    max_hours: Annotated[Number, option(RUN, "Stop after so long, to be resumed.")] = None,
    write_only: Annotated[
        bool, option(RUN, "Write input.xml and what it needs, and run nothing.", "--write-only")
    ] = False,
    progress: Annotated[
        bool, option(RUN, "Progress on the screen (default: yes).", "--progress/--no-progress")
    ] = True,
    resume: Annotated[
        Path | None, option(RUN, "Folder of a run to continue from its newest checkpoint.")
    ] = None,
    force: Annotated[bool, option(RUN, "Replace a run in the output folder.", "--force")] = False,
) -> None:
    """Run path integral dynamics with i-PI, all beads of a step in one forward pass."""
    given = {name: value for name, value in locals().items() if value not in (None, [])}
    if not outside_domain:
        given.pop("outside_domain")
    for name in ("write_only", "progress", "resume", "force"):
        given.pop(name, None)

    from hff_ase.dynamics.pimd.config import PIMDConfig
    from hff_ase.dynamics.pimd.force_fields import driver_path
    from hff_ase.dynamics.pimd.pimd_run import FEW_FRAMES, PIMDRun
    from hff_ase.errors import ConfigError

    if classical is not None:
        given["classical"] = str(classical.resolve())
    if resume is not None:
        compared = given.pop("classical", None)
        if given or write_only or force:
            name = next(iter(given), "write_only" if write_only else "force")
            raise ConfigError(f"expected --resume alone, got {name.replace('_', '-')} as well")
        PIMDRun.open(resume, compared).run(progress=progress)
        return
    for name in ("structure", "model"):
        if name not in given:
            raise ConfigError(f"expected a {name}, got none")
    given["structure"] = str(structure)
    run = PIMDRun.create(PIMDConfig.checked(given), force=force)
    if write_only:
        typer.echo(f"wrote {run['input.xml']}; run it there with: i-pi input.xml")
        if run.config.transport != "ffdirect":
            from hff_ase.dynamics.pimd.processes import driver_commands

            for command in driver_commands(run.config, run.address):
                typer.echo("and beside it: " + " ".join(command))
        typer.echo(f"driver: {driver_path()}")
        return
    summary = run.run(progress=progress)
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
