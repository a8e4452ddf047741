"""What a model was trained on: told from what it was not, before the first step."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from hff_ase import HybridFF
from hff_ase.checkpoint import ModelInfo, load_model, save_model
from hff_ase.data.dataset import MemoryDataset
from hff_ase.domain import Domain, KnownMolecule, domain_of, names_in
from hff_ase.domain_json import domain_from_dict, domain_to_dict
from hff_ase.dynamics.build import compose, find_solvent, ions, parse_recipe, solvents
from hff_ase.dynamics.build.naming import graph_of, name_of
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.replicas import ReplicaConfig, ReplicaRun
from hff_ase.dynamics.start.domains import check_domains
from hff_ase.errors import (
    CheckpointError,
    ConfigError,
    OutsideDomainError,
    OutsideDomainWarning,
)
from hff_ase.importers.bamboo import published_domain
from hff_ase.model_file import read_file, write_domain, write_file
from hff_ase.models import available_models, model_path, shipped_domains
from hff_ase.structures import mass_density
from hff_ase.training.domain import domain_of_dataset

DOMAINS = shipped_domains()
WIDE = ("electrolyte", "electrolyte-e3", "electrolyte-inner")
INSIDE = (
    *("EC", "PC", "DMC", "EMC", "DEC", "VC", "FEC", "EA", "ethanol", "acetone", "Novec7000"),
    *("EC:EMC 3:7 w/w", "1 M LiPF6 in EC:DMC 1:1 v/v", "2 M LiPF6 in PC"),
    *("1 M LiFSI in DMC", "4 m LiFSI in DMC", "1 m LiTFSI in ethanol", "2 m LiTFSI in PC"),
    "1 M LiPF6 in EC/EMC 3:7 w/w + 2 wt% VC",
    "0.5 M LiPF6 + 0.5 M LiFSI in EC:EMC:FEC 2:7:1 w/w",
)
OUTSIDE = {
    "1 M LiTFSI in sulfolane": {"sulfolane"},
    "GBL": {"GBL"},
    "water": {"water"},
    "21 m LiTFSI in water": {"water"},
    "DME": {"DME"},
    "TEP": {"TEP"},
    "acetonitrile": {"acetonitrile"},
    "1 M NaFSI in EC:DMC 1:1 v/v": {"Na"},
    "2 m NaFSI in DME": {"Na", "DME"},
    "1 M LiBF4 in EC:DMC 1:1 v/v": {"BF4"},
    "1 M LiPF6 in EC:EMC 3:7 w/w + 0.4 M LiDFOB": {"DFOB"},
    "1 M LiPF6 in EC:EMC 3:7 w/w + 5 wt% DTD": {"DTD"},
    "LiFSI:DMC:TTE 1:1.5:3 mol/mol": {"TTE"},
    "1 M LiTFSI in DOL:DME 1:1 vol": {"DOL", "DME"},
    "0.5 M Mg(TFSI)2 in diglyme": {"Mg", "diglyme"},
    "EMIM-TFSI": {"EMIM"},
    "methanol": {"methanol"},
    "MA": {"MA"},  # one carbon short of ethyl acetate
    "isopropanol": {"isopropanol"},
    "MP": {"MP"},  # an isomer of ethyl acetate
}


def loose(recipe: str, n_atoms: int = 150) -> Atoms:
    """The molecules of a recipe, turned at random, on a grid where none meets another."""
    random = np.random.default_rng(1)
    plan = compose(parse_recipe(recipe), n_atoms)
    molecules = [part for part, n in plan.molecules for _ in range(n)]
    side = int(np.ceil(len(molecules) ** (1 / 3)))
    spacing = 4.0 + max(part.extent for part in molecules)
    box = Atoms(cell=[side * spacing] * 3, pbc=True)
    for place, part in zip(np.ndindex(side, side, side), molecules, strict=False):
        turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
        positions = part.positions @ turn + spacing * np.array(place) - 1.0
        box += Atoms(list(part.symbols), positions=positions)
    box.wrap()
    return box[random.permutation(len(box))]


@pytest.fixture(scope="module")
def boxes() -> dict[str, Atoms]:
    return {recipe: loose(recipe, 400) for recipe in (*INSIDE, *OUTSIDE)}


def _unknown(domain: Domain, atoms: Atoms) -> set[str]:
    return {o.name for o in domain.check(atoms, name_of) if o.kind == "molecule"}


# ---- the shipped models --------------------------------------------------------------------------


def test_every_shipped_model_has_a_domain() -> None:
    assert sorted(DOMAINS) == available_models()
    assert len(INSIDE) == len(OUTSIDE) == 20


@pytest.mark.parametrize("model", WIDE)
def test_forty_liquids_of_the_electrolyte_models(model: str, boxes: dict[str, Atoms]) -> None:
    for recipe in INSIDE:
        assert DOMAINS[model].check(boxes[recipe], name_of) == [], recipe
    for recipe, names in OUTSIDE.items():
        assert _unknown(DOMAINS[model], boxes[recipe]) == names, recipe


def test_forty_liquids_of_the_ec_emc_model(boxes: dict[str, Atoms]) -> None:
    """Mixtures of the two and each alone are inside; whatever holds anything else is outside."""
    for share in range(1, 20):
        mixed = loose(f"EC:EMC {share}:{20 - share} mol/mol", 400)
        assert not _unknown(DOMAINS["ecemc-dft"], mixed)
    for recipe in ("EC", "EMC"):
        assert not _unknown(DOMAINS["ecemc-dft"], boxes[recipe])
    for recipe in (*INSIDE, *OUTSIDE):
        held = {part.name for part, _ in compose(parse_recipe(recipe), 400).molecules}
        assert _unknown(DOMAINS["ecemc-dft"], boxes[recipe]) == held - {"EC", "EMC"}, recipe


@pytest.mark.parametrize("model", sorted(DOMAINS))
def test_each_molecule_once_with_its_number_and_what_to_do(
    model: str, boxes: dict[str, Atoms]
) -> None:
    found = DOMAINS[model].check(boxes["2 m NaFSI in DME"], name_of)
    counts = compose(parse_recipe("2 m NaFSI in DME"), 400).counts
    outside = {o.name: o for o in found if o.kind == "molecule"}
    assert outside["DME"].count == counts["DME"]
    assert outside["Na"].count == counts["NaFSI"]
    assert outside["DME"].formula == "C4H10O2"
    assert len(outside) == sum(o.kind == "molecule" for o in found)
    assert "hff finetune" in str(outside["DME"])
    assert f"{counts['DME']} molecules of DME (C4H10O2)" in str(outside["DME"])


def test_published_weights_know_what_the_electrolyte_model_knows() -> None:
    names = {known.name for known in published_domain().molecules}
    assert names == {known.name for known in DOMAINS["electrolyte"].molecules}


def test_errors_are_those_of_the_card() -> None:
    known = {m.name: m for m in DOMAINS["electrolyte"].molecules}
    card = model_path("electrolyte").with_suffix(".md").read_text(encoding="utf-8")
    assert f"| EC | 14 | -0.11 | 0.17 | {known['EC'].errors['forces_meV_per_A']} |" in card


# ---- what is unusual -----------------------------------------------------------------------------


def test_more_salt_than_in_training_is_said() -> None:
    found = DOMAINS["electrolyte"].check(loose("LiFSI:DMC 4:3 mol/mol", 400), name_of)
    assert {o.kind for o in found} == {"share"}
    assert {o.name for o in found} == {"Li", "FSI"}
    assert "36 % of the molecules (up to 31 % in training)" in str(found[0])


@pytest.mark.parametrize(
    ("conditions", "kinds"),
    [
        ({"temperature": 300.0}, []),
        ({"temperature": 250.0, "density": 1.2, "pressure": 1e4}, []),
        ({"temperature": 900.0}, ["temperature"]),
        ({"temperature": 100.0, "density": 0.01}, ["temperature", "density"]),
    ],
)
def test_conditions(conditions: dict[str, float], kinds: list[str]) -> None:
    assert [o.kind for o in DOMAINS["electrolyte"].check_conditions(**conditions)] == kinds


def test_a_broken_molecule_is_outside() -> None:
    """TFSI without one of its fluorines, as its teacher made it in hot boxes."""
    anion = ions()["TFSI"].atoms()
    fluorine = int(np.flatnonzero(anion.numbers == 9)[0])
    anion.positions[fluorine] += [0.0, 0.0, 9.0]
    found = DOMAINS["electrolyte"].check(anion, name_of)
    assert {(o.name, o.formula) for o in found} == {("C2F5NO4S2", "C2F5NO4S2"), ("F", "F")}


def test_isomers_are_outside() -> None:
    """Methoxyacetic acid has the formula of DMC, dimethyl ether that of ethanol."""
    acid = find_solvent("acetic-acid").atoms()
    assert _unknown(DOMAINS["electrolyte"], acid) == {"acetic-acid"}
    assert _unknown(DOMAINS["electrolyte"], molecule("CH3OCH3")) == {"Me2O"}
    assert not _unknown(DOMAINS["electrolyte"], molecule("CH3CH2OH"))


# ---- files ---------------------------------------------------------------------------------------


def _domain() -> Domain:
    known = KnownMolecule("EC", graph_of(solvents()["EC"]), 0, 0.5, {"forces_meV_per_A": 20.0})
    lithium = KnownMolecule("Li", graph_of(ions()["Li"]), 1)
    return Domain((known, lithium), (250.0, 350.0), (0.9, 1.4), (0.0, 1000.0), ("1 m LiPF6 in EC",))


def test_json_and_back() -> None:
    for domain in (_domain(), *DOMAINS.values()):
        text = json.dumps(domain_to_dict(domain))
        assert domain_from_dict(json.loads(text)) == domain
    assert _domain().elements == ("H", "Li", "C", "O")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"molecules": []}, "list of molecules"),
        ({"molecules": [3]}, "molecule of a domain with named entries"),
        ({"temperature_K": [300, 200]}, "the lower first, as temperature_K"),
        ({"density_g_per_cm3": "high"}, "as density_g_per_cm3"),
        ({"pressure_bar": [1, float("nan")]}, "as pressure_bar"),
        ({"compositions": [1]}, "recipes as compositions"),
        ({"atoms": "C Xx"}, "elements as atoms of EC"),
        ({"atoms": ""}, "elements as atoms of EC"),
        ({"bonds": "0-99"}, "bonds i-j"),
        ({"bonds": "1-0"}, "bonds i-j"),
        ({"bonds": "one"}, "bonds i-j"),
        ({"share": "some"}, "charge and share"),
        ({"errors": {"forces": "small"}}, "numbers as errors"),
        ({"name": None}, "name, atoms and bonds"),
    ],
)
def test_damaged_domains_say_why(change: dict[str, Any], says: str) -> None:
    content = domain_to_dict(_domain())
    if set(change) <= set(content):
        content |= change
    else:
        content["molecules"][0] |= change
    with pytest.raises(ConfigError, match=says):
        domain_from_dict(content)


def test_a_file_holds_its_domain(tmp_path: Path, small_model_path: Path) -> None:
    potential, info = load_model(small_model_path)
    assert info.domain is None
    path = tmp_path / "own.hff"
    shutil.copyfile(small_model_path, path)
    write_domain(path, _domain())
    again, named = load_model(path)
    assert named == ModelInfo(**{**vars(info), "domain": _domain()})
    for key, value in potential.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    before, after = read_file(small_model_path)[1], read_file(path)[1]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    save_model(path, again, named, [molecule("H2O")])
    assert load_model(path)[1].domain == _domain()


def test_files_from_before_there_were_domains_load(tmp_path: Path, small_model_path: Path) -> None:

    description, tensors = read_file(small_model_path)
    del description["domain"]
    write_file(tmp_path / "old.hff", description, tensors)
    assert load_model(tmp_path / "old.hff")[1].domain is None


def test_a_damaged_domain_in_a_file(tmp_path: Path, small_model_path: Path) -> None:

    description, tensors = read_file(small_model_path)
    write_file(tmp_path / "bad.hff", description | {"domain": {"molecules": 1}}, tensors)
    with pytest.raises(CheckpointError, match="readable domain in a model file"):
        load_model(tmp_path / "bad.hff")


def test_domain_of_training_frames() -> None:
    frames = [loose("1 M LiPF6 in EC:DMC 1:1 v/v", 300), loose("EC", 100)]
    found = domain_of(frames, name_of)
    shares = {m.name: m.share for m in found.molecules}
    assert set(shares) == {"Li", "PF6", "EC", "DMC"}
    assert shares["EC"] == 1.0
    assert all(found.check(frame) == [] for frame in frames)
    assert _unknown(found, loose("PC", 100)) == {"PC"}
    with pytest.raises(ConfigError, match="at least one frame"):
        domain_of([])


def test_two_domains_are_one() -> None:
    one = Domain((KnownMolecule("EC", graph_of(solvents()["EC"]), share=0.5),), (280, 320))
    other = Domain(
        (
            KnownMolecule("C3H4O3", graph_of(solvents()["EC"]), share=0.7, errors={"f": 1.0}),
            KnownMolecule("C3H6O3", graph_of(solvents()["DMC"])),
        ),
        temperature=(300, 400),
        density=(0.9, 1.1),
    )
    both = one.joined(other)
    assert [(m.name, m.share, dict(m.errors)) for m in both.molecules] == [
        ("EC", 0.7, {}),
        ("C3H6O3", None, {}),
    ]
    assert (both.temperature, both.density) == ((280, 400), None)
    assert both.molecules[1].called(name_of) == "DMC"


def _labelled(frames: list[Atoms]) -> MemoryDataset:
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((len(atoms), 3)))
        atoms.arrays.pop("molecule", None)
    return MemoryDataset.from_atoms(frames)


def test_a_training_takes_its_domain_from_its_frames() -> None:
    """A molecule that broke in one frame of many is not what the model is for."""
    frames = [loose("1 M LiPF6 in EC", 150) for _ in range(7)]
    hydrogen = int(np.flatnonzero(frames[-1].numbers == 1)[0])
    frames[-1].positions[hydrogen] += 3.0
    frames.append(loose("DMC", 60))
    found = domain_of_dataset(_labelled(frames))
    assert found is not None
    called = {molecule.called(name_of): molecule.share for molecule in found.molecules}
    assert set(called) == {"Li", "PF6", "EC", "DMC"}
    assert called["DMC"] == 1.0
    assert found.density is not None
    assert found.density[0] <= mass_density(frames[0]) <= found.density[1]


def test_a_crystal_gives_no_domain() -> None:
    crystal = bulk("C", "diamond", cubic=True) * (3, 3, 4)
    crystal.new_array("molecule", np.zeros(len(crystal), dtype=int))
    assert domain_of_dataset(_labelled([crystal])) is None


# ---- whatever uses a model -----------------------------------------------------------------------


@pytest.fixture
def known_ec(tmp_path: Path, small_model_path: Path) -> Path:
    """A small model that knows EC and Li."""
    path = tmp_path / "ec.hff"
    shutil.copyfile(small_model_path, path)
    write_domain(path, _domain())
    return path


def test_the_calculator_warns_once_for_each_set_of_molecules(known_ec: Path) -> None:
    calc = HybridFF.load(known_ec)
    water, ethanol = molecule("H2O"), molecule("CH3CH2OH")
    with pytest.warns(OutsideDomainWarning, match="small was not trained on 1 molecule of H2O"):
        calc.evaluate([water])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calc.evaluate([water, water])
        water.calc = calc
        water.get_potential_energy()
        calc.evaluate([find_solvent("EC").atoms()])
    ethanol.calc = calc
    with pytest.warns(OutsideDomainWarning, match="C2H6O"):
        ethanol.get_potential_energy()


def test_torchsim_warns_once(known_ec: Path) -> None:
    ts = pytest.importorskip("torch_sim", reason="torch-sim-atomistic drives what is tested here")
    from hff_ase.dynamics.torchsim import HybridTorchSimModel

    model = HybridTorchSimModel.load(known_ec)
    state = ts.io.atoms_to_state([molecule("H2O"), molecule("H2O")], "cpu", torch.float64)
    with pytest.warns(OutsideDomainWarning, match="small was not trained on 1 molecule of H2O"):
        model(state)
    model.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(state)


def test_the_driver_of_ipi_warns(known_ec: Path, tmp_path: Path) -> None:
    pytest.importorskip("ipi", reason="i-PI drives what is tested here")
    from hff_ase.dynamics.hff_ipi_driver import HFFDriver

    write(tmp_path / "water.xyz", molecule("H2O"))
    with pytest.warns(OutsideDomainWarning, match="not trained on 1 molecule of H2O"):
        HFFDriver(template=str(tmp_path / "water.xyz"), model=str(known_ec))


def test_names_of_a_box_are_used() -> None:
    atoms = find_solvent("TEP").atoms()
    assert names_in(atoms)(graph_of(solvents()["TEP"])) is None
    atoms.set_array("molecule", np.zeros(len(atoms), dtype=int))
    atoms.info["molecules"] = ["my phosphate"]
    assert names_in(atoms)(graph_of(solvents()["TEP"])) == "my phosphate"
    found = DOMAINS["electrolyte"].check(atoms, names_in(atoms))
    assert found[0].what == "1 molecule of my phosphate (C6H15O4P)"


def _box(tmp_path: Path) -> Path:
    box = loose("EC:DMC 1:1 mol/mol", 100)
    write(tmp_path / "box.extxyz", box)
    return tmp_path / "box.extxyz"


def _settings(tmp_path: Path, model: Path, **more: Any) -> dict[str, Any]:
    structure = str(_box(tmp_path))
    output = str(tmp_path / "run")
    return {
        **{"structure": structure, "model": str(model), "output": output, "time": "2fs"},
        **{"minimize": False, "plot": False, "progress": False},
        **more,
    }


def test_md_refuses_before_the_first_step(tmp_path: Path, known_ec: Path) -> None:
    settings = _settings(tmp_path, known_ec)
    with pytest.raises(OutsideDomainError) as caught:
        MDRun.start(MDConfig(**settings))
    assert "small was not trained on 5 molecules of DMC (C3H6O3): nothing" in str(caught.value)
    assert "--outside-domain" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_md_goes_on_where_that_is_asked(tmp_path: Path, known_ec: Path) -> None:
    config = MDConfig(**_settings(tmp_path, known_ec, outside_domain=True, temperature=400.0))
    with pytest.warns(OutsideDomainWarning) as caught:
        summary = MDRun.start(config).run()
    messages = [str(w.message) for w in caught if w.category is OutsideDomainWarning]
    assert len(messages) == 2  # DMC once, although every step evaluates it, and the temperature
    assert "5 molecules of DMC (C3H6O3); continuing" in messages[0]
    assert "temperature 400 K (trained from 250 to 350)" in messages[1]
    assert summary["steps"] == 2


def test_replicas_refuse_too(tmp_path: Path, known_ec: Path) -> None:
    config = ReplicaConfig.load(_settings(tmp_path, known_ec, replicas=2))
    with pytest.raises(OutsideDomainError, match="5 molecules of DMC"):
        ReplicaRun.start(config)


def test_pimd_refuses_too(tmp_path: Path, known_ec: Path) -> None:
    pytest.importorskip("ipi", reason="i-PI is the optional extra 'pimd'")
    from hff_ase.dynamics.pimd import PIMDConfig, PIMDRun

    settings = {
        "structure": str(_box(tmp_path)),
        "model": str(known_ec),
        "output": str(tmp_path / "pimd"),
    }
    with pytest.raises(OutsideDomainError, match="5 molecules of DMC"):
        PIMDRun.create(PIMDConfig.load(settings))
    assert not (tmp_path / "pimd").exists()
    PIMDRun.create(PIMDConfig.load({**settings, "outside_domain": True}))


def test_models_without_a_domain_refuse_nothing() -> None:
    check_domains({"own": None}, [molecule("H2O")], [1e4], allowed=False)
