"""Formulations of the literature: each builds, or is refused with a reason that names what lacks.

The table of om-data (MIT) gives ions and solvents by formula. A short one in its format is here;
the whole one (223 rows) is tried where it lies beside the repository.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import pytest

from hff_ase.dynamics.build import compose, find_component, ions, parse_recipe, salts, solvents
from hff_ase.dynamics.build.recipe import plain
from hff_ase.errors import RecipeError

TABLE = Path(__file__).parents[2] / "shared" / "data" / "experiment" / "formulations_litelytes.csv"
# Formulas that several solvents of the library have: the one that electrolytes use, or the papers
# that the table cites.
CHOICE = {
    "C3H6O3": "DMC",
    "C4H8O3": "EMC",
    "C4H10O2": "DME",
    "C4H8O": "THF",
    "C2H6O": "ethanol",
    "C3H8O": "isopropanol",
    "C4H7N": "butyronitrile",
    "C4H6O2": "GBL",
    "C6H14O3": "diglyme",
}
ION_CHOICE = {"C9H20N+piper": "PP13", "C9H20N+": "Pyr14"}
BASES = {"volume": ("M", "v/v"), "mass": ("mol/kg", "w/w"), "number": ("", "mol/mol")}
MELT_DENSITY = 1.7  # g/cm3, for melts of atomic ions, which have no expected one


class UntranslatableError(Exception):
    """A row that says no liquid: what is wrong with it."""


def _solvent(formula: str) -> str:
    if formula in CHOICE:
        return CHOICE[formula]
    wanted = _sorted_formula(formula)
    found = [n for n, m in solvents().items() if _sorted_formula(_hill(m.symbols)) == wanted]
    # a solvent that nothing has is left to the parser, which refuses it by name
    return found[0] if found else formula


def _ion(text: str) -> str:
    if text in ION_CHOICE:
        return ION_CHOICE[text]
    sign = "+" if "+" in text else "-"
    formula, _, number = text.partition(sign)
    charge = int(sign + (number or "1"))
    for name, ion in ions().items():
        same = _sorted_formula(_hill(ion.symbols)) == _sorted_formula(formula)
        if ion.charge == charge and same:
            return name
    return formula


def _hill(symbols: tuple[str, ...]) -> str:
    return "".join(f"{s}{symbols.count(s)}" for s in sorted(set(symbols)))


def _sorted_formula(text: str) -> tuple[tuple[str, int], ...]:
    from ase.formula import Formula

    return tuple(sorted(Formula(text).count().items()))


def _pairs(row: dict[str, str], kind: str, amount: str) -> list[tuple[str, float]]:
    return [
        (row[f"{kind}{k}"], float(row[f"{kind}{k}{amount}"]))
        for k in range(1, 6)
        if row.get(f"{kind}{k}")
    ]


def _salt_amounts(row: dict[str, str]) -> list[tuple[str, float]]:
    """Cations and anions, each with an amount, as salts: paired in the order of the table."""
    cations = [[_ion(t), n] for t, n in _pairs(row, "cation", "_conc")]
    anions = [[_ion(t), n] for t, n in _pairs(row, "anion", "_conc")]
    for name, _ in [*cations, *anions]:
        if name not in ions():
            raise RecipeError(f"unknown ion {name!r}")
    charge = sum(n * ions()[name].charge for name, n in [*cations, *anions])
    if abs(charge) > 1e-6:
        raise UntranslatableError(f"not neutral: {charge:+g}")
    amounts: dict[str, float] = {}
    while cations and anions:
        cation, anion = cations[0], anions[0]
        salt = next(
            s for s in salts().values() if (s.cation.name, s.anion.name) == (cation[0], anion[0])
        )
        n = min(cation[1] / salt.n_cations, anion[1] / salt.n_anions)
        amounts[salt.name] = round(amounts.get(salt.name, 0.0) + n, 9)
        cation[1] -= n * salt.n_cations
        anion[1] -= n * salt.n_anions
        cations = [c for c in cations if c[1] > 1e-9]
        anions = [a for a in anions if a[1] > 1e-9]
    return list(amounts.items())


def recipe_of(row: dict[str, str]) -> str:
    """A row of the table as a person would type it."""
    unit, basis = BASES[row["units"].lower()]
    amounts = _salt_amounts(row)
    parts = [(_solvent(f), n) for f, n in _pairs(row, "solvent", "_ratio")]
    if not unit or not parts:
        parts, amounts, basis = [*amounts, *parts], [], "mol/mol"
    text = ", ".join(f"{plain(n)} {unit} {name}" for name, n in amounts)
    mixture = "/".join(name for name, _ in parts)
    if len(parts) > 1:
        mixture += f" ({'/'.join(plain(n) for _, n in parts)} {basis})"
    return f"{text} in {mixture}" if text else mixture


def outcome(row: dict[str, str]) -> tuple[str, str]:
    """ "builds", "missing", "no room" or "not neutral", and the text or the reason."""
    try:
        text = recipe_of(row)
        recipe = parse_recipe(text)
        melt = "--density" in (_refusal(recipe) or "")
        built = compose(recipe, 20_000, MELT_DENSITY if melt else None)
    except UntranslatableError as error:
        return "not neutral", str(error)
    except RecipeError as error:
        for kind, word in (("no room", "no room"), ("missing", "unknown")):
            if word in str(error):
                return kind, str(error)
        raise
    assert sum(molecule.charge * n for molecule, n in built.molecules) == 0
    assert built.deviation < 0.2
    return "builds", text


def _refusal(recipe: object) -> str | None:
    try:
        compose(recipe, 20_000)  # type: ignore[arg-type]
    except RecipeError as error:
        return str(error)
    return None


HEADER = (
    "comment/name,units,cation1,cation1_conc,cation2,cation2_conc,anion1,anion1_conc,"
    "anion2,anion2_conc,solvent1,solvent1_ratio,solvent2,solvent2_ratio"
)
ROWS = """
carbonates,volume,Li+,1.2,,,F6P-,1.2,,,C3H4O3,1,C4H8O3,2
two anions,volume,Li+,2.2,,,F2NO4S2-,2,NO3-,0.2,C4H10O2,1,,
two charges,volume,Mg+2,0.5,,,Cl-,0.2,CF3O3S-,0.8,C4H10O2,1,,
aqueous,mass,Na+,1,,,O4S-2,0.5,,,H2O,1,,
diluted,number,Li+,1,,,F2NO4S2-,1,,,C4H8O2S,3,C5H4F8O,3
ionic liquid,number,Na+,2,C9H20N+piper,8,F2NO4S2-,10,,,,,,
melt,Number,Li+,45,K+,45,Cl-,85,F-,5,,,,
too much,volume,K+,22,,,CF3O3S-,22,,,H2O,1,,
not neutral,volume,Li+,4,,,F2NO4S2-,5.5,,,C4H10O2,1,,
no such solvent,volume,Li+,1,,,F6P-,1,,,C7H5Br2N,1,,
no such anion,volume,Li+,1,,,C9H7O4-,1,,,C3H4O3,1,,
"""
EXPECTED = [*["builds"] * 7, "no room", "not neutral", "missing", "missing"]
NAMES = ["C7H5Br2N", "C9H7O4"]


def test_rows_of_a_table_build_or_say_what_lacks() -> None:
    rows = list(csv.DictReader(io.StringIO(HEADER + ROWS)))
    outcomes = [outcome(row) for row in rows]
    assert [kind for kind, _ in outcomes] == EXPECTED
    missing = [reason for kind, reason in outcomes if kind == "missing"]
    assert all(name in reason for name, reason in zip(NAMES, missing, strict=True))
    assert outcomes[0][1] == "1.2 M LiPF6 in EC/EMC (1/2 v/v)"
    assert outcomes[2][1] == "0.1 M MgCl2, 0.4 M Mg(OTf)2 in DME"
    assert outcomes[5][1] == "NaFSI/PP13-FSI (2/8 mol/mol)"


@pytest.mark.skipif(not TABLE.exists(), reason="no ../shared/data beside the repository")
def test_formulations_of_the_literature_build() -> None:
    """All have their molecules; five rows are not neutral, and four give mol/kg as mol/L (22 M
    KOTf in water, 5 M KTFSI in diglyme), which leaves no room for the solvent.
    """
    with TABLE.open(encoding="utf-8") as file:
        outcomes = [outcome(row) for row in csv.DictReader(file)]
    kinds = Counter(kind for kind, _ in outcomes)
    assert kinds == {"builds": 214, "not neutral": 5, "no room": 4}


def test_the_fixture_names_what_the_library_has() -> None:
    for name in CHOICE.values():
        assert find_component(name).name == name
