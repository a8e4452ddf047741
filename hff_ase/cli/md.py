"""``hff md``: molecular dynamics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

SYSTEM, DYNAMICS, START = "System and model", "Dynamics", "Start"
OUTPUT, SAFETY, RUN = "Output", "What stops a run", "Settings file, restart"
COMMITTEE, REPLICAS, INNER = "Committee", "Many runs in one batch", "Multiple time steps"


def option(panel: str, text: str, *names: str) -> Any:
    """A command line option in a panel of the help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)


Text: TypeAlias = str | None
Number: TypeAlias = float | None
Count: TypeAlias = int | None
Switch: TypeAlias = bool | None


def md(
    structure: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Starting structure, anything ASE reads (the last frame); or several.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[Text, option(SYSTEM, "Name of a model or an .hff file.")] = None,
    dtype: Annotated[Text, option(SYSTEM, "float32 or float64 (default: float32).")] = None,
    device: Annotated[Text, option(SYSTEM, "cpu or cuda (default: cpu).")] = None,
    without: Annotated[
        list[str] | None,
        option(SYSTEM, "Energy term to leave out; may be given again."),
    ] = None,
    outside_domain: Annotated[
        bool,
        option(
            SYSTEM, "Go on with molecules that the model was not trained on.", "--outside-domain"
        ),
    ] = False,
    engine: Annotated[
        Text,
        option(DYNAMICS, "torch, ase (any calculator) or auto (default: auto, torch if it can)."),
    ] = None,
    ensemble: Annotated[
        Text,
        option(
            DYNAMICS,
            "nve, nvt (Langevin), nvt-nhc (Nose-Hoover chain), npt or npt-scr (default: nvt).",
        ),
    ] = None,
    time: Annotated[Text, option(DYNAMICS, "Length with its unit: 50ps, 0.5ns, 200fs.")] = None,
    stage: Annotated[
        list[str] | None,
        option(DYNAMICS, "ENSEMBLE:TIME instead of the two above; may be given again: npt:20ps."),
    ] = None,
    temperature: Annotated[
        Text, option(DYNAMICS, "K (default: 300); or several: 280,300,320.")
    ] = None,
    pressure: Annotated[
        Text, option(DYNAMICS, "bar, for npt (default: 1); or several: 1,500.")
    ] = None,
    replicas: Annotated[
        Count,
        option(
            REPLICAS,
            "Number in all, dealt over structures x temperatures x pressures (default: one each).",
        ),
    ] = None,
    timestep: Annotated[Text, option(DYNAMICS, "fs, or with its unit (default: 1fs).")] = None,
    hydrogen_mass: Annotated[
        Number, option(DYNAMICS, "amu; taken from the heavy atom each hydrogen is bound to.")
    ] = None,
    inner_model: Annotated[
        Text, option(INNER, "Cheap model (name or .hff file) for the inner steps (r-RESPA).")
    ] = None,
    inner_without: Annotated[
        list[str] | None,
        option(INNER, "Or term to leave out in the inner steps; may be given again."),
    ] = None,
    inner_steps: Annotated[
        Count, option(INNER, "Inner steps per --timestep, which is the outer one (default: 1).")
    ] = None,
    friction: Annotated[
        Number, option(DYNAMICS, "Of Langevin dynamics, 1/ps (default: 1).")
    ] = None,
    tdamp: Annotated[Text, option(DYNAMICS, "Time constant of chains, fs (default: 100).")] = None,
    pdamp: Annotated[
        Text, option(DYNAMICS, "Time constant of the barostat, fs (default: 1000).")
    ] = None,
    velocities: Annotated[
        Text, option(START, "random, or file (keep momenta) (default: random).")
    ] = None,
    seed: Annotated[
        Count, option(START, "Of velocities and Langevin dynamics (default: 0).")
    ] = None,
    minimize: Annotated[
        Switch, option(START, "Relax the atoms first (default: yes).", "--minimize/--no-minimize")
    ] = None,
    minimizer: Annotated[Text, option(START, "fire or lbfgs (default: lbfgs).")] = None,
    minimize_steps: Annotated[Count, option(START, "At most so many steps (default: 200).")] = None,
    fmax: Annotated[Number, option(START, "Or down to this force, eV/A (default: 0.1).")] = None,
    output: Annotated[
        Text, option(OUTPUT, "Folder of the run (default: md).", "--output", "-o")
    ] = None,
    statistics_interval: Annotated[
        Count, option(OUTPUT, "Steps between rows (default: 10).")
    ] = None,
    trajectory_interval: Annotated[
        Count, option(OUTPUT, "Steps between frames (default: 100).")
    ] = None,
    checkpoint_interval: Annotated[
        Count,
        option(OUTPUT, "Steps between checkpoints (default: 1000); one a minute in any case."),
    ] = None,
    trajectory_format: Annotated[
        Text, option(OUTPUT, "extxyz, traj (ASE) or xtc (compact) (default: extxyz).")
    ] = None,
    pressure_interval: Annotated[
        Count, option(OUTPUT, "Steps between rows of pressure.dat, the tensor (default: none).")
    ] = None,
    trajectory_forces: Annotated[
        Switch,
        option(
            OUTPUT, "Forces in frames (default: no).", "--trajectory-forces/--no-trajectory-forces"
        ),
    ] = None,
    progress: Annotated[
        Switch, option(OUTPUT, "Progress on the screen (default: yes).", "--progress/--no-progress")
    ] = None,
    plot: Annotated[
        Switch, option(OUTPUT, "Write md.png (default: yes).", "--plot/--no-plot")
    ] = None,
    max_displacement: Annotated[
        Number, option(SAFETY, "Of an atom per step, A (default: 0.5).")
    ] = None,
    min_distance: Annotated[Number, option(SAFETY, "Between two atoms, A (default: 0.5).")] = None,
    max_temperature: Annotated[Number, option(SAFETY, "K (default: 5000).")] = None,
    bond_watch: Annotated[
        Text,
        option(SAFETY, "Broken or formed bonds: stop, report (go on) or off (default: stop)."),
    ] = None,
    uncertainty_interval: Annotated[
        Count,
        option(
            SAFETY,
            "Steps between estimates of the force error by the model's companion, 0 for none "
            "(default: 200).",
        ),
    ] = None,
    max_hours: Annotated[
        Number, option(SAFETY, "Hours on the clock; then it stops as by SIGTERM, to be resumed.")
    ] = None,
    committee: Annotated[
        list[str] | None,
        option(COMMITTEE, "Further model, asked at the same atoms; may be given again."),
    ] = None,
    committee_drive: Annotated[
        Text, option(COMMITTEE, "first (the model) or mean of all moves the atoms (default: first)")
    ] = None,
    committee_interval: Annotated[
        Count, option(COMMITTEE, "Steps between looks at the spread (default: 10; 1 for mean).")
    ] = None,
    max_spread: Annotated[
        Number,
        option(COMMITTEE, "Of the force on an atom, eV/A; more stops the run or is collected."),
    ] = None,
    spread_quantile: Annotated[
        Number, option(COMMITTEE, "Of the atoms' spreads to compare (default: 1, the largest).")
    ] = None,
    collect: Annotated[
        Text, option(COMMITTEE, "File for frames above --max-spread, in the output folder.")
    ] = None,
    collect_spacing: Annotated[
        Count, option(COMMITTEE, "Steps at least between collected frames (default: 100).")
    ] = None,
    config: Annotated[
        Path | None,
        option(RUN, "Yaml file with any of these settings; the command line overrides it."),
    ] = None,
    resume: Annotated[
        Path | None,
        option(RUN, "Folder of a run to continue; started there if a structure is given."),
    ] = None,
    extend: Annotated[
        Text,
        option(RUN, "With --resume: so much longer (10ps), or a further stage (nvt:10ps)."),
    ] = None,
    force: Annotated[bool, option(RUN, "Replace a run in the output folder.", "--force")] = False,
) -> None:
    """Run molecular dynamics; a killed run continues bit for bit with --resume FOLDER."""
    given = {name: value for name, value in locals().items() if value not in (None, [])}
    if not outside_domain:
        given.pop("outside_domain")
    for name in ("config", "resume", "force"):
        given.pop(name, None)
    if structure:
        files = [str(path) for path in structure]
        given["structure"] = files[0] if len(files) == 1 else files
    if "stage" in given:
        given["stages"] = given.pop("stage")

    from hff_ase.allocator import keep_memory
    from hff_ase.dynamics.config import merge, read_settings

    keep_memory()
    _run(merge(read_settings(config) if config else {}, given), resume, force)


