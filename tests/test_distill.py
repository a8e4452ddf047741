"""Distillation: labels are the teachers' mean, made once; the student comes near it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import read, write
from conftest import make_potential, salt_box
from core_models import feature_equilibrated
from typer import Typer
from typer.testing import CliRunner

from hff_ase.calculators import HybridFF
from hff_ase.calculators.committee import Committee
from hff_ase.calculators.finetune.distill import (
    distill,
    split,
    student_model,
    training_config,
)
from hff_ase.calculators.finetune.student import network_of, students, tables_of, terms_like
from hff_ase.calculators.finetune.teachers import label_frames, load_teachers
from hff_ase.calculators.finetune.uncertainty import SpreadScales, energy_spreads, weigh
from hff_ase.checkpoint import load_model
from hff_ase.cli.distill import distill as command
from hff_ase.data.labels import labels_of
from hff_ase.data.splits import chunks
from hff_ase.errors import ConfigError, StructureError
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.short_range import ShortRange

TINY = {"short_range": {"network": "get", "options": {
    "channels": 16, "heads": 4, "layers": 2, "n_radial": 8, "cutoff": 4.5}}}  # fmt: skip
QUICK = {
    "schedule": {"steps": 120, "warmup": 5},
    "optimizer": {"learning_rate": 1e-2},
    "batching": {"batch_size": 4},
    "ema": {"decay": 0.9},
    "loss": {"phases": []},
    "logging": {"validate_every": 40},
}


class DiedError(Exception):
    """Stands in for a power cut."""


def copper(n: int, amplitude: float = 0.1) -> list[Atoms]:
    frames = []
    for seed in range(n):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.rattle(amplitude, seed=seed)
        frames.append(atoms)
    return frames


def lj(sigma: float = 2.3) -> LennardJones:
    return LennardJones(sigma=sigma, epsilon=0.4, rc=5.0)


class CountsEMT(EMT):
    """Counts calculations and dies after some."""

    n_calls = 0
    last: int | None = None

    def calculate(self, *args, **options):
        self.n_calls += 1
        if self.last is not None and self.n_calls > self.last:
            raise DiedError
        super().calculate(*args, **options)


def test_labels_are_the_mean_and_weights_follow_the_spread(tmp_path):
    teachers = [HybridFF(make_potential(seed)) for seed in range(3)]
    frames = [salt_box(seed) for seed in range(8)]
    frames[0].info |= {"charge": 1.0, "weight_forces": 9.0, "method": "other"}
    labelled = label_frames(frames, teachers, tmp_path, batch_atoms=20)
    weigh(labelled, SpreadScales(energy=1e-3, forces=0.2, stress=None, charges=0.01))
    results, spreads = Committee(teachers).evaluate(frames)
    labels = labels_of(labelled)
    for index, (mean, spread) in enumerate(zip(results, spreads, strict=True)):
        atoms = labelled[index]
        assert atoms.get_potential_energy() == pytest.approx(mean["energy"], abs=1e-6)
        assert np.allclose(atoms.get_forces(), mean["forces"], atol=1e-5)
        assert np.allclose(atoms.get_stress(), mean["stress"], atol=1e-6)
        assert np.allclose(atoms.get_charges(), mean["charges"], atol=1e-6)
        assert np.allclose(atoms.arrays["forces_spread"], spread.forces, atol=1e-5)
        assert np.allclose(atoms.arrays["charges_spread"], spread.charges, atol=1e-6)
        rms = np.sqrt(np.mean(spread.forces**2))
        assert labels.property_weights["forces"][index] == pytest.approx(
            1 / (1 + (rms / 0.2) ** 2), rel=1e-4
        )
    assert set(labels.property_weights) == {"energy", "forces", "charges"}
    assert labelled[0].info["charge"] == 1
    assert labelled[0].info["method"].startswith("mean of 3")


def test_offsets_between_teachers_are_no_disagreement():
    rng = np.random.default_rng(0)
    frames, extra = [], rng.normal(size=(40, 2))
    for k in range(40):
        n_copper, n_gold = rng.integers(1, 6, 2)
        atoms = Atoms(["Cu"] * n_copper + ["Au"] * n_gold)
        zero = np.array([5.0 * n_copper - 2.0 * n_gold, 100.0 * n_gold])
        atoms.info["teacher_energies"] = zero + extra[k]
        frames.append(atoms)
    spread = energy_spreads(frames)
    expected = np.abs(extra[:, 0] - extra[:, 1]) / 2
    assert np.abs(spread - expected).mean() < 0.2 * expected.mean()  # two numbers fitted to forty
    few = energy_spreads(frames[:3])  # too few to tell: all of it
    energies = np.array([a.info["teacher_energies"] for a in frames[:3]])
    assert np.allclose(few, energies.std(axis=1))


def test_a_killed_labelling_goes_on_and_a_finished_one_is_not_repeated(tmp_path):
    frames, teacher = copper(7), CountsEMT()
    whole = label_frames(frames, [EMT(), lj()], tmp_path / "whole", batch_atoms=16)
    teacher.last = 3
    with pytest.raises(DiedError):
        label_frames(frames, [teacher, lj()], tmp_path / "cut", batch_atoms=16)
    again = CountsEMT()
    cut = label_frames(frames, [again, lj()], tmp_path / "cut", batch_atoms=16)
    assert again.n_calls == 5  # a pass has two frames: the first two were kept
    assert [a.get_potential_energy() for a in cut] == [a.get_potential_energy() for a in whole]
    once_more = CountsEMT()
    label_frames(frames, [once_more, lj()], tmp_path / "cut")
    assert once_more.n_calls == 0
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == [
        "labels.extxyz", "labels.json",
    ]  # fmt: skip
    for other in ([CountsEMT(), lj(2.4)], [CountsEMT()]):
        with pytest.raises(ConfigError, match="expected labels of these frames and teachers"):
            label_frames(frames, other, tmp_path / "cut")
    with pytest.raises(ConfigError, match="frames differ"):
        label_frames(copper(7, 0.2), [CountsEMT(), lj()], tmp_path / "cut")


def test_a_frame_that_a_teacher_refuses_is_named(tmp_path):
    frames = [salt_box(0), salt_box(1), salt_box(2)]
    frames[2].positions[3] = frames[2].positions[4]
    with pytest.raises(StructureError, match="in frame 2"):
        label_frames(frames, [HybridFF(make_potential())], tmp_path / "a")

    class Breaks(EMT):
        def calculate(self, *args, **options):
            super().calculate(*args, **options)
            self.results["forces"][0, 0] = np.nan

    with pytest.raises(StructureError, match="finite forces of teacher 1, got others in frame 0"):
        label_frames(copper(2), [EMT(), Breaks()], tmp_path / "b")


def force_error(calc: HybridFF, frames: list[Atoms], teachers: list) -> float:
    mean = [result["forces"] for result in Committee(teachers).evaluate(frames)[0]]
    found = [result["forces"] for result in calc.evaluate(frames)]
    return float(np.sqrt(np.mean((np.concatenate(found) - np.concatenate(mean)) ** 2)))


def clusters(n: int, first: int = 0) -> list[Atoms]:
    frames = []
    for seed in range(first, first + n):
        atoms = Atoms("Cu4", 2.5 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]))
        atoms.rattle(0.08, seed=seed)
        frames.append(atoms)
    return frames


def test_the_student_comes_near_the_mean_of_any_calculators(tmp_path):
    teachers = [EMT(), LennardJones(sigma=2.2, epsilon=0.3, rc=6.0)]
    frames, unseen = clusters(28), clusters(6, 100)
    # they are of different kinds: what they agree on is not what is worth learning
    loose = SpreadScales(energy=None, forces=9.0)
    options = {"terms": TINY, "hold_out": 0.15, "settings": QUICK, "scales": loose}
    calc = distill("get-small", teachers, frames, output=tmp_path / "a", **options)
    assert calc.potential.elements == ("Cu",)
    mean = np.concatenate([r["forces"] for r in Committee(teachers).evaluate(unseen)[0]])
    after = force_error(calc, unseen, teachers)
    assert after < 0.35 * np.sqrt(np.mean(mean**2))
    log = [json.loads(x) for x in (tmp_path / "a/training/log.jsonl").read_text().splitlines()]
    assert log[-1]["forces_rmse"] < 0.7 * log[0]["forces_rmse"]
    # the same again labels and trains nothing, and gives the same
    before = (tmp_path / "a/training/state.pt").read_bytes()
    again = distill("get-small", teachers, frames, output=tmp_path / "a", **options)
    assert force_error(again, unseen, teachers) == after
    assert (tmp_path / "a/training/state.pt").read_bytes() == before
    for name, other, message in (
        ("teachers", [CountsEMT(), teachers[1]], "labels of these frames and teachers"),
        ("scales", SpreadScales(forces=5.0), "frames and weights of the training"),
        ("terms", {"short_range": {}}, "model of the training"),
    ):
        asked = {"teachers": teachers, **options, name: other}
        with pytest.raises(ConfigError, match=message):
            distill("get-small", frames=frames, output=tmp_path / "a", **asked)
    # and on from the student itself
    gentle = QUICK | {"optimizer": {"learning_rate": 2e-3}}
    further = distill(
        calc, teachers, frames, output=tmp_path / "b", scales=loose, hold_out=0, settings=gentle
    )
    assert force_error(further, unseen, teachers) < after


def test_a_student_gets_the_physics_of_its_teacher(tmp_path):
    teachers = [HybridFF(make_potential(seed)) for seed in (0, 1)]
    frames = [salt_box(seed) for seed in range(4)]
    settings = QUICK | {"schedule": {"steps": 2, "warmup": 1}, "data": {}}
    with pytest.raises(ConfigError, match="settings without data"):
        distill("get-smaller", teachers, frames, output=tmp_path / "no", settings=settings)
    del settings["data"]
    calc = distill(
        "get-smaller", teachers, frames, output=tmp_path, settings=settings, hold_out=0.25
    )
    names = [name for name, _ in calc.potential.named_terms()]
    assert names == [name for name, _ in teachers[0].potential.named_terms()]
    mine, theirs = dict(calc.potential.named_terms()), dict(teachers[0].potential.named_terms())
    assert mine["short_range"].net.channels == 32
    for name in ("coulomb", "dispersion", "repulsion"):
        assert mine[name].config() == theirs[name].config()
    loaded, info = load_model(tmp_path / "training/model.hff")
    assert loaded.elements == calc.potential.elements
    assert set(info.trained_with) == set(names)


def test_trained_tables_of_charge_equilibration_are_kept():
    teacher = feature_equilibrated()
    term = teacher.terms["charges"]
    term.electronegativity.data += 0.25
    term.width_logit.data *= 0.9
    terms, _ = terms_like(teacher, network_of("get-small"))
    assert "channels" not in terms["charges"]
    for name, table in tables_of(term).items():
        assert terms["charges"][name] == table
    config = term.config() | tables_of(term)
    again = type(term)(**config)
    assert np.allclose(again.width_logit.detach(), term.width_logit.detach())
    assert np.allclose(again.electronegativity.detach(), term.electronegativity.detach())


def test_coulomb_is_summed_coarsely_in_training_and_saved_as_it_was():
    teacher = make_potential()
    terms, save_as = terms_like(teacher, network_of("get-small"))
    arguments = {k: v for k, v in terms["coulomb"].items() if k != "kind"}
    assert Coulomb(**arguments).tolerance == 1e-4
    saved = Coulomb(**(arguments | save_as["coulomb"]))
    assert saved.config() == teacher.terms["coulomb"].config()


@pytest.mark.parametrize("name", students())
def test_every_student_has_a_network(name):
    arguments = network_of(name)
    assert arguments.pop("kind") == "short_range"
    assert arguments["network"] == name.partition("-")[0]
    ShortRange(["H", "O"], **arguments)  # refuses options of another network


def test_blocks_are_held_out_in_the_part_that_was_asked_for():
    frames = [Atoms(info={"k": k}) for k in range(200)]
    train_on, held_out = split(frames, 0.1)
    assert len(held_out) == 20
    steps = np.diff([atoms.info["k"] for atoms in held_out])
    assert (steps == 1).mean() > 0.8  # in blocks
    assert not {a.info["k"] for a in held_out} & {a.info["k"] for a in train_on}
    assert split(frames, 0.0)[1] == []
    assert [len(c) for c in chunks([Atoms("H4")] * 5, 9)] == [2, 2, 1]
    assert [len(c) for c in chunks([Atoms("H4")] * 2, 1)] == [1, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: distill("get-tiny", [EMT()], copper(2), output=d), "expected a student among"),
        (lambda d: network_of("e3-smaller"), "expected a student among .*get-smaller"),
        (lambda d: distill("get-small", [], copper(2), output=d), "at least one teacher"),
        (lambda d: distill("get-small", [3], copper(2), output=d), "as teachers, got 3"),
        (lambda d: distill("get-small", [EMT()], [], output=d), "expected frames to distil on"),
        (lambda d: distill("a.hff", [EMT()], copper(2), output=d, terms=TINY), "expected terms"),
        (lambda d: distill("get-small", [EMT()], copper(2), output=d, hold_out=1), "to hold out"),
        (lambda d: training_config({}, d, {"los": {}}), "neither|unknown"),
    ],
)
def test_what_cannot_be_distilled(tmp_path, make, message):
    with pytest.raises(ConfigError, match=message):
        make(tmp_path)


def test_command_line(tmp_path, small_model_path, monkeypatch):
    app = Typer()
    app.command()(command)
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.hff"
    HybridFF(make_potential(3)).save(other, [salt_box()])
    write("frames.extxyz", [salt_box(seed) for seed in range(4)])
    write("start.extxyz", salt_box(9))
    Path("settings.yaml").write_text("batching: {batch_size: 2}\nloss: {phases: []}\n")
    arguments = [
        "--teachers", f"{small_model_path},{other}", "--frames", "frames.extxyz",
        "--sample", "start.extxyz", "--time", "4fs", "--timestep", "0.1",
        "--trajectory-interval", "10", "--temperature", "10", "--student", "get-smaller",
        "--schedule.steps", "2", "--hold-out", "0.3",
        "--config", "settings.yaml", "--optimizer.learning-rate", "1e-3",
        "--schedule.warmup", "1", "-o", "student.hff",
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    assert load_teachers(["student.hff"])[0].info.name == "student"
    labels = json.loads(Path("student-distill/labels/labels.json").read_text())
    assert labels["n_frames"] == 4 + 5
    assert len(labels["teachers"]) == 2
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, ConfigError)  # the output is there


TEACHER = """
from ase.calculators.lj import LennardJones

