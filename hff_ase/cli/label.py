"""``hff label``: labels from quantum chemistry for structures, or for clusters cut out of boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

    from hff_ase.labels import Labeller

OUTPUT, METHOD, ENGINE, CUT = "Output", "Method", "Where it runs", "Clusters"
FEATURES = "electrolyte"  # the model whose features tell clusters apart
LABEL_SUFFIXES = (".extxyz", ".xyz", ".db")

app = typer.Typer(
    name="label", help="Label structures with quantum chemistry.", no_args_is_help=True
)

From = Annotated[
    list[Path], typer.Option("--from", help="Structures: anything ASE reads; may be repeated.")
]
Every = Annotated[int, typer.Option("--every", help="Take every n-th frame.")]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help=".extxyz, or .db with the potential.", rich_help_panel=OUTPUT
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Overwrite the output.", rich_help_panel=OUTPUT)
]
Method = Annotated[
    str, typer.Option("--method", help="pyscf, gfn2-xtb or gfn1-xtb.", rich_help_panel=METHOD)
]
Functional = Annotated[str, typer.Option(help="As PySCF names it, or hf.", rich_help_panel=METHOD)]
Basis = Annotated[str, typer.Option(help="As PySCF names it.", rich_help_panel=METHOD)]
Dispersion = Annotated[str, typer.Option(help="none, or d3bj to add it.", rich_help_panel=METHOD)]
Charges = Annotated[str, typer.Option(help="chelpg, mulliken or iao.", rich_help_panel=METHOD)]
ConstrainDipole = Annotated[
    bool,
    typer.Option(
        "--constrain-dipole",
        help="CHELPG charges with exactly the density's dipole.",
        rich_help_panel=METHOD,
    ),
]
Grid = Annotated[int, typer.Option(help="Level of the DFT grid, 0 to 9.", rich_help_panel=METHOD)]
NoFitting = Annotated[
    bool,
    typer.Option(
        "--no-density-fitting", help="Exact Coulomb and exchange.", rich_help_panel=METHOD
    ),
]
Memory = Annotated[int, typer.Option(help="MB per worker.", rich_help_panel=ENGINE)]
Device = Annotated[
    str, typer.Option(help="auto (GPU4PySCF if installed), cpu, gpu.", rich_help_panel=ENGINE)
]
Workers = Annotated[
    int, typer.Option(help="Processes or jobs; 0: this process.", rich_help_panel=ENGINE)
]
Threads = Annotated[int, typer.Option(help="Per worker.", rich_help_panel=ENGINE)]
Cluster = Annotated[
    Path | None,
    typer.Option(help="yaml: a dask-jobqueue cluster, such as Slurm.", rich_help_panel=ENGINE),
]
Store = Annotated[
    Path | None,
    typer.Option(
        help="Folder of finished labels; <output>.jobs where left out.", rich_help_panel=ENGINE
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", help="Try again what failed before.", rich_help_panel=ENGINE),
]


@app.command()
def clusters(
    sources: From,
    output: Output,
    around: Annotated[
        list[str] | None,
        typer.Option(
            help="Element or formula; may be repeated; every molecule where left out.",
            rich_help_panel=CUT,
        ),
    ] = None,
    min_atoms: Annotated[int, typer.Option(rich_help_panel=CUT)] = 2,
    max_atoms: Annotated[int, typer.Option(rich_help_panel=CUT)] = 40,
    radius: Annotated[
        float, typer.Option(help="Angstrom, to the chosen molecule.", rich_help_panel=CUT)
    ] = 6.0,
    charge: Annotated[
        list[str] | None,
        typer.Option(help="Formal charge of a molecule, e.g. BF4=-1; repeat.", rich_help_panel=CUT),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option("--number", "-n", help="Label the n most diverse.", rich_help_panel=CUT),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Model whose features tell clusters apart; none: distances alone "
            "(default: electrolyte, none where it does not know an element).",
            rich_help_panel=CUT,
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Draw each size between the limits.", rich_help_panel=CUT),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Write the clusters, label nothing.", rich_help_panel=CUT),
    ] = False,
    every: Every = 1,
    force: Force = False,
    method: Method = "pyscf",
    functional: Functional = "b3lyp",
    basis: Basis = "def2-svpd",
    dispersion: Dispersion = "none",
    charges: Charges = "chelpg",
    constrain_dipole: ConstrainDipole = False,
    grid: Grid = 3,
    no_density_fitting: NoFitting = False,
    memory: Memory = 4000,
    device: Device = "auto",
    workers: Workers = 1,
    threads: Threads = 1,
    cluster: Cluster = None,
    store: Store = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Cut clusters of whole molecules out of boxes and label them."""
    from hff_ase.cli.output import check_output
    from hff_ase.labels.clusters import clusters_of

    check_output(output, LABEL_SUFFIXES, force)
    options = _pyscf_options(
        functional, basis, dispersion, charges, constrain_dipole, grid, no_density_fitting
    )
    labeller = None if dry_run else _labeller(method, options, memory, device)
    limits = {"min_atoms": min_atoms, "max_atoms": max_atoms, "radius": radius}
    cut = list(
        clusters_of(
            _read(sources, every), around, seed=seed, charges=_charges(charge or []), **limits
        )
    )
    chosen = _diverse(cut, number, features)
    typer.echo(f"{len(cut)} clusters cut, {len(chosen)} distinct ones chosen", err=True)
    if labeller is None:
        _write_unlabelled(output, chosen)
        return
    _label(chosen, labeller, output, store, workers, threads, cluster, retry_failed)


