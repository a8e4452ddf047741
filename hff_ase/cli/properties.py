"""``hff properties``: from a recipe to numbers with errors, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hff_ase.cli.md import Count, Number, Switch, Text, option

WHAT, SPENT, RUNS = "What", "How much", "How it is run"
OUTPUT, RESTART = "Output", "Restart"


def properties(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(
            help="As for hff build: '1.0 M LiPF6 in EC:DMC 1:1 w/w'; or several.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[Text, option(WHAT, "Name of a model or an .hff file.")] = None,
    temperature: Annotated[
        Text, option(WHAT, "K (default: 298.15); or several: 298,313,333.")
    ] = None,
    concentration: Annotated[
        Text, option(WHAT, "Of the salt, instead of the recipe's; or several: 0.5,1,1.5.")
    ] = None,
    pressure: Annotated[Number, option(WHAT, "bar (default: 1).")] = None,
    properties_: Annotated[
        Text,
        option(
            WHAT,
            "Such as density,viscosity (default: all usual ones); see hff analyse --list.",
            "--property",
        ),
    ] = None,
    budget: Annotated[
        Text, option(SPENT, "Time on the clock for everything: 3h or 45min; lengths follow.")
    ] = None,
    npt: Annotated[Text, option(SPENT, "Length at constant pressure of each box: 200ps.")] = None,
    nvt: Annotated[Text, option(SPENT, "Length at constant volume of each box: 1ns.")] = None,
    replicas: Annotated[
        Count, option(SPENT, "Boxes of each state point, of different packings (default: 4).")
    ] = None,
    atoms: Annotated[Count, option(SPENT, "Of a box (default: 300).")] = None,
    plan: Annotated[
        bool,
        option(
            SPENT, "Only say which errors to expect on this machine, and what it takes.", "--plan"
        ),
    ] = False,
    timestep: Annotated[
        Number, option(RUNS, "fs, at constant volume with real masses (default: 1).")
    ] = None,
    max_settling: Annotated[
        Text, option(RUNS, "Equilibration at constant pressure, settled or not (default: 200ps).")
    ] = None,
    seed: Annotated[Count, option(RUNS, "Of packings, velocities, noise (default: 0).")] = None,
    device: Annotated[Text, option(RUNS, "cpu or cuda (default: cpu).")] = None,
    dtype: Annotated[Text, option(RUNS, "float32 or float64 (default: float32).")] = None,
    outside_domain: Annotated[
        bool,
        option(RUNS, "Go on with molecules that the model was not trained on.", "--outside-domain"),
    ] = False,
    output: Annotated[
        Path | None, option(OUTPUT, "Folder (default: properties).", "--output", "-o")
    ] = None,
    progress: Annotated[
        Switch, option(OUTPUT, "Progress on the screen (default: yes).", "--progress/--no-progress")
    ] = None,
    json_: Annotated[bool, option(OUTPUT, "Print as JSON.", "--json")] = False,
    resume: Annotated[
        Path | None,
        option(RESTART, "Folder to go on with; --npt, --nvt, --budget, --property may be new."),
    ] = None,
) -> None:
    """Build, equilibrate, run, analyse and report: properties of a liquid with honest errors.

    Killed at any moment, it goes on with --resume FOLDER.
    """
    from hff_ase.allocator import keep_memory
    from hff_ase.dynamics.properties.property_run import PropertyRun
    from hff_ase.dynamics.properties.table import as_dict, lines
    from hff_ase.errors import ConfigError

    keep_memory()
    asked = _names(properties_)
    hours = None if budget is None else _hours(budget)
    if resume is not None:
        if recipe or plan:
            raise ConfigError("expected --resume without recipes and --plan, got both")
        changed = {"npt": npt, "nvt": nvt, "budget": hours, "properties": asked}
        run = PropertyRun.resume(resume, settings={k: v for k, v in changed.items() if v})
    else:
        if not recipe or model is None:
            raise ConfigError("expected a recipe and --model, got neither or one of them")
        md: dict[str, Any] = {
            "device": device,
            "dtype": dtype,
            "outside_domain": outside_domain or None,
        }
        md |= {"progress": False if progress is False or json_ else None}
        given = {
            "model": model,
            "recipes": _recipes(recipe, concentration),
            "temperatures": _numbers("temperature", temperature or "298.15"),
            "properties": asked,
            "pressure": pressure,
            "budget": hours,
            "npt": npt,
            "nvt": nvt,
            "replicas": replicas,
            "atoms": atoms,
            "timestep": timestep,
            "seed": seed,
            "md": {name: value for name, value in md.items() if value is not None},
            "equilibration": {} if max_settling is None else {"max_time": max_settling},
        }
        settings = {name: value for name, value in given.items() if value is not None}
        if plan:
            typer.echo(_planned(settings, output, json_))
            return
        run = PropertyRun.start(output or Path("properties"), _request(settings))
    content = as_dict(run.run())
    if json_:
        import json

        typer.echo(json.dumps(content, indent=1))
        return
    typer.echo("\n".join(lines(content)))


def _planned(settings: dict[str, Any], output: Path | None, as_json: bool) -> str:
    """The errors to expect, by a short timing on this machine."""
    import json

    from hff_ase.calculators import HybridFF
    from hff_ase.dynamics.properties.planning import (
        as_dict,
        expectations,
        lengths_of,
        measure_speed,
        table,
    )
    from hff_ase.dynamics.properties.stages import build

    request = _request({"budget": 1.0, **settings})
    names = ("device", "dtype")
    calc = HybridFF.load(
        request.model, **{name: request.md[name] for name in names if name in request.md}
    )
    box = build(request.recipes[0], request.atoms, request.seed)
    speed = measure_speed(calc, [box] * request.replicas)
    hours = (request.budget or 1.0) / len(request.points)
    lengths = lengths_of(request, hours, speed)
    found = expectations(request, box, lengths, output)
    if as_json:
        return json.dumps({**as_dict(found, lengths), "seconds_per_step": speed}, indent=1)
    told = f"{1e3 * speed:.3g} ms per step of {request.replicas} boxes of {len(box)} atoms"
    return "\n".join([told, *table(found, lengths, request)])


def _request(settings: dict[str, Any]) -> Any:
    from hff_ase.dynamics.properties.request import Request

    return Request(**settings)


def _recipes(recipes: list[str], concentration: str | None) -> tuple[str, ...]:
    """Recipes, each at every concentration that is asked for."""
    from hff_ase.dynamics.properties.request import at_concentrations

    if concentration is None:
        return tuple(recipes)
    amounts = _numbers("concentration", concentration)
    return tuple(one for recipe in recipes for one in at_concentrations(recipe, amounts))


def _numbers(name: str, text: str) -> tuple[float, ...]:
    from hff_ase.dynamics.replicas.config import numbers

    return numbers(name, text)


def _names(text: str | None) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _hours(text: str) -> float:
    """A time on the clock such as 3h, 45min or 1.5h, in hours."""
    import re

    from hff_ase.errors import ConfigError

    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(h|min|s|d)\s*", text)
    if found is None or float(found[1]) <= 0:
        raise ConfigError(f"expected a time on the clock such as 3h or 45min, got {text!r}")
    return float(found[1]) * {"s": 1 / 3600, "min": 1 / 60, "h": 1.0, "d": 24.0}[found[2]]
