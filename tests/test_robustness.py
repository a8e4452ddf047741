"""What users get wrong ends in one line that says what was expected and what was got."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write
from conftest import make_potential, salt_box, water
from safetensors.torch import save, save_file
from test_bamboo import as_npz, random_arrays

import hff_ase.cli
from hff_ase import HybridFF, available_models
from hff_ase.checkpoint import ModelInfo, load_model, save_model
from hff_ase.errors import (
    CheckpointError,
    ConfigError,
    HFFError,
    HFFWarning,
    SimulationError,
    StructureError,
)
from hff_ase.model_file import digest, read_file
from hff_ase.terms.predicted_charges import PredictedCharges

ROOT = Path(__file__).parents[1]


def one_line(error: BaseException) -> str:
    """The message, which is one line."""
    text = str(error)
    assert text
    assert "\n" not in text
    return text


# --- structures ----------------------------------------------------------------------------


def changed(make: Callable[[], Atoms], **changes: Any) -> Atoms:
    """A structure with attributes replaced; ``info`` is added to."""
    atoms = make()
    atoms.info.update(changes.pop("info", {}))
    for name, value in changes.items():
        setattr(atoms, name, value)
    return atoms


def moved(make: Callable[[], Atoms], index: int, position: Any) -> Atoms:
    """A structure with one atom elsewhere."""
    atoms = make()
    atoms.positions[index] = position
    return atoms


def transmuted(make: Callable[[], Atoms], index: int, number: int) -> Atoms:
    """A structure with one atom of another element."""
    atoms = make()
    atoms.numbers[index] = number
    return atoms


BAD_STRUCTURES: dict[str, tuple[Any, str]] = {
    "no structure": (None, "expected ase.Atoms or several, got NoneType"),
    "a number": (3, "expected ase.Atoms or several, got int"),
    "a file name": ("box.xyz", "expected ase.Atoms, got str"),
    "a list with None": ([water(), None], r"expected ase.Atoms, got NoneType \(structure 1\)"),
    "an empty list": ([], "expected at least one structure, got an empty list"),
    "no atoms": (Atoms(), "expected at least one atom, got an empty structure"),
    "no atoms in a box": (Atoms(cell=[5, 5, 5], pbc=True), "expected at least one atom"),
    "unknown element": (
        transmuted(water, 0, 11),
        r"model knows H Li C O F P; structure holds Na \(atom 0\)",
    ),
    "unknown element in a batch": ([water(), transmuted(water, 2, 79)], r"Au \(atom 2 of str"),
    "dummy element": (transmuted(water, 1, 0), r"structure holds X \(atom 1\)"),
    "atomic number 200": (transmuted(water, 1, 200), "atomic numbers of elements, got 200 for"),
    "atomic number -1": (transmuted(water, 1, -1), "atomic numbers of elements, got -1 for"),
    "nan position": (moved(water, 2, np.nan), r"got \[nan, nan, nan\] for atom 2 \(H\)"),
    "inf position": (moved(salt_box, 0, [0, np.inf, 0]), r"\[0.0, inf, 0.0\] for atom 0 \(Li\)"),
    "position too far": (moved(water, 0, 1e30), r"within 1e\+07 A of the origin"),
    "coincident atoms": (
        moved(water, 0, water().positions[1]),
        "expected atoms at least 0.2 A apart, got atoms 0 and 1 at 0.000 A",
    ),
    "coincident with an image": (
        moved(salt_box, 0, salt_box().positions[1] + salt_box().cell[0]),
        "got atoms 0 and 1 at 0.000 A",
    ),
    "own image too close": (
        Atoms("H", cell=[0.1, 1000, 1000], pbc=True),
        "got atoms 0 and 0 at 0.100 A",
    ),
    "inf cell": (changed(salt_box, cell=np.diag([np.inf, 5, 5])), "expected a finite cell"),
    "nan cell": (changed(salt_box, cell=np.diag([np.nan, 5, 5])), "expected a finite cell"),
    "no cell": (changed(water, pbc=True), "expected a cell with a volume, got 0 A"),
    "flat cell": (
        changed(salt_box, cell=[[5, 0, 0], [0, 5, 0], [5, 5, 0]]),
        "expected a cell with a volume",
    ),
    "left-handed cell": (
        changed(salt_box, cell=[[0, 5, 0], [5, 0, 0], [0, 0, 5]]),
        "expected a right-handed cell, got one with volume -125 A",
    ),
    "tiny cell": (changed(salt_box, cell=np.eye(3) * 0.02), "expected at least 0.1 A.3 per atom"),
    "slab": (changed(salt_box, pbc=[True, True, False]), r"got pbc=\[True, True, False\]"),
    "charge abc": (
        changed(water, info={"charge": "abc"}),
        r"atoms.info\['charge'\] to be a finite number, got 'abc'",
    ),
    "charge None": (changed(water, info={"charge": None}), "got None"),
    "charge nan": (changed(water, info={"charge": np.nan}), "to be a finite number, got nan"),
    "charge per atom": (changed(water, info={"charge": np.ones((3, 3))}), "got array"),
    "charge of a million": (changed(water, info={"charge": 1e6}), "at most 8 e per atom, got 1e"),
}


@pytest.mark.parametrize(("structure", "says"), BAD_STRUCTURES.values(), ids=BAD_STRUCTURES)
def test_bad_structures(small_calculator, structure, says):
    with pytest.raises(StructureError, match=says) as caught:
        small_calculator.evaluate(structure)
    one_line(caught.value)
    if isinstance(structure, Atoms):
        for _ in range(2):
            with pytest.raises(StructureError):
                small_calculator.get_property("energy", structure)


def test_calculator_without_atoms(small_calculator):
    with pytest.raises(StructureError, match="expected a structure to evaluate, got none"):
        small_calculator.calculate()


def test_results_that_are_not_finite(small_calculator):
    head = small_calculator.potential.terms["short_range"].energy
    with torch.no_grad():
        head[-1].bias.fill_(torch.nan)
    with pytest.raises(StructureError, match="expected a finite energy and finite forces"):
        small_calculator.get_property("energy", water())


def failing_with(calculator: HybridFF, error: Exception) -> Any:
    """Let every evaluation end in an error, until the handle that is returned is removed."""

    def fail(*_: object) -> None:
        raise error

    return calculator.potential.named_terms()[0][1].register_forward_pre_hook(fail)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 GB")]
)
def test_memory_that_runs_out(small_calculator, error):
    handle = failing_with(small_calculator, error)
    with pytest.raises(StructureError, match="expected structures that fit into memory, got 8 at"):
        small_calculator.get_property("energy", salt_box())
    handle.remove()
    small_calculator.get_property("energy", salt_box())


def test_other_errors_are_not_hidden(small_calculator):
    failing_with(small_calculator, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        small_calculator.get_property("energy", salt_box())


# --- model files ---------------------------------------------------------------------------


def rewritten(path: Path, change: Callable[[dict, dict], None]) -> Path:
    """The model with something changed, its digest made right again."""
    description, tensors = read_file(path)
    change(description, tensors)
    text = json.dumps(description)
    metadata = {"hff": text, "sha256": digest(text, tensors)}
    other = path.with_name("changed.hff")
    other.write_bytes(save(tensors, metadata=metadata))
    return other


WEIGHT = "weights.terms.short_range.energy.0.weight"
CHANGES: dict[str, tuple[Callable[[dict, dict], Any], str]] = {
    "newer format": (lambda d, _: d.update(format_version=2), "format 2 in .*: update hff_ase"),
    "no format": (lambda d, _: d.pop("format_version"), "expected a readable description"),
    "no info": (lambda d, _: d.pop("info"), "expected a description with 'info'"),
    "no terms": (lambda d, _: d.update(terms=[]), "got none"),
    "terms of text": (lambda d, _: d.update(terms=["evil"]), "name, kind and config"),
    "unknown term": (lambda d, _: d["terms"][0].update(kind="os.system"), "os.system"),
    "unknown option": (lambda d, _: d["terms"][0]["config"].update(x=1), "unexpected keyword"),
    "nonsense option": (lambda d, _: d["terms"][2]["config"].update(tolerance="x"), "terms that"),
    "huge network": (
        lambda d, _: d["terms"][0]["config"].update(hidden=[10**13]),
        "expected terms that hff_ase .* knows",
    ),
    "unknown element": (lambda d, _: d.update(elements=["H", "Qq"]), "Qq"),
    "wrong order": (lambda d, _: d["terms"].reverse(), "needs the field 'charges'"),
    "no reference": (lambda d, _: d.update(n_references=0), "at least one reference structure"),
    "missing reference": (lambda d, _: d.update(n_references=7), "reference structure 2"),
    "broken reference": (
        lambda _, t: t.update({"reference.0.positions": torch.ones(7)}),
        "expected to evaluate reference structure 0",
    ),
    "other weights": (
        lambda _, t: t[WEIGHT].mul_(1.5),
        "expected the stored results of reference structure 0",
    ),
    "weights of nan": (lambda _, t: t[WEIGHT].fill_(torch.nan), "got differences of nan"),
    "missing weights": (lambda _, t: t.pop(WEIGHT), "expected weights that fit the terms"),
    "misshapen weights": (lambda _, t: t.update({WEIGHT: torch.ones(2)}), "expected weights that"),
}


@pytest.mark.parametrize(("change", "says"), CHANGES.values(), ids=CHANGES)
def test_models_that_were_changed(small_model_path, change, says):
    path = rewritten(small_model_path, change)
    with pytest.raises(CheckpointError, match=says) as caught:
        HybridFF.load(path)
    assert str(path) in one_line(caught.value)


def test_model_rewritten_without_a_change_loads(small_model_path):
    load_model(rewritten(small_model_path, lambda *_: None))


def test_every_flipped_bit_and_every_cut_is_noticed(small_model_path, tmp_path):
    content = small_model_path.read_bytes()
    path = tmp_path / "damaged.hff"
    rng = np.random.default_rng(0)
    for place in [*rng.integers(len(content), size=60), *rng.integers(6000, size=60)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError) as caught:
            read_file(path)
        one_line(caught.value)
    for length in (0, 1, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="damaged or no such file"):
            read_file(path)


class Malice:
    """What a pickle may do when it is loaded."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch executed",)


