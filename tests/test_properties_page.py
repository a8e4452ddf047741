"""Comparison with measured values, and the page: what it says, and that it needs nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_walks import write_walk
from typer.testing import CliRunner

from hff_ase.cli import app
from hff_ase.dynamics.observables.observable import Observable, refuse
from hff_ase.dynamics.properties import analyse, from_trajectories, write_analysis
from hff_ase.dynamics.properties.analysis import Analysis, Convergence, Quantity, StateResult
from hff_ase.dynamics.properties.compare import compare, parity_plot, table
from hff_ase.dynamics.properties.curves import Curve, line
from hff_ase.dynamics.properties.page.names import number, title
from hff_ase.dynamics.properties.page.render import render, write_report
from hff_ase.dynamics.properties.state import StatePoint
from hff_ase.dynamics.properties.table import as_dict, read_properties
from hff_ase.dynamics.reference.lookup import measured
from hff_ase.errors import ConfigError

CHARGES = {"Li": 1.0, "Cl": -1.0, "Ar": 0.0}


def analysis(recipe: str = "DMC", value: float = 1.05, temperature: float = 298.15) -> Analysis:
    """One state point with a density and a refused viscosity."""
    state = StatePoint(f"{recipe}, {temperature} K", temperature, (), recipe)
    density = Observable(value, 0.004, "g/cm^3", "mean", 50.0, 49.0, 1.0, 200.0)
    converging = Convergence((10.0, 50.0, 100.0), (1.02, 1.06, value), (np.nan, 0.01, 0.004))
    quantities = {
        "density": Quantity(
            "density", density, 0.005, measured("density", recipe, temperature), converging
        ),
        "viscosity": Quantity(
            "viscosity",
            refuse("mPa s", "spectrum", "<short> & noisy", needs=3.0, value=0.7),
            0.1,
            measured("viscosity", recipe, temperature),
        ),
    }
    curves = {"structure": [Curve("g of r", "r", "g(r)", {"a-b": line([1, 2, 3], [0, 2, 1])})]}
    return Analysis((StateResult(state, quantities, curves, {"DMC": 20}, 240, 4, ("a note",)),))


class Page(HTMLParser):
    """Collects tags, and asks that they close in order."""

    void = frozenset(("meta", "img", "br", "link"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data


def parsed(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


def test_the_page_says_every_number_with_its_error_method_length_and_source(tmp_path):
    content = as_dict(analysis())
    page = parsed(render(content))
    known = content["states"][0]["quantities"]["density"]["experiment"]
    assert known["value"] == 1.0636
    for part in ("1.0500 ± 0.0040", "g cm", "mean", "200 ps", known["source"], "a note"):
        assert part in page.text, part
    assert "\u22121.3 %" in page.text
    assert "<short> & noisy" in page.text  # escaped, therefore text
    assert "0.7" not in page.text  # a refused value is not quoted


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path):
    file = write_walk(tmp_path / "walk.extxyz", 250)
    state = from_trajectories([file], temperature=300.0, charges=CHARGES)
    write_analysis(analyse([state], ["diffusion", "solvation"]), tmp_path)
    page = parsed(write_report(tmp_path).read_text(encoding="utf-8"))
    for tag, attributes in page.seen:
        assert tag not in ("link", "iframe", "object", "embed"), tag
        for name in ("src", "href", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    policy = [a["content"] for t, a in page.seen if t == "meta" and "http-equiv" in a]
    assert policy[0].startswith("default-src 'none'")
    assert "http" not in policy[0]
    images = [a for t, a in page.seen if t == "img"]
    assert len(images) > 4
    assert all(image["alt"] for image in images)
    identifiers = [a["id"] for _, a in page.seen if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    assert "box-0" in identifiers


def test_names_and_numbers_are_written_as_people_do():
    assert title("transference_number/Li/solvent") == "Transference number of Li, solvent frame"
    assert title("self_diffusion/Li") == "Self-diffusion of Li"
    assert title("a_new/one") == "A new one"
    assert number(1.2843, 0.0031) == "1.2843 ± 0.0031"
    assert number(None, None) == "\u2013"


def test_comparison_is_the_deviation_over_both_errors(tmp_path):
    for name, value in (("a", 1.05), ("b", 1.08)):
        (tmp_path / name).mkdir()
        write_analysis(analysis(value=value), tmp_path / name)
    found = compare([tmp_path / "a", tmp_path / "b"], ["density", "viscosity"])
    assert [row.quantity for row in found.rows] == ["density", "density"]
    first = found.rows[0]
    assert first.deviation == pytest.approx(1.05 / 1.0636 - 1)
    assert first.sigmas == pytest.approx((1.05 - 1.0636) / np.hypot(0.004, 0.001))
    assert len(found.missing) == 2
    assert "viscosity: no measured value" in found.missing[0]
    text = "\n".join(table(found))
    assert "+1.5 %" in text
    assert "ByteFF-Pol" in text
    parity_plot(found, tmp_path / "parity.svg")
    assert "<svg" in (tmp_path / "parity.svg").read_text()
    with pytest.raises(ConfigError, match=r"\.png, \.svg or \.pdf"):
        parity_plot(found, tmp_path / "parity.doc")
    with pytest.raises(ConfigError, match="hff analyse writes it"):
        compare([tmp_path])


def test_commands_of_the_page_and_the_comparison(tmp_path):
    write_analysis(analysis(), tmp_path)
    runner = CliRunner()
    done = runner.invoke(app, ["report", str(tmp_path)], catch_exceptions=False)
    assert done.output.strip() == str(tmp_path / "report.html")
    done = runner.invoke(
        app, ["compare", str(tmp_path), "--experiment", "density"], catch_exceptions=False
    )
    assert re.search(r"density +1\.0500 \+- 0\.0040 +1\.0636 \+- 0\.0010", done.output)
    done = runner.invoke(app, ["compare", str(tmp_path), "--json"], catch_exceptions=False)
    assert '"deviation"' in done.output


def test_a_file_that_is_no_table_of_properties_is_refused(tmp_path):
    (tmp_path / "properties.json").write_text("{")
    with pytest.raises(ConfigError, match="expected JSON"):
        read_properties(tmp_path)
    (tmp_path / "properties.json").write_text('{"format": 99}')
    with pytest.raises(ConfigError, match="expected properties of format 1"):
        read_properties(Path(tmp_path))
