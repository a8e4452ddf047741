"""Frames, losses, trainer and error report."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from hff_ase.batch import AtomsBatch
from hff_ase.errors import StructureError
from hff_ase.potential import HybridPotential
from hff_ase.terms.predicted_charges import PredictedCharges
from hff_ase.terms.repulsion import ZBL
from hff_ase.terms.short_range import ShortRange
from hff_ase.training.frames import read_folder, read_frames, split_by_segment, stack_labels
from hff_ase.training.losses import LossWeights, differences, loss
from hff_ase.training.report import collect, markdown_tables
from hff_ase.training.trainer import (
    TrainSettings,
    evaluate,
    fit_reference_energies,
    learning_rate,
    prepare,
    train,
)

ELEMENTS = ("H", "C", "O")


def make_potential(seed: int) -> HybridPotential:
    torch.manual_seed(seed)
    options = {"channels": 8, "heads": 2, "layers": 2, "n_radial": 8, "cutoff": 4.0}
    terms = {
        "short_range": ShortRange(ELEMENTS, "get", options, (8,)),
        "charges": PredictedCharges(ELEMENTS, 8, (8,)),
    }
    return HybridPotential(terms, ELEMENTS)


def make_teacher() -> HybridPotential:
    """Random too, with forces of about 1 eV/A."""
    teacher = make_potential(7)
    with torch.no_grad():
        teacher.terms["short_range"].energy[-1].weight *= 100.0  # type: ignore[operator,union-attr,index]
    return teacher


def labelled(atoms: Atoms, teacher: HybridPotential) -> Atoms:
    result = teacher(AtomsBatch.from_atoms(atoms))
    assert result.forces is not None
    assert result.stress is not None
    stress = result.stress[0].numpy()
    atoms.calc = SinglePointCalculator(
        atoms,
        energy=float(result.energy),
        forces=result.forces.numpy(),
        stress=stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        charges=result.fields["charges"].numpy(),
    )
    return atoms


@pytest.fixture(scope="module")
def frames() -> list[Atoms]:
    teacher, rng, out = make_teacher(), np.random.default_rng(0), []
    for k in range(12):
        atoms = molecule(["H2O", "CH3OH", "H2CO"][k % 3])
        atoms.set_cell(np.eye(3) * 6.0)
        atoms.pbc = True
        atoms.rattle(0.08, rng=rng)
        out.append(labelled(atoms, teacher))
    return out


def test_reading_xyz_and_xz_keeps_labels_and_names_the_source(
    frames: list[Atoms], tmp_path: Path
) -> None:
    import lzma

    write(tmp_path / "b.extxyz", frames[:2])
    packed = lzma.compress((tmp_path / "b.extxyz").read_bytes())
    (tmp_path / "a.extxyz.xz").write_bytes(packed)
    a, b = read_folder(tmp_path)
    assert [atoms.info["source"] for atoms in a + b] == ["a:0", "a:1", "b:0", "b:1"]
    for got, sent in zip(a, frames, strict=False):
        assert got.get_potential_energy() == pytest.approx(sent.get_potential_energy())
        np.testing.assert_allclose(got.get_charges(), sent.get_charges(), atol=1e-7)
        np.testing.assert_allclose(got.get_stress(), sent.get_stress(), atol=1e-7)


def test_unreadable_frames_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="got none"):
        read_folder(tmp_path)
    (tmp_path / "x.extxyz.xz").write_bytes(b"no xz at all")
    with pytest.raises(StructureError, match=r"x\.extxyz\.xz"):
        read_frames(tmp_path / "x.extxyz.xz")


def test_split_keeps_segments_whole() -> None:
    frames = [Atoms("H", info={"k": k}) for k in range(14)]
    train_, test = split_by_segment(frames, 7, held_out=(1,))
    assert [a.info["k"] for a in test] == list(range(7, 14))
    assert len(train_) == 7


def test_missing_labels_are_nan_and_do_not_count(frames: list[Atoms]) -> None:
    bare = frames[0].copy()
    bare.calc = SinglePointCalculator(bare, energy=1.0)
    labels = stack_labels([bare])
    assert torch.isnan(labels.forces).all()
    batch = AtomsBatch.from_atoms(bare)
    errors = differences(batch, make_potential(0)(batch), labels)
    assert errors["forces"].numel() == errors["charges"].numel() == 0
    expected = errors["energy"].square().mean()
    assert loss(errors, LossWeights(energy=1.0)) == pytest.approx(float(expected))


def test_labels_of_the_model_itself_have_no_error(frames: list[Atoms]) -> None:
    found = evaluate(make_teacher(), prepare(frames, None))
    assert max(found.values()) < 1e-6


def test_fixed_terms_are_taken_off_the_labels(frames: list[Atoms]) -> None:
    wall = HybridPotential({"wall": ZBL(scale=2.0)}, ELEMENTS)
    total = HybridPotential(dict(make_teacher().named_terms()) | dict(wall.named_terms()), ELEMENTS)
    labels = prepare([labelled(frames[0].copy(), total)], wall)
    found = evaluate(make_teacher(), labels)
    assert max(found.values()) < 1e-5


def test_reference_energies_are_the_least_squares_solution(frames: list[Atoms]) -> None:
    dataset = prepare(frames, None)
    counts = np.array([[np.sum(a.numbers == z) for z in (1, 6, 8)] for a in frames])
    energies = np.array([a.get_potential_energy() for a in frames])
    expected = np.linalg.lstsq(counts, energies, rcond=None)[0]
    got = fit_reference_energies(dataset, (1, 6, 8)).numpy()
    np.testing.assert_allclose(counts @ got, counts @ expected, atol=1e-6)


def test_learning_rate_warms_up_and_decays() -> None:
    settings = TrainSettings(steps=100, warmup=10, learning_rate=1.0, final_learning_rate=0.1)
    rates = [learning_rate(step, settings) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.1)
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_training_learns_and_a_killed_run_resumes_to_the_same_weights(
    frames: list[Atoms], tmp_path: Path
) -> None:
    settings = TrainSettings(
        steps=180,
        warmup=10,
        learning_rate=1e-2,
        ema_decay=0.9,
        validate_every=60,
        weights=LossWeights(energy=0.01, stress=0.0, charges=1.0),
        final_weights=LossWeights(energy=0.02, stress=0.0, charges=1.0),
    )
    dataset = prepare(frames, None)
    before = evaluate(make_potential(1), dataset)["forces_rmse"]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = train(make_potential(1), dataset, dataset, settings, tmp_path / "whole")
    assert evaluate(whole, dataset)["forces_rmse"] < 0.7 * before

    class KilledError(Exception):
        pass

    def kill(row: dict[str, float]) -> None:
        if row["step"] == 120:
            raise KilledError

    with pytest.raises(KilledError):
        train(make_potential(1), dataset, dataset, settings, tmp_path / "killed", kill)
    resumed = train(make_potential(1), dataset, dataset, settings, tmp_path / "killed")
    for (name, a), (_, b) in zip(
        whole.state_dict().items(), resumed.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name
    curve = [json.loads(line) for line in (tmp_path / "killed/curve.jsonl").open()]
    assert [row["step"] for row in curve] == [60, 120, 180]


def test_every_trainable_parameter_gets_a_gradient(frames: list[Atoms]) -> None:
    potential = make_potential(2)
    batch, labels = prepare(frames[:2], None).merged([0, 1])
    loss(differences(batch, potential(batch, create_graph=True), labels), LossWeights()).backward()
    silent = [n for n, p in potential.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []


def test_report_agrees_with_numpy(frames: list[Atoms]) -> None:
    potential = make_potential(3)
    errors = collect(potential, [replace_source(a, "EC:0") for a in frames[:3]])
    delta = [
        potential(AtomsBatch.from_atoms(a)).forces.numpy() - a.get_forces()  # type: ignore[union-attr]
        for a in frames[:3]
    ]
    expected = np.sqrt(np.mean(np.concatenate([d.ravel() for d in delta]) ** 2))
    assert errors.rmse("forces") == pytest.approx(expected)
    assert errors.rmse("forces of EC") == pytest.approx(expected)
    assert f"| EC | {1e3 * expected:.1f} |" in markdown_tables(errors)


def replace_source(atoms: Atoms, source: str) -> Atoms:
    atoms.info["source"] = source
    return atoms