def test_files_that_are_no_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.hff").write_text("not a model")
    (tmp_path / "folder.hff").mkdir()
    (tmp_path / "pickle.hff").write_bytes(pickle.dumps(Malice()))
    torch.save({"weights": torch.ones(3)}, tmp_path / "torch.hff")
    save_file({"weights": torch.ones(3)}, tmp_path / "other.hff")
    for name in ("text", "folder", "pickle", "torch", "other", "missing"):
        with pytest.raises(CheckpointError, match=r"expected an \.hff model file, got") as caught:
            HybridFF.load(tmp_path / f"{name}.hff")
        one_line(caught.value)
        with pytest.raises(CheckpointError, match="expected a BAMBOO checkpoint") as caught:
            HybridFF.from_bamboo(tmp_path / f"{name}.hff")
        one_line(caught.value)
    assert not (tmp_path / "executed").exists()


def test_unknown_models_get_a_hint(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="did you mean 'electrolyte-e3'") as caught:
        HybridFF.load("electrolyte_e3")
    shipped = ", ".join(available_models())
    assert f"expected a shipped model ({shipped}) or a path" in one_line(caught.value)
    with pytest.raises(CheckpointError) as caught:
        HybridFF.load("zzz")
    assert "did you mean" not in one_line(caught.value)


