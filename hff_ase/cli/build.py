"""``hff build``: a box of liquid from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hff_ase.cli.command import command
from hff_ase.cli.output import OutputFile
from hff_ase.errors import ConfigError
from hff_ase.settings import setting
from hff_ase.settings.common import BOX_ATOMS, OUTPUT, PrintSettings

if TYPE_CHECKING:
    from hff_ase.dynamics.build import Composition

BOX = "Box"


class BuildSettings(OutputFile, PrintSettings):
    """A box of liquid."""

    suffixes = (".extxyz", ".xyz")
    defaults = {"output": "box.extxyz"}  # noqa: RUF012

    recipe: str | None = setting(
        None,
        "e.g. '1.0 M LiPF6 in EC:DMC 1:1 v/v', '1 M LiPF6 in EC/EMC 3:7 w/w + 2 wt% VC', "
        "'1.5 m LiFSI in DMC', 'DMC'",
        positional=True,
    )
    atoms: int | None = setting(
        None,
        "Number of atoms, met within about 5 %; with --within the smallest number.",
        panel=BOX,
        shown=str(BOX_ATOMS),
        ge=1,
    )
    within: str | None = setting(
        None,
        "Build the smallest box that meets the recipe within this tolerance, e.g. 2%.",
        panel=BOX,
        metavar="PERCENT",
    )
    density: float | None = setting(
        None, "Density to use instead of the expected one.", unit="g/cm3", panel=BOX, gt=0
    )
    seed: int = setting(0, "The same seed gives the same box.", panel=BOX, ge=0)
    list_: bool = setting(
        False, "List the solvents and ions known by name.", panel=OUTPUT, alias="list"
    )


@command(BuildSettings)
def build(config: BuildSettings) -> None:
    """Build a periodic box of liquid from a recipe.

    Concentrations are in M (mol per litre of solution) or m (mol per kg of solvent), ratios by v/v,
    w/w or mol/mol, additives in wt%, vol% or mol% of the whole.

    Any molecule or salt can be given as smiles:... (needs RDKit), a molecule as file:NAME.xyz.
    """
    if config.list_:
        typer.echo(_vocabulary())
        return
    if config.recipe is None:
        raise ConfigError("expected a recipe, got none")
    output = config.target()
    from hff_ase.dynamics.build import build_box, describe_box

    tolerance = None if config.within is None else _fraction(config.within)
    box = build_box(
        config.recipe, config.atoms, within=tolerance, density=config.density, seed=config.seed
    )
    _write(output, box)
    built = describe_box(box)
    report = _report(built) | {"seed": config.seed, "output": str(output)}
    report["models"], unknown = _coverage(built)
    if config.json_:
        import json

        typer.echo(json.dumps(report, indent=2))
    else:
        typer.echo("\n".join([_as_text(report, built), *unknown]))


def _fraction(text: str) -> float:
    """ "2%", "2 %" or "0.02" as 0.02."""
    try:
        number = float(text.strip().removesuffix("%"))
    except ValueError:
        raise ConfigError(f"expected --within such as 2% or 0.02, got {text!r}") from None
    value = number / 100.0 if text.strip().endswith("%") else number
    if not 0 < value < 1:
        raise ConfigError(f"expected --within above 0% and below 100%, such as 2%, got {text!r}")
    return value


def _vocabulary() -> str:
    """Every name in the library with its full name."""
    from hff_ase.dynamics.build import ions, solvents
    from hff_ase.dynamics.build.library import description, spellings

    lines = ["solvents"]
    for name in sorted(solvents(), key=str.casefold):
        full = description("solvents", name)
        others = [s for s in spellings("solvents", name) if s not in (name, full)]
        lines.append(f"  {name:<18} {full}" + (f" ({', '.join(others)})" if others else ""))
    for title, sign in (("cations", 1), ("anions", -1)):
        lines.append(f"{title}, in any salt")
        for name, ion in ions().items():
            if ion.charge * sign > 0:
                others = [s for s in spellings("ions", name) if s != name]
                also = f" ({', '.join(others)})" if others else ""
                lines.append(f"  {name:<18} {ion.charge:+d}  {description('ions', name)}{also}")
    return "\n".join(lines)


def _write(output: Path, box: Any) -> None:
    from io import StringIO

    from ase.io import write

    from hff_ase.files import write_whole

    text = StringIO()
    try:
        write(text, box, format="extxyz")
        write_whole(output, text.getvalue().encode())
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}") from error


def _report(built: Composition) -> dict[str, Any]:
    """Concentrations, ratio and density of the box itself, not of the recipe."""
    return {
        "recipe": str(built.recipe),
        "atoms": built.n_atoms,
        "counts": built.counts,
        "molarity_mol_per_l": built.molarity,
        "molality_mol_per_kg": built.molality,
        "ratio": list(built.ratio),
        "basis": built.recipe.basis,
        "additives_percent": built.percent,
        "density_g_per_cm3": built.density,
        "length_angstrom": built.length,
        "deviation": built.deviation,
        "volume_sources": {molecule.name: molecule.source for molecule, _ in built.molecules},
    }


def _coverage(built: Composition) -> tuple[list[str], list[str]]:
    """Shipped models that know every molecule, and lines that say so or what each lacks."""
    from hff_ase.dynamics.build.naming import graph_of
    from hff_ase.models import shipped_domains

    graphs = {molecule.name: graph_of(molecule) for molecule, _ in built.molecules}
    lacks = {
        model: [name for name, graph in graphs.items() if domain.find(graph) is None]
        for model, domain in shipped_domains().items()
        if not model.endswith("-inner")  # no model by itself
    }
    covering = [model for model, missing in lacks.items() if not missing]
    if covering:
        return covering, [f"  models: {', '.join(covering)} (hff models)"]
    lines = [f"{model} lacks {', '.join(missing)}" for model, missing in lacks.items()]
    return [], [f"  no shipped model was trained on all of this: {'; '.join(lines)}"]


def _closer(built: Composition) -> str:
    """How many atoms come within 2 %."""
    from hff_ase.dynamics.build import smallest
    from hff_ase.errors import RecipeError

    try:
        return f"--within 2% makes a box of {smallest(built.recipe, 0.02, built.density).n_atoms}"
    except RecipeError:
        return "more --atoms come closer"


def _as_text(report: dict[str, Any], built: Composition) -> str:
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
    units = {a.name: a.unit for a in built.recipe.additives}
    lines += [f"  {percent:.2f} {units[n]} {n}" for n, percent in built.percent.items()]
    if report["deviation"] > 0.05:
        lines.append(
            f"  whole molecules: up to {100 * report['deviation']:.0f} % from what was asked; "
            + _closer(built)
        )
    for name, source in report["volume_sources"].items():
        if source.startswith("estimate"):
            lines.append(f"  {name}: volume is an {source}")
    return "\n".join(lines)