def soft():
    return LennardJones(sigma=2.3, epsilon=0.4, rc=5.0)

class Hard(LennardJones):
    def __init__(self):
        super().__init__(sigma=2.4, epsilon=0.4, rc=5.0)

def nothing():
    return 3
"""


def test_any_calculator_teaches_on_the_command_line(tmp_path, monkeypatch):
    """One of a file, which also samples; labels are kept, and not taken for another's."""
    app = Typer()
    app.command()(command)
    monkeypatch.chdir(tmp_path)
    Path("teacher.py").write_text(TEACHER)
    write("frames.extxyz", copper(4))
    write("start.extxyz", copper(1)[0])
    common = [
        "--frames", "frames.extxyz", "--student", "get-smaller", "--schedule.steps", "2",
        "--hold-out", "0.25", "--schedule.warmup", "1", "--batching.batch-size", "2",
    ]  # fmt: skip
    sample = ["--sample", "start.extxyz", "--time", "4fs", "--trajectory-interval", "2"]
    arguments = ["--teachers", "teacher.py:soft", *common, *sample, "-o", "student.hff"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    (atoms, *_) = read("student-distill/labels/labels.extxyz", ":")
    reference = lj()
    expected = reference.get_potential_energy(copper(1)[0])
    assert atoms.get_potential_energy() == pytest.approx(expected, rel=1e-6)
    assert atoms.info["method"] == "teacher.py:soft"
    Path("student.hff").unlink()
    other = ["--teachers", "teacher:Hard", *common, "-o", "student.hff"]
    refused = CliRunner().invoke(app, other)
    assert isinstance(refused.exception, ConfigError)
    assert "teachers differ" in str(refused.exception)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("teacher.py:nothing", "an ASE calculator with forces from teacher.py:nothing, got int"),
        ("teacher.py:absent", "a function 'absent' in teacher.py"),
        ("nowhere.py:make", "a file with a factory at nowhere.py"),
        ("no_such_package.of:ours", "a module 'no_such_package.of' that can be imported"),
    ],
)
def test_factories_that_are_none(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    Path("teacher.py").write_text(TEACHER)
    with pytest.raises(ConfigError, match=message):
        load_teachers([name])


def test_entry_points_are_teachers(monkeypatch, tmp_path):
    package = tmp_path / "someones-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: someones\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[hff_ase.calculators]\nsomeones = someones:soft\n")
    (tmp_path / "someones.py").write_text(TEACHER)
    monkeypatch.syspath_prepend(str(tmp_path))
    (teacher,) = load_teachers(["someones"])
    assert isinstance(teacher, LennardJones)


def test_a_student_of_others_gets_the_physics_that_is_asked_for(tmp_path, small_model_path):
    frames = [salt_box(seed) for seed in range(2)]
    plain = student_model("get-small", [EMT()], frames, tmp_path)
    assert list(plain["terms"]) == ["short_range"]
    charged = student_model("get-small", [EMT()], frames, tmp_path, like=small_model_path)
    assert {"short_range", "charges", "coulomb", "dispersion"} <= set(charged["terms"])