def full(*_: object, **__: object) -> None:
    """A disk without room."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_model_onto_a_full_disk(tmp_path, monkeypatch):
    path = tmp_path / "model.hff"
    path.write_text("precious")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match=r"expected to write .*: No space left on device"):
        save_model(path, make_potential(), ModelInfo("x"), [water()])
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_model_into_no_folder(tmp_path, small_calculator):
    for path in (tmp_path / "none" / "model.hff", Path("/dev/null/model.hff")):
        with pytest.raises(CheckpointError, match=r"expected to write .*, got:"):
            small_calculator.save(path, [water()])
    with pytest.raises(CheckpointError, match="expected at least one reference structure"):
        small_calculator.save(tmp_path / "model.hff", [])


# --- the command line ----------------------------------------------------------------------


def content(folder: Path) -> dict[str, bytes | None]:
    """Everything that lies in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def hff(tmp_path, monkeypatch, capsys, small_model_path) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process, in a folder with a few files; code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")  # main sets it where it is not
    (tmp_path / "small.hff").write_bytes(small_model_path.read_bytes())
    write("box.extxyz", salt_box())
    write("water.xyz", water())

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hff", *arguments])
        capsys.readouterr()
        code = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # as outside of tests
            try:
                hff_ase.cli.main()
            except SystemExit as leaving:
                code = int(leaving.code or 0)
        return code, *capsys.readouterr()

    return run


