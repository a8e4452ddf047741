"""Targets: tables of measured numbers, and what is refused of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from hff_ase.calculators.finetune.targets import (
    Target,
    check_elements,
    read_targets,
    split,
    target_of,
)
from hff_ase.errors import ConfigError

ROW = {"liquid": "DMC", "quantity": "density", "temperature": 298.15, "value": 1.06}
ROW |= {"uncertainty": 0.001}

TABLE = """# densities of neat liquids
liquid,quantity,temperature,value,uncertainty,unit,source,kept_out
DMC,density,298.15,1063.6,1,kg/m^3,a paper,
DEC,density,298.15,0.9692,0.001,,a paper,yes
PC,density,293.15,reference,,,,
"""


def test_tables_as_csv_and_yaml(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "t.yaml").write_text(
        "- {liquid: DMC, quantity: density, temperature: 298.15, value: 1063.6, uncertainty: 1,\n"
        "   unit: kg/m^3, source: a paper}\n"
        "- {liquid: DEC, quantity: density, temperature: 298.15, value: 0.9692,\n"
        "   uncertainty: 0.001, source: a paper, kept_out: true}\n"
        "- {liquid: PC, quantity: density, temperature: 293.15, value: reference}\n"
    )
    first, second, third = read_targets(tmp_path / "t.csv")
    expected = Target("DMC", "density", 298.15, 1.0636, 0.001, source="a paper")
    assert replace(first, value=round(first.value, 9)) == expected
    assert second.kept_out
    assert math.isnan(third.value)
    assert list(map(repr, read_targets(tmp_path / "t.yaml"))) == list(
        map(repr, (first, second, third))
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"quantity": "colour"}, "quantity among density, pressure"),
        ({"unit": "kg"}, r"unit of density among g/cm\^3, g/cm3, .*got 'kg'"),
        ({"value": 1063.6}, r"density of DMC between 0.1 and 25 g/cm\^3, got 1063.6"),
        ({"value": "dense"}, "number for value, got 'dense'"),
        ({"uncertainty": 0}, "positive uncertainty"),
        ({"uncertainty": ""}, "expected uncertainty of a target, got none"),
        ({"temperature": 25e5}, "temperature"),
        ({"temperature": ""}, "expected temperature of a target"),
        ({"quantity": "rdf"}, "expected pair for rdf of DMC"),
        ({"quantity": "pressure", "value": 1.0}, "expected at_density for pressure of DMC"),
        ({"colour": "blue"}, "columns among at_density, .*got 'colour'"),
    ],
)
def test_what_is_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        target_of(ROW | changed)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got no file"):
        read_targets(tmp_path / "none.csv")
    bad = tmp_path / "bad.csv"
    bad.write_text(TABLE.replace("0.9692", "x"))
    with pytest.raises(ConfigError, match=r"bad.csv, target 2: expected a number for value"):
        read_targets(bad)
    (tmp_path / "a.yaml").write_text("liquid: DMC\n")
    with pytest.raises(ConfigError, match="list of targets"):
        read_targets(tmp_path / "a.yaml")
    (tmp_path / "empty.csv").write_text("liquid,quantity\n")
    with pytest.raises(ConfigError, match="expected targets"):
        read_targets(tmp_path / "empty.csv")


def test_elements_beyond_the_model() -> None:
    targets = [target_of(ROW | {"liquid": "CCl4"})]
    with pytest.raises(ConfigError, match=r"elements of small \(H C O\), got .*CCl4.*holds Cl"):
        check_elements(targets, {"CCl4": ["C", "Cl"]}, ["H", "C", "O"], "small")
    check_elements(targets, {"CCl4": ["C", "Cl"]}, None, "any")


def test_a_split_keeps_liquids_together() -> None:
    targets = [
        target_of(ROW | {"liquid": n, "temperature": t}) for n in "abcdef" for t in (290, 300)
    ]
    fitted, out = split(targets, 0.3, seed=1)
    assert len(out) == 4
    assert not {t.liquid for t in fitted} & {t.liquid for t in out}
    assert sorted(map(str, [*fitted, *out])) == sorted(map(str, targets))
    assert split(targets, 0.3, seed=1)[1] == out
    with pytest.raises(ConfigError, match="all kept out"):
        split([target_of(ROW | {"kept_out": "yes"})], 0.0)
    with pytest.raises(ConfigError, match="part of at least 0"):
        split(targets, 1.5)
