"""``hff build``: a box of liquid from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hff_ase.dynamics.build import Composition

OUTPUT = "Output"
BOX = "Box"


def build(
    recipe: Annotated[
        str, typer.Argument(help="e.g. '1.0 M LiPF6 in EC:DMC 1:1 v/v', '2 m NaFSI in DME', 'DMC'")
    ],
    atoms: Annotated[
        int,
        typer.Option("--atoms", help="Atoms, met within about 5 %.", rich_help_panel=BOX),
    ] = 1000,
    density: Annotated[
        float | None,
        typer.Option(help="g/cm3, instead of the expected density.", rich_help_panel=BOX),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same box.", rich_help_panel=BOX)
    ] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="An .extxyz file.", rich_help_panel=OUTPUT)
    ] = Path("box.extxyz"),
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the output.", rich_help_panel=OUTPUT)
    ] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the composition as JSON.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Build a periodic box of liquid from a recipe.

    Concentrations are in M (mol per litre of solution) or m (mol per kg of solvent).

    Ratios are v/v, w/w or mol/mol. Any solvent can be given as smiles:... (needs RDKit).
    """
    from hff_ase.cli.output import check_output

    check_output(output, (".extxyz", ".xyz"), force)
    from hff_ase.dynamics.build import build_box, describe_box

    box = build_box(recipe, atoms, density=density, seed=seed)
    _write(output, box)
    report = _report(describe_box(box)) | {"seed": seed, "output": str(output)}
    if json_:
        import json

        typer.echo(json.dumps(report, indent=2))
    else:
        typer.echo(_as_text(report))


def _write(output: Path, box: Any) -> None:
    from io import StringIO

    from ase.io import write

    from hff_ase.errors import ConfigError
    from hff_ase.files import write_whole

    text = StringIO()
    try:
        write(text, box, format="extxyz")
        write_whole(output, text.getvalue().encode())
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}") from error


def _report(built: Composition) -> dict[str, Any]:
    """What the box really holds; concentrations, ratio and density are of the box, not asked."""
    return {
        "recipe": str(built.recipe),
        "atoms": built.n_atoms,
        "counts": built.counts,
        "molarity_mol_per_l": built.molarity,
        "molality_mol_per_kg": built.molality,
        "ratio": list(built.ratio),
        "basis": built.recipe.basis,
        "density_g_per_cm3": built.density,
        "length_angstrom": built.length,
        "deviation": built.deviation,
        "volume_sources": {solvent.name: solvent.source for solvent, _ in built.solvents},
    }


def _as_text(report: dict[str, Any]) -> str:
    lines = [f"{report['output']}: {report['atoms']} atoms of {report['recipe']}"]
    lines += [f"  {name:<12} {n:6d}" for name, n in report["counts"].items()]
    for name, molarity in report["molarity_mol_per_l"].items():
        molality = report["molality_mol_per_kg"][name]
        lines.append(f"  {name}: {molarity:.3f} M, {molality:.3f} mol/kg")
    if report["basis"]:
        parts = ":".join(f"{part:.3g}" for part in report["ratio"])
        lines.append(f"  ratio {parts} {report['basis']}")
    lines.append(
        f"  density {report['density_g_per_cm3']:.4f} g/cm3, side {report['length_angstrom']:.3f} A"
    )
    if report["deviation"] > 0.05:
        lines.append(
            f"  whole molecules: up to {100 * report['deviation']:.0f} % from what was asked; "
            "more --atoms come closer"
        )
    for name, source in report["volume_sources"].items():
        if source.startswith("estimate"):
            lines.append(f"  {name}: volume is an {source}")
    return "\n".join(lines)