def refused(hff: Callable[..., tuple[int, str, str]], arguments: Sequence[str], says: str) -> None:
    """The command ends in one line and code 2, and leaves everything as it was."""
    before = content(Path.cwd())
    code, out, err = hff(*arguments)
    assert code == 2, (code, out, err)
    assert out == ""
    assert err.startswith("hff: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert says in err
    assert content(Path.cwd()) == before


MD = ("md", "box.extxyz", "--model", "small.hff", "--no-progress")
SHORT = (*MD, "--time", "1fs")

BAD_COMMANDS: dict[str, tuple[Sequence[str], str]] = {
    # recipes
    "unknown salt": (
        ("build", "1 M LiXX in EC"),
        "unknown salt 'LiXX': not in `hff build --list`, any",
    ),
    "no recipe": (
        ("build", ""),
        "expected a recipe, got nothing; try '1.0 M LiPF6 in EC:DMC 1:1 v/v'",
    ),
    "recipe of nonsense": (
        ("build", "a bottle of beer"),
        "unknown solvent 'a bottle of beer': not in",
    ),
    "no solvent": (("build", "1.0 M LiPF6 in"), "expected 'in' and a solvent after the salt"),
    "negative concentration": (("build", "--", "-1 M LiPF6 in EC"), "a positive concentration"),
    "concentration of nan": (("build", "nan M LiPF6 in EC"), "got 'nan M LiPF6'"),
    "one part too many": (("build", "EC:DMC 1:1:1 v/v"), "expected 2 numbers for EC:DMC, got 3"),
    "ratio of nothing": (("build", "EC:DMC 0:0 v/v"), "expected positive numbers in the ratio"),
    "unknown basis": (
        ("build", "EC:DMC 1:1 x/x"),
        "expected a ratio and v/v, w/w or mol/mol after EC:DMC",
    ),
    "too concentrated": (("build", "500 M LiPF6 in EC"), "no room for the solvent"),
    "too few atoms": (("build", "1 M LiPF6 in EC", "--atoms", "3"), "the smallest --atoms is 101"),
    "negative atoms": (("build", "EC", "--atoms", "-5"), "--atoms: expected at least 1, got '-5'"),
    "density of zero": (("build", "EC", "--density", "0"), "--density: expected more than 0"),
    "density of nan": (("build", "EC", "--density", "nan"), "--density: expected a finite"),
    "negative seed": (("build", "EC", "--seed", "-1"), "--seed: expected at least 0"),
    "broken smiles": (("build", "smiles:C(C"), "expected valid SMILES after 'smiles:', got 'C(C'"),
    "output is there": (("build", "EC", "-o", "box.extxyz"), "does not exist yet (or --force)"),
    "output in no folder": (("build", "EC", "-o", "none/box.extxyz"), "an existing folder"),
    "output of another kind": (("build", "EC", "-o", "box.pdf"), "ends in .extxyz, got box.pdf"),
    # models
    "unknown model": (("models", "zzz"), "expected a shipped model"),
    "no model file": (("models", "none.hff"), "got no file at none.hff"),
    "a structure as a model": (("models", "box.extxyz"), "damaged or no such file"),
    "card of nothing": (("models", "--card"), "expected a model's name with --card, got none"),
    "no card": (("models", "small.hff", "--card"), "expected a model card beside small.hff"),
    "no checkpoint": (("import-bamboo", "none.pt"), "got no file at none.pt"),
    "bad checkpoint": (("import-bamboo", "box.extxyz"), "which cannot be read"),
    "model is there": (("import-bamboo", "x.pt", "-o", "small.hff"), "does not exist yet"),
    "model in no folder": (("import-bamboo", "x.pt", "-o", "none/x.hff"), "an existing folder"),
    # runs
    "no settings": (("md",), "expected"),
    "no structure": (("md", "--model", "small.hff", "--time", "1ps"), "expected a structure"),
    "no such structure": (("md", "none.xyz", *SHORT[2:]), "none.xyz, which does not exist"),
    "a model as a structure": (("md", "small.hff", *SHORT[2:]), "cannot read a structure from"),
    "empty structure": (("md", "empty.xyz", *SHORT[2:]), "empty.xyz"),
    "structure of nan": (("md", "nan.xyz", *SHORT[2:]), "nan.xyz"),
    "folder as a structure": (("md", ".", *SHORT[2:]), "expected a structure file"),
    "no model": (("md", "box.extxyz", "--time", "1ps"), "expected a model"),
    "model not known": ((*SHORT[:2], "--model", "zzz", *SHORT[4:]), "expected a shipped model"),
    "no time": (MD, "expected a length such as time: 50ps"),
    "time without unit": ((*MD, "--time", "50"), "expected a positive time with its unit"),
    "time of text": ((*MD, "--time", "long"), "got 'long'"),
    "negative time": ((*MD, "--time", "-1ps"), "expected a positive time"),
    "less than a step": ((*MD, "--time", "0.1fs"), "at least one step"),
    "unknown ensemble": ((*SHORT, "--ensemble", "nph"), "ensemble: "),
    "unknown stage": ((*MD, "--stages", "npz:1ps"), "got 'npz:1ps'"),
    "stages and time": ((*SHORT, "--stages", "npt:1ps"), "got both"),
    "npt of a molecule": (
        ("md", "water.xyz", *SHORT[2:], "--ensemble", "npt"),
        "expected a periodic box for npt",
    ),
    "pressure without npt": ((*SHORT, "--pressure", "1"), "expected a pressure only with npt"),
    "negative temperature": ((*SHORT, "--temperature", "-300"), "temperature: "),
    "temperature of nan": ((*SHORT, "--temperature", "nan"), "temperature: "),
    "no temperature": ((*SHORT, "--temperature", "0"), "above 0 K"),
    "timestep of zero": ((*SHORT, "--timestep", "0"), "timestep: "),
    "timestep of inf": ((*SHORT, "--timestep", "inf"), "timestep: "),
    "friction of zero": ((*SHORT, "--friction", "0"), "friction: "),
    "rows never": ((*SHORT, "--statistics-interval", "0"), "--statistics-interval: "),
    "seed below zero": ((*SHORT, "--seed", "-1"), "seed: "),
    "unknown minimizer": ((*SHORT, "--minimizer", "magic"), "minimizer: "),
    "precision not known": ((*SHORT, "--dtype", "float16"), "dtype: "),
    "device not known": ((*SHORT, "--device", "tpu"), "expected device 'cpu' or 'cuda', got 'tpu'"),
    "term not known": ((*SHORT, "--without", "gravity"), "got 'gravity'"),
    "no momenta": ((*SHORT, "--velocities", "file"), "expected momenta in the structure"),
    "element not known": (("md", "gold.xyz", *SHORT[2:]), "structure holds Au (atom 1)"),
    "atoms on each other": (("md", "close.xyz", *SHORT[2:]), " A apart"),
    "output is a file": ((*SHORT, "-o", "box.extxyz"), "box.extxyz"),
    "output below a file": ((*SHORT, "-o", "box.extxyz/run"), "box.extxyz/run"),
    "nothing to resume": (("md", "--resume", "none"), "expected a run in none"),
    "resume and force": (("md", "--resume", "none", "--force"), "got both"),
    # settings files
    "no settings file": ((*SHORT, "--config", "none.yaml"), "cannot read the settings in none"),
    "folder of settings": ((*SHORT, "--config", "."), "cannot read the settings in ."),
    "settings of no text": ((*SHORT, "--config", "small.hff"), "small.hff: expected yaml"),
}

YAML: dict[str, tuple[str, str]] = {
    "unknown key": ("temperatur: 300", "unknown setting 'temperatur'; did you mean temperature"),
    "unknown keys": ("zzz: 1\nyyy: 2", "unknown setting "),
    "number of text": ("temperature: warm", "temperature: "),
    "list for a number": ("timestep: [1, 2]", "timestep: "),
    "mapping for a number": ("timestep: {fs: 1}", "timestep: "),
    "text for a switch": ("minimize: perhaps", "minimize: "),
    "number for a model": ("model: 3", "model: "),
    "number for stages": ("stages: 3", "expected a list such as"),
    "nested stages": ("stages: [{npt: 1ps}]", "expected ENSEMBLE:TIME"),
    "half a step": ("statistics_interval: 1.5", "statistics_interval: "),
    "yaml nan": ("temperature: .nan", "temperature: "),
    "a list": ("- temperature", "md.yaml: expected 'setting: value' lines"),
    "a word": ("nothing", "md.yaml: expected 'setting: value' lines"),
    "no yaml": ("a: [1,", "md.yaml:1: expected yaml"),
    "tabs": ("\ttime: 1ps", "md.yaml:1: expected yaml"),
    "python objects": ("time: !!python/object/apply:os.system [ls]", "md.yaml:1: expected yaml"),
    "null": ("temperature: null", "temperature: "),
}


@pytest.mark.parametrize(("arguments", "says"), BAD_COMMANDS.values(), ids=BAD_COMMANDS)
def test_bad_commands(hff, arguments, says):
    Path("empty.xyz").touch()
    Path("nan.xyz").write_text("1\n\nH nan 0 abc\n")
    write("gold.xyz", Atoms("LiAu", [[0, 0, 0], [0, 0, 3.0]]))
    write("close.xyz", Atoms("H2", [[0, 0, 0], [0, 0, 0.01]]))
    if arguments[0] == "build" and "-o" not in arguments:
        arguments = ("build", "-o", "new.extxyz", *arguments[1:])
    refused(hff, arguments, says)


@pytest.mark.parametrize(("text", "says"), YAML.values(), ids=YAML)
def test_bad_settings_files(hff, text, says):
    Path("md.yaml").write_text(text)
    arguments = MD if "model" not in text else ("md", "box.extxyz", "--no-progress")
    time = () if "stages" in text else ("--time", "1fs")
    refused(hff, (*arguments, *time, "--config", "md.yaml"), says)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("--nonsense",),
        ("build",),
        ("build", "EC", "extra"),
        ("build", "EC", "--atoms", "many"),
        ("build", "EC", "--atoms", "1.5"),
        ("md", "box.extxyz", "--friction", "short"),
        ("md", "box.extxyz", "--nonsense"),
        ("import-bamboo",),
        ("import-bamboo", "x.pt", "--tolerance", "small"),
        ("models", "--card=3"),
        ("info", "--nonsense"),
    ],
)
def test_usage(hff, arguments):
    before = content(Path.cwd())
    code, out, err = hff(*arguments)
    assert code == 2
    assert "Usage: hff" in out + err if not arguments else err.startswith("hff: ")
    assert not arguments or err.count("\n") == 1
    assert "Traceback" not in out + err
    assert content(Path.cwd()) == before