@app.command()
def frames(
    sources: From,
    output: Output,
    every: Every = 1,
    force: Force = False,
    method: Method = "pyscf",
    functional: Functional = "b3lyp",
    basis: Basis = "def2-svpd",
    dispersion: Dispersion = "none",
    charges: Charges = "chelpg",
    constrain_dipole: ConstrainDipole = False,
    grid: Grid = 3,
    no_density_fitting: NoFitting = False,
    memory: Memory = 4000,
    device: Device = "auto",
    workers: Workers = 1,
    threads: Threads = 1,
    cluster: Cluster = None,
    store: Store = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Label structures as they are: molecules, or boxes with GFN-xTB."""
    from hff_ase.cli.output import check_output

    check_output(output, LABEL_SUFFIXES, force)
    options = _pyscf_options(
        functional, basis, dispersion, charges, constrain_dipole, grid, no_density_fitting
    )
    labeller = _labeller(method, options, memory, device)
    structures = _read(sources, every)
    _label(structures, labeller, output, store, workers, threads, cluster, retry_failed)


def _pyscf_options(
    functional: str,
    basis: str,
    dispersion: str,
    charges: str,
    constrain_dipole: bool,
    grid: int,
    no_density_fitting: bool,
) -> dict[str, object]:
    return {
        "functional": functional,
        "basis": basis,
        "dispersion": dispersion,
        "charges": charges,
        "constrain_dipole": constrain_dipole,
        "grid": grid,
        "density_fitting": not no_density_fitting,
    }


def _labeller(method: str, options: dict[str, object], memory: int, device: str) -> Labeller:
    from hff_ase.errors import ConfigError
    from hff_ase.labels import PySCFLabeller, XTBLabeller

    if method == "pyscf":
        return PySCFLabeller(**options, memory=memory, device=device)  # type: ignore[arg-type]
    names = {"gfn2-xtb": "GFN2-xTB", "gfn1-xtb": "GFN1-xTB"}
    if method.lower() not in names:
        raise ConfigError(f"expected a method among pyscf, {', '.join(names)}, got {method!r}")
    return XTBLabeller(names[method.lower()])


def _read(sources: list[Path], every: int) -> list[Atoms]:
    from ase.io import read

    from hff_ase.errors import ConfigError, StructureError
    from hff_ase.reading import with_own_names

    if every < 1:
        raise ConfigError(f"expected --every of at least 1, got {every}")
    structures: list[Atoms] = []
    for path in sources:
        try:
            found = read(path, index=f"::{every}")
        except Exception as error:  # ASE's readers raise whatever their format trips over
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StructureError(f"expected structures in {path}, got: {reason}") from error
        for number, atoms in enumerate(found):
            atoms.info.setdefault("source", f"{path.name.split('.')[0]}:{number * every}")
            atoms.calc = None
            structures.append(with_own_names(atoms, f" in {path}"))
    if not structures:
        raise StructureError(f"expected structures in {', '.join(map(str, sources))}, got none")
    return structures


def _charges(pairs: list[str]) -> dict[str, int]:
    from hff_ase.errors import ConfigError

    charges = {}
    for pair in pairs:
        formula, _, value = pair.partition("=")
        try:
            charges[formula] = int(value)
        except ValueError:
            raise ConfigError(f"expected --charge FORMULA=WHOLE NUMBER, got {pair!r}") from None
    return charges


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
        typer.echo(f"{FEATURES} does not know {names}: told apart by distances", err=True)
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
    structures: list[Atoms],
    labeller: Labeller,
    output: Path,
    store: Path | None,
    workers: int,
    threads: int,
    cluster: Path | None,
    retry_failed: bool,
) -> None:
    """Label, showing progress, and write what came of it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from hff_ase.labels import label_frames, write_labelled
    from hff_ase.labels.output import counts

    store = store or output.with_name(output.name + ".jobs")
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
            workers=workers,
            threads=threads,
            cluster=cluster,
            retry_failed=retry_failed,
            progress=show,
        )
    write_labelled(output, structures, labels)
    found = counts(labels)
    typer.echo(f"{output}: {found['labelled']} labelled, {found['failed']} failed")
    for atoms, label in zip(structures, labels, strict=True):
        if not label.ok:
            origin = atoms.info.get("cut_from", atoms.info.get("source", atoms.symbols))
            typer.echo(f"  {origin}: {label.info['error']}")
