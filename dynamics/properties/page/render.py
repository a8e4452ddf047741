"""properties.json and curves.json to report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from hff_ase.dynamics.properties.page import figures, names
from hff_ase.dynamics.properties.page.citations import citations
from hff_ase.dynamics.properties.page.structure import picture, xyz
from hff_ase.dynamics.properties.plans import PLANS
from hff_ase.dynamics.properties.table import read_curves, read_properties
from hff_ase.dynamics.reporters.growing_file import write_atomically

__all__ = ["write_report"]

REPORT = "report.html"
TEMPLATE, VIEWER = "report.html.j2", "3Dmol-min.js"


def write_report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Write the page from the properties.json of a folder; its path.

    Args:
        folder: of the run.
        output: the page; None for report.html there.

    Raises:
        ConfigError: no properties.json there.
        WriteError: it cannot be written.
    """
    place = Path(folder)
    text = render(read_properties(place), read_curves(place))
    path = place / REPORT if output is None else Path(output)
    write_atomically(path, text.encode())
    return path


def render(content: Mapping[str, Any], curves: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page.

    Args:
        content: of properties.json.
        curves: of curves.json, by state point; may be empty.
    """
    drawn = [*curves, *[{}] * (len(content["states"]) - len(curves))]
    states = [
        _state(number, one, own)
        for number, (one, own) in enumerate(zip(content["states"], drawn, strict=True))
    ]
    used = {one["property"] for state in content["states"] for one in state["quantities"].values()}
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(TEMPLATE).render(
        title=_heading(content),
        states=states,
        fits=[_fit(one) for one in content.get("fits", ())],
        models=_models(content),
        version=content["hff_ase"],
        citations=citations([name for name in PLANS if name in used]),
        viewer=_file(VIEWER) if any(one["structure"] for one in states) else "",
        structures=json.dumps([one["structure"] for one in states]),
    )


def _heading(content: Mapping[str, Any]) -> str:
    """The liquids that the page is about."""
    liquids = [state["recipe"] or state["name"].rpartition(",")[0] for state in content["states"]]
    return "; ".join(dict.fromkeys(liquids))


def _state(number: int, state: Mapping[str, Any], drawn: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a state point for the template."""
    box = drawn.get("box")
    rows = [_row(name, one) for name, one in state["quantities"].items()]
    shown = [figures.curve(one) for own in _figures(drawn) for one in own]
    titles = [_caption(one) for own in _figures(drawn) for one in own]
    return {
        "number": number,
        "name": state["name"],
        "temperature": state["temperature[K]"],
        "pressure": state["pressure[bar]"],
        "composition": state["composition"],
        "atoms": state["atoms"],
        "replicas": state["replicas"],
        "notes": state["notes"],
        "about": {k: v for k, v in state["about"].items() if v not in (None, [], "")},
        "rows": rows,
        "compared": any(row["measured"] for row in rows),
        "figures": list(zip(titles, shown, strict=True)),
        "converging": [
            (names.title(name), figures.convergence(one), one["verdict"])
            for name, one in state["quantities"].items()
            if len(one.get("convergence", {}).get("value", ())) > 1
        ],
        "picture": picture(box) if box else "",
        "structure": None if not box else {"xyz": xyz(box), "cell": box["cell"]},
    }


def _caption(curve: Mapping[str, Any]) -> str:
    """The title of a curve, and what its error bands (if any) mean."""
    banded = any("error" in line for line in curve["lines"].values())
    return curve["title"] + ("; bands: standard errors" if banded else "")


def _figures(drawn: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """The curves of a state point, property by property."""
    return [drawn[name] for name in PLANS if name in drawn]


def _row(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the table of properties."""
    known = entry["experiment"]
    good = entry["verdict"].startswith("converged")
    row = {
        "title": names.title(name),
        "value": names.number(entry["value"], entry["error"]),
        "unit": names.unit(entry["unit"]),
        "method": entry["method"],
        "length": entry["length[ps]"],
        "verdict": entry["verdict"],
        "state": "good" if good else ("refused" if entry["value"] is None else "short"),
        "measured": "",
        "deviation": "",
        "source": "",
    }
    if known is not None:
        row["measured"] = names.number(known["value"], known["uncertainty"])
        row["source"] = known["source"] + (", interpolated" if known["interpolated"] else "")
        if entry["value"] is not None:
            row["deviation"] = names.percent(entry["value"] / known["value"] - 1)
    return row


def _fit(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A fit over state points with its figure."""
    numbers = [
        (key, names.number(one["value"], one["error"]), names.unit(one["unit"]), one["verdict"])
        for key, one in entry["parameters"].items()
    ]
    image = figures.curve(entry["curve"]) if entry.get("curve") else ""
    return {"title": entry["title"], "parameters": numbers, "image": image}


def _models(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The models that the state points were made with, each once."""
    found = {}
    for state in content["states"]:
        facts = state["about"].get("model_facts")
        if facts:
            found[facts["sha256"]] = facts
    return list(found.values())


def _file(name: str) -> str:
    """Contents of a file that is shipped beside this module."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