def test_damaged_model_on_the_command_line(hff):
    path = Path("small.hff")
    path.write_bytes(path.read_bytes()[:-10])
    refused(hff, ("models", "small.hff"), "damaged or no such file")
    refused(hff, SHORT, "damaged or no such file")


def test_disk_that_fills_up_while_a_box_is_written(hff, monkeypatch):
    monkeypatch.setattr("ase.io.write", full)
    arguments = ("build", "DMC", "--atoms", "96", "-o", "new.extxyz")
    refused(hff, arguments, "No space left on device")


def test_disk_that_fills_up_while_a_model_is_written(hff, monkeypatch):
    as_npz(Path.cwd(), random_arrays())
    monkeypatch.setattr("os.fsync", full)
    refused(hff, ("import-bamboo", "weights.npz", "-o", "new.hff"), "No space left on device")


def test_disk_that_fills_up_before_a_run(hff, monkeypatch):
    monkeypatch.setattr("os.fsync", full)
    code, _, err = hff(*SHORT, "-o", "run")
    assert code == 2
    assert "No space left on device" in err
    assert err.count("\n") == 1


def test_run_over_a_run(hff):
    run = (*SHORT, "--no-minimize", "--no-plot", "--max-temperature", "1e9", "-o", "run")
    assert hff(*run)[0] == 0
    refused(hff, run, "expected an output folder without a run, got run")
    refused(hff, ("md", "--resume", "run", "--temperature", "310"), "temperature 300.0, got 310.0")
    Path("run/checkpoint.npz").write_bytes(b"damaged")
    refused(hff, ("md", "--resume", "run"), "damaged file run/checkpoint.npz")


