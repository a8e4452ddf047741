"""``hff label``: labels from quantum chemistry, for structures or for clusters cut from boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from hff_ase.cli.command import Part, command
from hff_ase.cli.output import OutputFile
from hff_ase.labels.quantum_config import ENGINE, METHOD, EDASettings, PySCFSettings
from hff_ase.settings import setting
from hff_ase.settings.common import OUTPUT
from hff_ase.settings.declare import REQUIRED

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

    from hff_ase.labels import Labeller

CUT = "Clusters"
FEATURES = "electrolyte"  # the model whose features tell clusters apart
LABEL_SUFFIXES = (".extxyz", ".xyz", ".db")

app = typer.Typer(
    name="label", help="Label structures with quantum chemistry.", no_args_is_help=True
)


class LabelSettings(OutputFile):
    """Structures, the labelling method, and where it runs."""

    suffixes = LABEL_SUFFIXES

    structure: tuple[str, ...] = setting(
        REQUIRED, "Structures, in any format that ASE reads.", positional=True, metavar="FILE"
    )
    output: str = setting(
        REQUIRED,
        "File for the labels: .extxyz, or .db (also has the electrostatic potential).",
        short="-o",
        panel=OUTPUT,
        metavar="FILE",
    )
    every: int = setting(1, "Take every n-th frame.", ge=1)
    method: Literal["pyscf", "gfn2-xtb", "gfn1-xtb"] = setting(
        "pyscf", "Wave function and density functional methods, or tight binding.", panel=METHOD
    )
    workers: int = setting(
        1, "Number of worker processes or jobs; 0: this process.", panel=ENGINE, ge=0
    )
    threads: int = setting(1, "Per worker.", panel=ENGINE, ge=1)
    cluster: str | None = setting(
        None,
        "Yaml file that describes a dask-jobqueue cluster, such as Slurm.",
        panel=ENGINE,
        metavar="FILE",
    )
    store: str | None = setting(
        None, "Folder for finished labels.", panel=ENGINE, metavar="FOLDER", shown="OUTPUT.jobs"
    )
    retry_failed: bool = setting(False, "Retry structures that failed before.", panel=ENGINE)


class ClusterSettings(LabelSettings):
    """Which clusters are cut and chosen."""

    around: tuple[str, ...] = setting(
        (),
        "Element or formula of the central molecule.",
        panel=CUT,
        shown="every molecule",
        metavar="FORMULA",
    )
    min_atoms: int = setting(2, "Smallest size of a cluster.", panel=CUT, ge=1)
    max_atoms: int = setting(40, "Largest size of a cluster.", panel=CUT, ge=1)
    radius: float = setting(
        6.0, "Largest distance to the central molecule.", unit="Angstrom", panel=CUT, gt=0
    )
    formal_charges: dict[str, int] = setting(
        {}, "Formal charge of a molecule, e.g. BF4=-1.", panel=CUT, metavar="FORMULA=CHARGE"
    )
    number: int | None = setting(
        None, "Label the n most diverse.", short="-n", panel=CUT, shown="all", ge=1
    )
    features: str | None = setting(
        None,
        "Model whose features measure the diversity of clusters; none: distances only.",
        panel=CUT,
        shown="electrolyte, none where it does not know an element",
        metavar="MODEL",
    )
    seed: int | None = setting(None, "Seed to draw each size between the limits.", panel=CUT, ge=0)
    dry_run: bool = setting(False, "Only write the clusters, without labels.", panel=CUT)


@app.command()
@command(ClusterSettings, PySCFSettings)
def clusters(config: ClusterSettings, method: PySCFSettings) -> None:
    """Cut clusters of whole molecules out of boxes and label them."""
    from hff_ase.labels.clusters import clusters_of

    output = config.target()
    labeller = None if config.dry_run else _labeller(config, method)
    cut = list(
        clusters_of(
            _read(config),
            list(config.around) or None,
            seed=config.seed,
            charges=config.formal_charges,
            min_atoms=config.min_atoms,
            max_atoms=config.max_atoms,
            radius=config.radius,
        )
    )
    chosen = _diverse(cut, config.number, config.features)
    typer.echo(f"{len(cut)} clusters cut, {len(chosen)} distinct ones chosen", err=True)
    if labeller is None:
        _write_unlabelled(output, chosen)
        return
    _label(chosen, labeller, output, config)


@app.command()
@command(LabelSettings, PySCFSettings)
def frames(config: LabelSettings, method: PySCFSettings) -> None:
    """Label structures as they are: molecules, or boxes with GFN-xTB."""
    output = config.target()
    labeller = _labeller(config, method)
    _label(_read(config), labeller, output, config)


@app.command()
@command(Part(LabelSettings, without=("method",)), EDASettings)
def eda(config: LabelSettings, method: EDASettings) -> None:
    """Decompose interaction energies of molecules into components (ALMO-EDA)."""
    from hff_ase.errors import StructureError
    from hff_ase.labels import EDALabeller

    output = config.target()
    labeller = EDALabeller(**method.model_dump())
    frames = []
    for atoms in _read(config):
        try:
            frames.append(labeller.charged(atoms))
        except StructureError as error:
            raise StructureError(f"{atoms.info['source']}: {error}") from None
    _label(frames, labeller, output, config)


def _labeller(config: LabelSettings, method: PySCFSettings) -> Labeller:
    from hff_ase.labels import PySCFLabeller, XTBLabeller

    if config.method == "gfn2-xtb":
        return XTBLabeller("GFN2-xTB")
    if config.method == "gfn1-xtb":
        return XTBLabeller("GFN1-xTB")
    return PySCFLabeller(**method.model_dump())


def _read(config: LabelSettings) -> list[Atoms]:
    from hff_ase.errors import StructureError
    from hff_ase.reading import read_all, with_own_names

    sources, every = [Path(file) for file in config.structure], config.every
    structures: list[Atoms] = []
    for path in sources:
        for number, atoms in enumerate(read_all(path, every)):
            atoms.info.setdefault("source", f"{path.name.split('.')[0]}:{number * every}")
            atoms.calc = None
            structures.append(with_own_names(atoms, f" in {path}"))
    if not structures:
        raise StructureError(f"expected structures in {', '.join(map(str, sources))}, got none")
    return structures


def _diverse(cut: list[Atoms], number: int | None, features: str | None) -> list[Atoms]:
    """The most diverse of the clusters, duplicates dropped."""
    from hff_ase.errors import StructureError
    from hff_ase.labels import choose_diverse

    if not cut:
        raise StructureError("expected clusters within the size limits, got none")
    return [cut[k] for k in choose_diverse(_features(cut, features), number)]


def _features(cut: list[Atoms], model: str | None) -> np.ndarray:
    """What tells the clusters apart: features of a model, or distances."""
    from hff_ase.labels import cluster_features, distance_features

    if model == "none":
        return distance_features(cut)
    import torch

    from hff_ase.checkpoint import load_model
    from hff_ase.models import model_path

    potential, _ = load_model(model_path(model or FEATURES), torch.float32)
    present = {symbol for atoms in cut for symbol in atoms.symbols}
    unknown = present - set(potential.elements or present)
    if unknown and model is None:
        names = " ".join(sorted(unknown))
        typer.echo(f"{FEATURES} does not know {names}: distinguished by distances", err=True)
        return distance_features(cut)
    return cluster_features(potential, cut)


def _write_unlabelled(output: Path, structures: list[Atoms]) -> None:
    from hff_ase.data.frames import frames_text
    from hff_ase.errors import ConfigError
    from hff_ase.files import write_whole

    if output.suffix == ".db":
        raise ConfigError("expected an .extxyz output with --dry-run, got .db")
    write_whole(output, frames_text(structures).encode())


def _label(
    structures: list[Atoms], labeller: Labeller, output: Path, config: LabelSettings
) -> None:
    """Label, showing progress, and write what came of it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from hff_ase.labels import label_frames, write_labelled
    from hff_ase.labels.output import counts

    store = Path(config.store) if config.store else output.with_name(output.name + ".jobs")
    cluster = None if config.cluster is None else Path(config.cluster)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("labels", total=len(structures))

        def show(finished: int, n_failed: int, total: int) -> None:
            text = "labels" if n_failed == 0 else f"labels ({n_failed} failed)"
            bar.update(task, completed=finished, total=total, description=text)

        labels = label_frames(
            structures,
            labeller,
            store,
            workers=config.workers,
            threads=config.threads,
            cluster=cluster,
            retry_failed=config.retry_failed,
            progress=show,
        )
    write_labelled(output, structures, labels)
    found = counts(labels)
    typer.echo(f"{output}: {found['labelled']} labelled, {found['failed']} failed")
    for atoms, label in zip(structures, labels, strict=True):
        if not label.ok:
            origin = atoms.info.get("cut_from", atoms.info.get("source", atoms.symbols))
            typer.echo(f"  {origin}: {label.info['error']}")