def _run(settings: dict[str, Any], resume: Path | None, force: bool) -> None:
    """Start or resume what the settings ask for: one run, or many in a batch."""
    from hff_ase.dynamics.replicas.config import asks_for_replicas
    from hff_ase.dynamics.reporters.run_folder import RunFolder
    from hff_ase.errors import ConfigError

    if resume is None:
        if "extend" in settings:
            raise ConfigError("expected --resume FOLDER with --extend, got none")
        _start(settings, force)
        return
    if force:
        raise ConfigError("expected either --resume or --force, got both")
    if str(settings.get("output", resume)) != str(resume):
        raise ConfigError(f"expected one folder, got --resume {resume} and another output")
    settings.pop("output", None)
    if "structure" in settings and not RunFolder(resume).has_run:
        _start({**settings, "output": str(resume)}, force=False)
    elif _has_replicas(resume):
        from hff_ase.dynamics.replicas import ReplicaRun

        ReplicaRun.resume(resume, settings=settings).run()
    elif asks_for_replicas(settings):
        raise ConfigError(f"expected one system as in {resume}, got settings of replicas")
    else:
        from hff_ase.dynamics.md import MDRun

        MDRun.resume(resume, settings=settings).run()


def _start(settings: dict[str, Any], force: bool) -> None:
    from hff_ase.dynamics.replicas.config import asks_for_replicas

    if asks_for_replicas(settings):
        from hff_ase.dynamics.replicas import ReplicaConfig, ReplicaRun

        ReplicaRun.start(ReplicaConfig.from_settings(settings), force=force).run()
    else:
        from hff_ase.dynamics.config import MDConfig
        from hff_ase.dynamics.md import MDRun

        settings = {key: value for key, value in settings.items() if key != "replicas"}
        MDRun.start(MDConfig(**settings), force=force).run()


def _has_replicas(folder: Path) -> bool:
    from hff_ase.dynamics.replicas.replica_run import has_replicas
    from hff_ase.dynamics.reporters.run_folder import CHECKPOINT, RunFolder
    from hff_ase.dynamics.simulation.checkpoint import load_checkpoint

    return has_replicas(load_checkpoint(RunFolder(folder)[CHECKPOINT]))