def test_ctrl_c_during_a_run(hff):
    calls: list[int] = []

    def interrupt(module: torch.nn.Module, _: object) -> None:
        if isinstance(module, PredictedCharges):
            calls.append(len(calls))
            if len(calls) == 8:
                os.kill(os.getpid(), signal.SIGINT)

    run = (*MD, "--time", "12fs", "--no-minimize", "--no-plot", "--max-temperature", "1e9")
    hook = torch.nn.modules.module.register_module_forward_pre_hook(interrupt)
    code, _, err = hff(*run, "--max-displacement", "9", "-o", "run")
    hook.remove()
    assert code == 130, err
    assert err.startswith("hff: stopped by SIGINT at step ")
    assert err.endswith("continue with hff md --resume run\n")
    assert err.count("\n") == 1
    assert hff("md", "--resume", "run")[0] == 0
    assert Path("run/summary.yaml").exists()


@pytest.fixture
def command() -> Iterator[Callable[[Callable[[], None]], None]]:
    """A function that gives `hff` one more command, `hff try`, until the test ends."""
    app = hff_ase.cli.app
    known = list(app.registered_commands)
    yield app.command("try")
    app.registered_commands[:] = known


def test_errors_of_the_disk_that_nobody_expected(hff, command):
    def read() -> None:
        Path("/dev/null/versions").read_text()

    command(read)
    refused(hff, ("try",), "Not a directory (/dev/null/versions)")


