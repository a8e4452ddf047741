"""``hff fit-physics``: physical terms fitted to decomposed interaction energies."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from hff_ase.cli.calibrate import ForceSettings
from hff_ase.cli.command import command
from hff_ase.cli.output import OutputFile
from hff_ase.settings import setting
from hff_ase.settings.common import OUTPUT
from hff_ase.settings.declare import REQUIRED
from hff_ase.training.fit_config import FITTING, PhysicsSettings


class FitPhysicsSettings(ForceSettings, OutputFile):
    """What is fitted, and to what."""

    suffixes = (".hff",)

    labels: tuple[str, ...] = setting(
        REQUIRED, "Dimers with labels of hff label eda.", positional=True, metavar="FILE"
    )
    molecules: tuple[str, ...] = setting(
        REQUIRED, "Whose parameters are fitted.", panel=FITTING, commas=True, metavar="NAME"
    )
    prior: str = setting(
        "ec-dmc-lipf6-pol",
        "Model of ByteFF-Pol's terms; molecules it lacks start from its most similar atoms.",
        panel=FITTING,
        metavar="MODEL",
    )
    held_out: tuple[str, ...] = setting(
        (),
        "Scans that are only predicted: their info[scan], or molecules such as EMC+Li.",
        panel=FITTING,
        commas=True,
        metavar="SCAN",
    )
    targets: str | None = setting(
        None,
        "Table of measured values that the fit keeps to: .csv or .yaml (docs/calibration.md).",
        panel=FITTING,
        metavar="FILE",
    )
    runs: tuple[str, ...] = setting(
        (),
        "Folders of runs of --prior (hff md, hff equilibrate) with the liquids of --targets.",
        panel=FITTING,
        commas=True,
        metavar="FOLDER",
    )
    output: str = setting(
        REQUIRED, "File for the model; FILE.json has the report.", short="-o", panel=OUTPUT,
        metavar="FILE",
    )  # fmt: skip


@command(FitPhysicsSettings, PhysicsSettings)
def fit_physics(config: FitPhysicsSettings, settings: PhysicsSettings) -> None:
    """Fit a molecule's physical terms to decomposed interaction energies of dimers."""
    from hff_ase.calculators.finetune import fit_physics
    from hff_ase.calculators.finetune.targets import read_targets
    from hff_ase.calculators.hybrid import HybridFF
    from hff_ase.dynamics.build.naming import name_of
    from hff_ase.dynamics.sampling.lookup import with_reference
    from hff_ase.dynamics.sampling.reading import read_ensembles
    from hff_ase.files import write_whole
    from hff_ase.reading import read_all

    output = config.target()
    frames = [atoms for path in config.labels for atoms in read_all(path)]
    prior = HybridFF.load(config.prior, dtype="float64")
    targets = with_reference(read_targets(Path(config.targets))) if config.targets else ()
    made, report = fit_physics(
        prior,
        frames,
        config.molecules,
        held_out=config.held_out,
        naming=name_of,
        forces=[atoms for path in config.frames for atoms in read_all(path)],
        ensembles=read_ensembles([Path(run) for run in config.runs]) if config.runs else (),
        targets=targets,
        settings=settings,
    )
    made.save(output, [frames[0]])
    text = json.dumps(report.as_dict(), indent=1)
    write_whole(Path(f"{output}.json"), text.encode())
    typer.echo("errors in kcal/mol, weighted as in the fit:")
    typer.echo(report.markdown().rstrip())
    typer.echo(f"{output}: {len(report.labels)} parameters of {', '.join(config.molecules)}")
