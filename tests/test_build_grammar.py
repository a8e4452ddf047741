"""What people type for a recipe: every spelling of a kind, and refusals that help."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from hypothesis import given, settings
from hypothesis import strategies as st

from hff_ase.dynamics.build import (
    Additive,
    Recipe,
    SaltAmount,
    build_box,
    compose,
    describe_box,
    find_salt,
    find_solvent,
    ions,
    parse_recipe,
    salts,
    smallest,
    solvents,
)
from hff_ase.dynamics.build.finding import nearest
from hff_ase.errors import RecipeError

LI = SaltAmount(1.0, "LiPF6")
BASE = Recipe((LI,), "M", ("EC", "EMC"), (3.0, 7.0), "w/w")


def _with(*additives: tuple[float, str, str]) -> Recipe:
    added = tuple(Additive(*additive) for additive in additives)
    return Recipe(BASE.salts, "M", BASE.solvents, BASE.ratio, BASE.basis, added)


def _refusal(function: Callable[..., Any], *arguments: Any) -> str:
    """What a RecipeError says, or nothing."""
    try:
        function(*arguments)
    except RecipeError as error:
        return str(error)
    return ""


# ---- one recipe, many spellings ------------------------------------------------------------------


@pytest.mark.parametrize("separator", [":", "/", " : ", " / "])
@pytest.mark.parametrize(
    "ratio",
    [
        *("3:7 w/w", "3/7 w/w", "(3:7 w/w)", "(3:7, w/w)", "= 3:7 w/w", "3:7 wt", "3:7 wt%"),
        *("3:7 by weight", "3:7 by mass", "3:7 (by wt)", "3:7 mass ratio", "3:7 w:w", "w/w 3:7"),
        *("3:7 weight", "3:7 w%", "3:7 wt.%", "(3/7 wt/wt)", ", 3:7 W/W", "3.0:7.0 m/m"),
    ],
)
def test_ratio_and_basis_in_every_spelling(separator: str, ratio: str) -> None:
    assert parse_recipe(f"1 M LiPF6 in EC{separator}EMC {ratio}") == BASE


@pytest.mark.parametrize("text", ["vol", "v/v", "by volume", "vol%", "v:v", "volume ratio", "v%"])
def test_by_volume(text: str) -> None:
    assert parse_recipe(f"EC:EMC 3:7 {text}").basis == "v/v"


@pytest.mark.parametrize("text", ["mol", "mol/mol", "by mole", "mol%", "molar ratio", "n/n"])
def test_by_mole(text: str) -> None:
    assert parse_recipe(f"EC:EMC 3:7 {text}").basis == "mol/mol"


@pytest.mark.parametrize(
    ("text", "ratio", "basis"),
    [
        ("30 wt% EC + 70 wt% EMC", (30.0, 70.0), "w/w"),
        ("EC 30 wt%, EMC 70 wt%", (30.0, 70.0), "w/w"),
        ("30 vol% EC and 70 vol% EMC", (30.0, 70.0), "v/v"),
        ("EC:EMC 30%:70% by weight", (30.0, 70.0), "w/w"),
        ("EC:EMC 30:70 mol%", (30.0, 70.0), "mol/mol"),
        ("30 % EC by volume, 70 % EMC by volume", (30.0, 70.0), "v/v"),
        ("3:7 EC:EMC v/v", (3.0, 7.0), "v/v"),
    ],
)
def test_per_cent_make_a_ratio(text: str, ratio: tuple[float, ...], basis: str) -> None:
    for prefix, amounts in (("", ()), ("1 M LiPF6 in ", (LI,))):
        recipe = parse_recipe(prefix + text)
        unit = "M" if amounts else ""
        assert recipe == Recipe(amounts, unit, ("EC", "EMC"), ratio, basis)


@pytest.mark.parametrize(
    "text",
    [
        *("1 M LiPF6", "1.0M LiPF6", "1 mol/L LiPF6", "1 mol L-1 LiPF6", "1 mol L⁻¹ LiPF6"),
        *("1 mol·L⁻¹ LiPF6", "1 mol dm-3 LiPF6", "1 molar LiPF6", "LiPF6 1 M", "1000 mM LiPF6"),
        *("1 mol per litre LiPF6", "1 mol/dm^3 LiPF6", "1 M lipf6", "1 M of LiPF6"),
    ],
)
def test_molar_in_every_spelling(text: str) -> None:
    assert parse_recipe(f"{text} in EC:EMC 3:7 w/w") == BASE


@pytest.mark.parametrize(
    "unit", ["m", "molal", "mol/kg", "mol kg-1", "mol kg⁻¹", "mol per kg", "mol·kg^-1"]
)
def test_molal_in_every_spelling(unit: str) -> None:
    assert parse_recipe(f"21 {unit} LiTFSI in water") == Recipe(
        (SaltAmount(21.0, "LiTFSI"),), "mol/kg", ("water",), (1.0,), ""
    )


@pytest.mark.parametrize("joined", [" + ", "+", ", ", " and ", " plus ", " & ", "; ", " with "])
def test_salts_in_a_row(joined: str) -> None:
    recipe = parse_recipe(f"1 M LiPF6{joined}0.1 M LiFSI in EC/EMC 3:7 w/w")
    assert recipe == Recipe((LI, SaltAmount(0.1, "LiFSI")), "M", ("EC", "EMC"), (3.0, 7.0), "w/w")


@pytest.mark.parametrize(
    "text",
    [
        *("plus 2 wt% VC", "+ 2 wt% VC", ", 2 wt% VC", "with 2 wt.% VC", "and 2wt% VC"),
        *("+ 2 % (w/w) VC", "+ 2 % w/w VC", "+ 2% by weight VC", "+ VC 2 wt%", "+ 2 w% VC"),
        *(
            "+ 2 weight percent VC",
            "+ 2 % VC by weight",
            "+ 2 mass% VC",
            "+ 2 wt% vinylene carbonate",
        ),
        *("+ 2 wt% of VC", "; 2 wt% vc"),
    ],
)
def test_additives_in_every_spelling(text: str) -> None:
    assert parse_recipe(f"1 M LiPF6 in EC:EMC 3:7 w/w {text}") == _with((2.0, "wt%", "VC"))


def test_additives_of_all_kinds() -> None:
    text = "2 wt% VC + 1 M LiPF6 in EC/EMC (3/7 by weight) + 10 vol% FEC, 1 mol% LiNO3"
    expected = _with((2.0, "wt%", "VC"), (10.0, "vol%", "FEC"), (1.0, "mol%", "LiNO3"))
    assert parse_recipe(text) == expected
    joined = parse_recipe("1 M LiPF6 in EC:EMC 3:7 w/w + 0.1 M LiDFOB")
    assert joined.salts == (LI, SaltAmount(0.1, "LiDFOB"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(("LiTFSA", "LiTFSI"), ("LiN(SO2F)2", "LiFSI"), ("LiODFB", "LiDFOB"), ("LiTf", "LiOTf")),
        *(("MgTFSI2", "Mg(TFSI)2"), ("Zn(CF3SO3)2", "Zn(OTf)2"), ("zncl2", "ZnCl2")),
        *(("Li2SO4", "Li2SO4"), ("(NH4)2SO4", "(NH4)2SO4"), ("NH42SO4", "(NH4)2SO4")),
        *(("[EMIM][TFSI]", "EMIM-TFSI"), ("EMIMTFSI", "EMIM-TFSI"), ("C2mim-NTf2", "EMIM-TFSI")),
        *(("Pyr14-FSI", "Pyr14-FSI"), ("Ca(BH4)2", "Ca(BH4)2"), ("AlCl3", "AlCl3")),
    ],
)
def test_salts_in_every_spelling(text: str, name: str) -> None:
    assert find_salt(text).name == name


def test_a_salt_is_neutral_and_smallest() -> None:
    for salt in salts().values():
        assert salt.n_cations * salt.cation.charge + salt.n_anions * salt.anion.charge == 0
        assert np.gcd(salt.n_cations, salt.n_anions) == 1


@pytest.mark.parametrize(
    "text", ["Ethylene Carbonate", "ethylenecarbonate", "EC", "ec", "ethylene-carbonate"]
)
def test_solvents_by_full_name(text: str) -> None:
    assert find_solvent(text).name == "EC"


@pytest.mark.parametrize("name", ["1,2-dimethoxyethane", "1,4-dioxane", "2-MeTHF", "Novec-7000"])
def test_names_with_commas_and_hyphens(name: str) -> None:
    own = find_solvent(name).name
    assert parse_recipe(f"1 M LiFSI, 1 M LiTFSI in {name}/DOL 1:1 vol").solvents == (own, "DOL")


# ---- canonical text ------------------------------------------------------------------------------

SOLVENT_NAMES, SALT_NAMES = st.sampled_from(sorted(solvents())), st.sampled_from(sorted(salts()))
NUMBERS = st.floats(1e-3, 20.0).map(lambda x: round(x, 6))


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    names = draw(st.lists(SOLVENT_NAMES, min_size=6, max_size=6, unique=True))
    salt_names = draw(st.lists(SALT_NAMES, min_size=3, max_size=3, unique=True))
    n = draw(st.integers(1, 3))
    ratio = tuple(draw(NUMBERS) for _ in range(n)) if n > 1 else (1.0,)
    basis = draw(st.sampled_from(["v/v", "w/w", "mol/mol"])) if n > 1 else ""
    amounts = tuple(SaltAmount(draw(NUMBERS), s) for s in salt_names[: draw(st.integers(0, 2))])
    unit = draw(st.sampled_from(["M", "mol/kg"])) if amounts else ""
    units = st.sampled_from(["wt%", "vol%", "mol%"])
    added = [*names[n : n + draw(st.integers(0, 2))], *salt_names[2 : draw(st.integers(2, 3))]]
    additives = tuple(Additive(draw(NUMBERS), draw(units), name) for name in added)
    return Recipe(amounts, unit, tuple(names[:n]), ratio, basis, additives)


@settings(deadline=None, max_examples=25)
@given(recipes())
def test_every_recipe_survives_its_own_text(recipe: Recipe) -> None:
    assert parse_recipe(str(recipe)) == recipe


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "works"),
    [
        ("1 M LiPF6 in EC:EMC 3:7 w/w + 2% VC", "1 M LiPF6 in EC:EMC 3:7 w/w + 2 wt% VC"),
        ("1 M LiPF6 in EC:EMC 3:7 w/w + VC", "1 M LiPF6 in EC:EMC 3:7 w/w + 2 wt% VC"),
        ("1 M LiPF6 in EC:EMC 3:7 w/w + 0.1 M VC", "1 M LiPF6 in EC:EMC 3:7 w/w + 2 wt% VC"),
        ("1,5 M LiPF6 in DMC", "1.5 M LiPF6 in DMC"),
        ("LiPF6 in DMC", "1.0 M LiPF6 in DMC"),
        ("1 LiPF6 in DMC", "1 M LiPF6 in DMC"),
        ("1 g LiPF6 in DMC", "1 M LiPF6 in DMC"),
        ("1 M LiPF6 EC:DMC 1:1 v/v", "1 M LiPF6 in EC:DMC 1:1 v/v"),
        ("1 M LiPF6", "1 M LiPF6 in EC:DMC 1:1 v/v"),
        ("1 M LiPF6 LiFSI in DMC", "1 M LiPF6 + 1 M LiFSI in DMC"),
        ("1 M LiPF6 + 1 m LiFSI in DMC", "1 M LiPF6 + 1 M LiFSI in DMC"),
        ("1 M LiPF5 in DMC", "1 M LiPF6 in DMC"),
        ("1 M MgTFSI in DME", "1 M Mg(TFSI)2 in DME"),
        ("1 M LiPF6 in EMD", "1 M LiPF6 in EMC"),
        ("propylenecarbonat", "PC"),
        ("EC:EMC", "EC:EMC 1:1 v/v"),
        ("EC:EMC w/w", "EC:EMC 1:1 w/w"),
        ("EC:EMC 3:7", "EC:EMC 3:7 v/v"),
        ("EC:EMC 3:7 v/w", "EC:EMC 3:7 v/v"),
        ("EC:EMC:DMC 3:7 v/v", "EC:EMC:DMC 3:7:1 v/v"),
        ("EC:EMC 3:7:1 v/v", "EC:EMC 3:7 v/v"),
        ("EC:EMC 0:1 v/v", "EC:EMC 1:1 v/v"),
        ("EC::EMC 1:1 v/v", "EC:EMC 1:1 v/v"),
        ("EC-EMC 1:1 v/v", "EC:EMC 1:1 v/v"),
        ("EC EMC 1:1 v/v", "EC:EMC 1:1 v/v"),
        ("EC + EMC 1:1 v/v", "EC:EMC 1:1 v/v"),
        ("LiFSI:DMC 1:1.1 v/v", "LiFSI:DMC 1:1.1 mol/mol"),
        ("30 wt% EC + 60 wt% EMC", "EC:EMC 30:60 w/w"),
        ("0 M LiPF6 in DMC", "1 M LiPF6 in DMC"),
        ("LiPF6", "1.0 M LiPF6 in EC:DMC 1:1 v/v"),
        ("", "1.0 M LiPF6 in EC:DMC 1:1 v/v"),
    ],
)
def test_refusals_name_a_spelling_that_works(text: str, works: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text)
    assert str(caught.value).endswith(f"; try '{works}'")
    parse_recipe(works)


@settings(deadline=None)
@given(st.text("LiPF6ECDMC:/1.0 vw%+in(),MmolVC", max_size=30))
def test_whatever_a_refusal_offers_works(text: str) -> None:
    refusal = _refusal(parse_recipe, text)
    offered = re.search(r"; try '(.*)'$", refusal)
    if offered:
        parse_recipe(offered[1])
    else:  # names that are like none have no neighbour to offer
        assert not refusal or "smiles:" in refusal


def test_suggestions_are_near() -> None:
    """A short name is suggested only for one slip: TEP was answered with water."""
    known = {name.casefold(): name for name in solvents()}
    for name in solvents():
        others = {key: other for key, other in known.items() if other != name}
        if len(name) <= 4:
            assert all(abs(len(near) - len(name)) <= 1 for near in nearest(name.casefold(), others))
    assert nearest("tepx", {"water": "water"}) == []


@pytest.mark.parametrize("name", ["unobtainium", "Q"])
def test_a_name_like_none_says_how_to_give_it_anyway(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"unknown solvent '{name}'.*--list.*smiles:.*file:"):
        parse_recipe(name)


# ---- amounts -------------------------------------------------------------------------------------


def test_additives_are_shares_of_the_whole_as_on_paper() -> None:
    """1 kg of DMC + 20 g VC per 1000 g: VC is 2 % of the mass, salt included."""
    built = compose(parse_recipe("1 m LiPF6 in DMC + 2 wt% VC"), 2_000_000)
    # per kg of DMC and VC: 1 mol LiPF6 of 151.905 g
    vc = 0.02 * 1151.905
    assert built.counts["VC"] / built.counts["LiPF6"] == pytest.approx(vc / 86.046, rel=1e-3)
    assert built.counts["DMC"] / built.counts["LiPF6"] == pytest.approx(
        (1000 - vc) / 90.078, rel=1e-3
    )
    assert built.percent["VC"] == pytest.approx(2.0, rel=1e-3)


@settings(deadline=None, max_examples=20)
@given(recipes())
def test_a_large_box_has_what_was_asked(recipe: Recipe) -> None:
    if refusal := _refusal(compose, recipe, 1_000_000):
        assert re.search("no room|smallest --atoms|--density", refusal)
        return
    built = compose(recipe, 1_000_000)
    if min(built.counts.values()) > 1000:
        assert built.deviation < 2e-3
    assert sum(molecule.charge * n for molecule, n in built.molecules) == 0


def test_salts_in_mixtures_and_ionic_liquids() -> None:
    built = compose(parse_recipe("LiFSI:sulfolane:TTE 1:3:3 mol/mol"), 1000)
    assert built.counts["sulfolane"] == built.counts["TTE"] == 3 * built.counts["LiFSI"]
    liquid = compose(parse_recipe("0.5 m LiTFSI in EMIM-TFSI"), 100_000)
    numbers = {molecule.name: n for molecule, n in liquid.molecules}
    assert numbers["TFSI"] == numbers["EMIM"] + numbers["Li"]
    assert compose(parse_recipe("EMIM-TFSI"), 1000).density == pytest.approx(1.518, rel=0.005)
    assert numbers["Li"] / numbers["EMIM"] == pytest.approx(0.5 * 0.39131, rel=2e-3)


def test_a_melt_of_atomic_ions_wants_a_density() -> None:
    with pytest.raises(RecipeError, match="--density for a melt with LiCl"):
        compose(parse_recipe("LiCl:KCl 59:41 mol/mol"), 500)
    built = compose(parse_recipe("LiCl:KCl 59:41 mol/mol"), 500, density=1.6)
    assert built.density == 1.6


def test_multivalent_boxes_are_packed_neutral() -> None:
    box = build_box("0.5 M Mg(TFSI)2 in DME", 500)
    names = box.info["molecules"]
    assert names.count("TFSI") == 2 * names.count("Mg") > 0
    assert describe_box(box).counts["Mg(TFSI)2"] == names.count("Mg")


# ---- smallest box --------------------------------------------------------------------------------


@pytest.mark.parametrize("within", [0.1, 0.02, 0.005])
@pytest.mark.parametrize(
    "text", ["1 M LiPF6 in EC:EMC 3:7 w/w", "EC:DMC 1:2 v/v", "1.2 m LiFSI in DME + 2 wt% VC"]
)
def test_no_smaller_box_is_as_near(text: str, within: float) -> None:
    """Every composition of fewer atoms that `compose` finds is farther off."""
    recipe = parse_recipe(text)
    best = smallest(recipe, within)
    assert best.deviation <= within
    for n_atoms in range(40, min(best.n_atoms, 3000), 7):
        try:
            other = compose(recipe, n_atoms)
        except RecipeError:
            continue
        if other.n_atoms < best.n_atoms * (1 - within):
            assert other.deviation > within


def test_least_size_and_tolerance_are_kept() -> None:
    recipe = parse_recipe("1 M LiPF6 in EC:EMC 3:7 w/w")
    assert smallest(recipe, 0.02, n_atoms=1000).n_atoms >= 1000
    box = build_box(recipe, within=0.02)
    assert describe_box(box).deviation <= 0.02
    with pytest.raises(RecipeError, match=r"0\.02 for 2 %"):
        smallest(recipe, 2.0)


# ---- molecules from elsewhere --------------------------------------------------------------------


def test_salts_by_smiles_are_those_of_the_library() -> None:
    pytest.importorskip("rdkit", reason="RDKit is the optional extra 'smiles'")
    recipe = parse_recipe("1 M smiles:[Li+].F[P-](F)(F)(F)(F)F + 0.5 M LiFSI in DMC")
    built = compose(recipe, 3000)
    plain = compose(parse_recipe("1 M LiPF6 + 0.5 M LiFSI in DMC"), 3000)
    assert [n for _, n in built.molecules] == [n for _, n in plain.molecules]
    assert built.density == pytest.approx(plain.density)
    assert parse_recipe(str(recipe)) == recipe


def test_new_salts_by_smiles() -> None:
    pytest.importorskip("rdkit", reason="RDKit is the optional extra 'smiles'")
    salt = find_salt("smiles:[Mg+2].[O-]C(=O)c1ccccc1.[O-]C(=O)c1ccccc1")
    assert (salt.n_cations, salt.n_anions) == (1, 2)
    assert salt.cation is ions()["Mg"]
    assert salt.anion.charge == -1
    box = build_box("0.5 M smiles:[Na+].[O-]C(=O)c1ccccc1 in DMC", 300)
    assert describe_box(box).n_atoms == len(box)
    with pytest.raises(RecipeError, match="one kind of cation and one of anion"):
        find_salt("smiles:[Li+].[Na+].[Cl-].[Cl-]")


def test_a_structure_file_is_a_molecule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("own.xyz", find_solvent("sulfolane").atoms())
    molecule = find_solvent("file:own.xyz")
    known = find_solvent("sulfolane")
    assert molecule.molar_volume == pytest.approx(known.molar_volume, rel=0.1)
    box = build_box("1 M LiPF6 in EC:file:own.xyz 1:1 mol/mol + 5 wt% VC", 400)
    assert describe_box(box).counts["file:own.xyz"] == describe_box(box).counts["EC"]


@pytest.mark.parametrize(
    ("atoms", "says"),
    [
        (Atoms("HeHe", [[0, 0, 0], [0, 0, 9]]), "one molecule in own.extxyz, got 2"),
        (Atoms("HF", [[0, 0, 0], [0, 0, 0.92]], cell=[5] * 3, pbc=True), "periodic"),
        (Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": -1}), "got charge -1"),
    ],
)
def test_files_that_hold_no_molecule_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, atoms: Atoms, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write("own.extxyz", atoms)
    with pytest.raises(RecipeError, match=says):
        find_solvent("file:own.extxyz")


def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"no file at none\.xyz"):
        parse_recipe("1 M LiPF6 in file:none.xyz")
    Path("bad.xyz").write_text("not a structure")
    with pytest.raises(RecipeError, match="structure file that ASE reads"):
        parse_recipe("file:bad.xyz")