def test_bugs_are_not_hidden(hff, command):
    def fail() -> None:
        1 / 0  # noqa: B018

    command(fail)
    with pytest.raises(ZeroDivisionError):
        hff("try")


def test_messages_of_many_lines_become_one(hff, command):
    def fail() -> None:
        raise ConfigError("expected one line,\n  got two")

    command(fail)
    refused(hff, ("try",), "expected one line, got two")


def test_warnings_are_one_line(hff, command):
    def warn() -> None:
        warnings.warn("something", HFFWarning, stacklevel=2)

    command(warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = hff("try")
    assert (code, err) == (0, "hff: warning: something\n")


def test_every_error_is_one_of_ours():
    for kind in (StructureError, ConfigError, CheckpointError, SimulationError):
        assert issubclass(kind, HFFError)
        assert issubclass(kind, (ValueError, RuntimeError))


# --- in a process of its own ---------------------------------------------------------------


def shell(command: str, folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which $HFF is the command."""
    environment = os.environ | {
        "HFF": f"{sys.executable} -m hff_ase",
        "PY": sys.executable,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("$HFF build 'a bottle of beer'", "hff: unknown solvent 'a bottle of beer'"),
        ("$HFF models none.hff", "hff: expected an .hff model file, got no file at none.hff"),
        ("$HFF md none.xyz --model x --time 1ps", "hff: expected a structure file"),
        ("$HFF --version > /dev/full", "hff: "),
    ],
)
def test_errors_on_the_shell(tmp_path, command, says):
    done = shell(command, tmp_path)
    assert done.returncode == 2, done
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_reader_that_leaves(tmp_path):
    done = shell("set -o pipefail; $HFF info --json | head -c 1", tmp_path)
    assert done.stdout == "{"
    assert done.stderr == ""


INTERRUPTED = """
import signal, sys
import hff_ase.cli
sys.modules['hff_ase.cli.info'].gather = lambda: signal.raise_signal(signal.SIGINT)
sys.argv = ['hff', 'info']
hff_ase.cli.main()
"""


def test_ctrl_c(tmp_path):
    done = shell(f'exec $PY -c "{INTERRUPTED}"', tmp_path)
    assert done.returncode == 130
    assert done.stderr == "hff: interrupted\n"


# (pydantic is not among them: typer itself imports it for some options)
HEAVY = ("torch", "ase", "numpy", "scipy", "yaml", "matplotlib", "rdkit", "vesin")


@pytest.mark.parametrize(
    "code",
    [
        "import hff_ase",
        "import hff_ase.cli",
        "import sys; sys.argv = ['hff', '--help']; import hff_ase.cli; hff_ase.cli.main()",
        "import sys; sys.argv = ['hff', 'md', '--help']; import hff_ase.cli; hff_ase.cli.main()",
        "import sys; sys.argv = ['hff', '--version']; import hff_ase.cli; hff_ase.cli.main()",
    ],
)
def test_help_is_quick_because_nothing_heavy_is_imported(tmp_path, code):
    report = "import atexit, sys; atexit.register(lambda: print('LOADED', *sys.modules))\n"
    done = subprocess.run(
        [sys.executable, "-c", report + code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stdout.split("LOADED")[1].split()}
    assert not loaded & set(HEAVY)


def test_version(hff):
    assert hff("--version") == (0, hff_ase.__version__ + "\n", "")
