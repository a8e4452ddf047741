"""Fine-tuning: what is frozen stays, what is added starts as nothing, what was known is kept."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from conftest import CHANNELS, ELEMENTS, make_potential, salt_box, water
from torch import nn
from typer.testing import CliRunner

from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.calculators.finetune import compare, finetune
from hff_ase.calculators.finetune.comparison import rmse
from hff_ase.checkpoint import ModelInfo
from hff_ase.cli.finetune import finetune as finetune_command
from hff_ase.data.dataset import MemoryDataset
from hff_ase.errors import ConfigError, HFFWarning, StructureError
from hff_ase.potential import HybridPotential
from hff_ase.terms.qeq import QEq
from hff_ase.terms.qeq_parameters import rappe_goddard
from hff_ase.terms.short_range import ShortRange
from hff_ase.training.adapt import AdaptConfig, LoRALinear, apply, merge
from hff_ase.training.adapt.dispersion import complete_labels, contained
from hff_ase.training.adapt.freeze import trainable_by_design
from hff_ase.training.adapt.references import refit_references
from hff_ase.training.adapt.replay import replayed, without_isolated
from hff_ase.training.gradients import accumulate_gradients
from hff_ase.training.losses import LossWeights

OPTIONS = {"channels": CHANNELS, "heads": 4, "layers": 2, "n_radial": 8, "cutoff": 4.0}


def network(seed: int = 0, elements: tuple[str, ...] = ELEMENTS) -> HybridPotential:
    """A network and nothing else."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        term = ShortRange(elements, "get", OPTIONS, hidden=(16,))
        nn.init.normal_(term.reference_energy)
        with torch.no_grad():
            term.energy[-1].weight *= 30.0  # forces of the size of bonds
    return HybridPotential({"short_range": term}, elements).requires_grad_(False).eval()


def batch_of(*structures: Atoms) -> AtomsBatch:
    return AtomsBatch.from_atoms(list(structures) or [water(), salt_box()])


def step(potential: HybridPotential, n: int = 3) -> None:
    """A few steps of Adam towards other energies and forces."""
    batch = batch_of()
    optimizer = torch.optim.Adam([p for p in potential.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(n):
        optimizer.zero_grad()
        result = potential(batch, create_graph=True)
        (result.energy.square().sum() + result.forces.square().sum()).backward()
        optimizer.step()


def weights(potential: HybridPotential) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in potential.named_parameters()}


@pytest.mark.parametrize(
    ("freeze", "moving"),
    [
        ("heads_only", {"short_range.energy", "charges."}),
        ("last_layer_and_heads", {"short_range.energy", "charges.", "short_range.net.layers.1"}),
        (["short_range.*", "*.initial_charge"], {"charges.charge", "charges.electro", "charges.h"}),
    ],
)
def test_frozen_parameters_stay_bit_for_bit(freeze: str | list[str], moving: set[str]) -> None:
    start = make_potential()
    nn.init.ones_(start.terms["charges"].hardness_root)  # at zero its square has no slope
    tuned = apply(start, AdaptConfig.load({"freeze": freeze}))
    before = weights(start)
    step(tuned)
    changed = {n for n, v in weights(tuned).items() if not torch.equal(v, before[n])}
    expected = {n for n in before if any(n.startswith(f"terms.{part}") for part in moving)}
    assert changed == expected
    assert weights(start).keys() == before.keys()
    assert all(torch.equal(v, before[n]) for n, v in weights(start).items())


def test_everything_trains_but_what_does_not_by_design() -> None:
    tuned = apply(make_potential(), AdaptConfig())
    trained = {n for n, p in tuned.named_parameters() if p.requires_grad}
    assert trained == set(weights(tuned)) - {"terms.short_range.reference_energy"}
    assert trained == trainable_by_design(tuned)
    assert tuned.training
    free = apply(make_potential(), AdaptConfig.load({"unfreeze": "*.reference_energy"}))
    assert free.terms["short_range"].reference_energy.requires_grad


def test_a_pattern_without_a_match_names_close_ones() -> None:
    with pytest.raises(ConfigError, match=r"charges\.initial_charge"):
        apply(make_potential(), AdaptConfig.load({"freeze": "charges.inital_charge"}))
    with pytest.raises(ConfigError, match=r"a layer, got .*short_range\.net\.layers\.0\.qkv"):
        apply(
            make_potential(),
            AdaptConfig.load({"lora": {"patterns": "short_range.net.layers.0.qvk"}}),
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frezee": "x"}, "freeze"),
        ({"lora": {"ranks": 3}}, "rank"),
        ({"lora": {"rank": 0}}, "expected at least 1"),
        ({"add_elements": {"Na": {"lik": "Li"}}}, "like"),
        ({"replay": {"frames": "a.extxyz", "weight": -1}}, "replay"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdaptConfig.load(settings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_low_rank_updates_start_as_nothing(dtype: torch.dtype) -> None:
    start = make_potential().set_dtype(dtype)
    tuned = apply(start, AdaptConfig.load({"lora": {"rank": 2}}))
    layers = [m for m in tuned.modules() if isinstance(m, LoRALinear)]
    assert len(layers) == len([m for m in start.modules() if type(m) is nn.Linear])
    for kernels in ("auto", "reference"):  # the fused network reads the effective weights
        a, b = (p.use_kernels(kernels)(batch_of()) for p in (start, tuned))
        assert torch.equal(a.energy, b.energy)
        assert torch.equal(a.forces, b.forces)
    trained = [n for n, p in tuned.named_parameters() if p.requires_grad]
    assert trained
    assert all(n.endswith(("lora_up", "lora_down")) for n in trained)


def test_low_rank_updates_train_and_merge_into_a_plain_model() -> None:
    start = make_potential().set_dtype(torch.float64)
    tuned = apply(
        start, AdaptConfig.load({"lora": {"rank": 2, "alpha": 3.0, "patterns": "*.net.*"}})
    )
    step(tuned)
    result, plain = tuned(batch_of()), merge(tuned)
    assert (result.energy - start(batch_of()).energy).abs().max() > 1e-3
    merged = plain(batch_of())
    torch.testing.assert_close(merged.energy, result.energy, rtol=0, atol=1e-12)
    torch.testing.assert_close(merged.forces, result.forces, rtol=0, atol=1e-12)
    assert plain.state_dict().keys() == start.state_dict().keys()
    before = start.terms["short_range"].net.layers[1]
    change = plain.terms["short_range"].net.layers[1].qkv.weight - before.qkv.weight
    assert torch.linalg.matrix_rank(change) == 2
    assert torch.equal(
        before.qkv.weight, tuned.terms["short_range"].net.layers[1].qkv.matrix.weight_before
    )


def test_the_equivariant_network_is_adapted_as_well() -> None:
    options = {"channels": 8, "l_max": 1, "layers": 2}
    term = ShortRange(["H", "C", "O"], "e3", options, hidden=(8,)).requires_grad_(False)
    start = HybridPotential({"short_range": term}, ["H", "C", "O"]).eval()
    start.set_dtype(torch.float64)
    batch = batch_of(water(), molecule("CH3OH"))
    before = start(batch).energy
    grown = apply(start, AdaptConfig.load({"add_elements": {"N": {"like": "O"}}}))
    # torch multiplies in another order where gradients are wanted
    assert torch.equal(grown.requires_grad_(False)(batch).energy, before)
    tuned = apply(start, AdaptConfig.load({"lora": {"rank": 2, "patterns": "*.net.*"}}))
    torch.testing.assert_close(tuned(batch).energy, before, rtol=0, atol=1e-12)
    trained = [n for n, p in tuned.named_parameters() if p.requires_grad]
    assert any("layers.1.up.weights" in name for name in trained)
    for _, parameter in tuned.named_parameters():
        if parameter.requires_grad:
            parameter.data += 0.1
    merged = merge(tuned)
    assert merged.state_dict().keys() == start.state_dict().keys()
    assert (tuned(batch).energy - before).abs().max() > 1e-3
    torch.testing.assert_close(merged(batch).energy, tuned(batch).energy, rtol=0, atol=1e-12)


def test_low_rank_gradients_are_those_of_the_reference() -> None:
    tuned = apply(make_potential(), AdaptConfig.load({"lora": {"rank": 2}}))
    for name, parameter in tuned.named_parameters():
        if name.endswith("lora_up"):
            nn.init.normal_(parameter, std=0.1)
    batch, labels = MemoryDataset.from_atoms([labelled(salt_box(), make_potential(1))])[0]
    found = {}
    for method in ("reference", "directional"):
        tuned.zero_grad()
        accumulate_gradients(tuned, batch, labels, LossWeights(), method=method)
        trained = [p.grad for p in tuned.parameters() if p.requires_grad]
        found[method] = torch.cat([g.flatten().double() for g in trained if g is not None])
    difference = (found["reference"] - found["directional"]).norm()
    assert difference < 5e-3 * found["reference"].norm()


def test_fused_kernels_follow_low_rank_updates() -> None:
    tuned = apply(make_potential(), AdaptConfig.load({"lora": {"rank": 2}}))
    tuned(batch_of())  # keeps the weights as they are now
    step(tuned)
    fused, reference = tuned(batch_of()), copy.deepcopy(tuned).use_kernels("reference")(batch_of())
    torch.testing.assert_close(fused.forces, reference.forces, rtol=0, atol=2e-5)


def test_new_elements_leave_the_old_ones_bit_for_bit() -> None:
    start = make_potential().use_kernels("reference")
    settings = {"Na": {"like": "Li"}, "S": {"tables": {"c6": 60.0, "r0": 3.2}}}
    grown = apply(start, AdaptConfig.load({"add_elements": settings}))
    assert grown.elements == (*ELEMENTS, "Na", "S")
    assert [t.kind for _, t in grown.named_terms()] == [t.kind for _, t in start.named_terms()]
    a, b = start(batch_of()), grown(batch_of())
    assert torch.equal(a.energy, b.energy)
    assert torch.equal(a.forces, b.forces)
    assert torch.equal(a.stress, b.stress)
    embedding = grown.terms["short_range"].net.embedding.weight
    torch.testing.assert_close(embedding[-1], embedding[:6].mean(0))
    assert grown.terms["dispersion"].config()["c6"]["S"] == 60.0
    sulphide = salt_box()
    sulphide.numbers[4] = 16
    assert torch.isfinite(grown(batch_of(sulphide)).energy).all()
    # an element that is like another one is that one until it is trained
    salt, other = salt_box(), salt_box()
    other.symbols[0] = "Na"
    keep = ["short_range", "charges", "coulomb", "dispersion"]  # repulsion knows the number itself
    part = grown.subset(keep)
    assert part(batch_of(salt)).energy == part(batch_of(other)).energy


def test_new_elements_in_charge_equilibration() -> None:
    tables = rappe_goddard(["H", "O"])
    start = HybridPotential({"charges": QEq(**tables)}, ["H", "O"]).eval()
    with torch.no_grad():  # trained: no longer what the tables say
        start.terms["charges"].electronegativity += 0.3
    grown = apply(start, AdaptConfig.load({"add_elements": ["Li"]})).eval()
    a, b = start(batch_of(water())), grown(batch_of(water()))
    assert torch.equal(a.energy, b.energy)
    published = rappe_goddard(["Li"])["electronegativity"]["Li"]
    assert grown.terms["charges"].electronegativity[2].item() == published


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (["O"], "new elements beside"),
        (["Xx"], "chemical symbols"),
        ({"Na": "K"}, "to be like one of"),
        (["Na"], "'c6' of the term 'dispersion'"),
    ],
)
def test_new_elements_are_checked(new: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply(make_potential(), AdaptConfig.load({"add_elements": new}))


def test_new_heads_are_added_and_trained_alone() -> None:
    start = network()
    heads = {
        "charges": {"kind": "predicted_charges", "hidden": [8]},
        "coulomb": {"kind": "coulomb", "method": "ewald", "cutoff": 5.0, "tolerance": 1e-5},
    }
    tuned = apply(start, AdaptConfig.load({"new_heads": heads, "freeze": "short_range.*"}))
    result = tuned(batch_of())
    torch.testing.assert_close(result.energy_terms["short_range"], start(batch_of()).energy)
    assert float(result.fields["charges"].sum()) == pytest.approx(0.0, abs=1e-10)
    trained = [n for n, p in tuned.named_parameters() if p.requires_grad]
    assert trained
    assert all(name.startswith("terms.charges.") for name in trained)
    lora = apply(start, AdaptConfig.load({"new_heads": heads, "lora": {"patterns": "*.qkv"}}))
    trained = [n for n, p in lora.named_parameters() if p.requires_grad]
    assert {n.split(".")[1] for n in trained} == {"short_range", "charges"}
    with pytest.raises(ConfigError, match="did you mean 'coulomb'"):
        apply(start, AdaptConfig.load({"new_heads": {"x": {"kind": "coulom"}}}))
    with pytest.raises(ConfigError, match="beside"):
        apply(start, AdaptConfig.load({"new_heads": {"short_range": heads["charges"]}}))


def labelled(atoms: Atoms, potential: HybridPotential, **info: object) -> Atoms:
    """A frame with what a potential gives as labels."""
    out = atoms.copy()
    results = HybridFF(copy.deepcopy(potential).eval()).evaluate([atoms])[0]
    known = {k: results[k] for k in ("energy", "forces", "stress", "charges") if k in results}
    out.calc = SinglePointCalculator(out, **known)
    out.info |= info
    return out


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"method": "B3LYP/def2-SVPD", "method_dispersion": "none"}, "none"),
        ({"method": "B3LYP/def2-SVPD"}, None),
        ({"method": "wB97M-V/def2-TZVPD"}, "wB97M-V"),
        ({"method": "wb97m_v", "method_dispersion": "none"}, "wb97m_v"),
        ({"method": "B97M-V"}, "B97M-V"),
        ({"method": "PBE-D3(BJ)"}, "PBE-D3(BJ)"),
        ({"method": "M06-2X"}, None),
        ({"method": "GFN2-xTB"}, "GFN2-xTB"),
        ({"method_dispersion": "d3bj"}, "d3bj"),
        ({}, None),
    ],
)
def test_what_labels_say_of_dispersion(info: dict[str, str], expected: str | None) -> None:
    assert contained(info) == expected


def test_labels_without_dispersion_get_that_of_the_model() -> None:
    whole = make_potential()
    bare = whole.subset([n for n in whole.terms if n != "dispersion"])
    without = labelled(salt_box(), bare, method="PBE", method_dispersion="none")
    with_it = labelled(salt_box(), whole, method="wB97M-V")
    done = complete_labels([without, with_it], whole)
    for atoms in done:
        assert atoms.get_potential_energy() == pytest.approx(with_it.get_potential_energy())
        np.testing.assert_allclose(atoms.get_forces(), with_it.get_forces(), atol=1e-5)
        np.testing.assert_allclose(atoms.get_stress(), with_it.get_stress(), atol=1e-7)
    assert without.get_potential_energy() != pytest.approx(with_it.get_potential_energy())
    assert complete_labels([without], bare)[0] is without


def test_dispersion_counted_twice_or_lost_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    potential = make_potential()
    with pytest.warns(HFFWarning, match=r"contain it already \(wB97M-V\)"):
        complete_labels([labelled(salt_box(), potential, method="wB97M-V")], potential, "add")
    frame = labelled(salt_box(), potential, method_dispersion="none")
    with pytest.warns(HFFWarning, match="learn to cancel"):
        complete_labels([frame], potential, "as_is")
    complete_labels([labelled(molecule("H2O"), potential)], potential)
    assert "do not say" in caplog.text


SETTINGS = {
    "schedule": {"steps": 50, "warmup": 5},
    "batching": {"batch_size": 4},
    "logging": {"progress": False, "plot": False, "validate_every": 50},
    "ema": {"decay": 0.8},
}


def teacher_of(start: HybridPotential, scale: float = 0.1) -> HybridPotential:
    """A model near another one: its energy head is changed."""
    teacher = copy.deepcopy(start)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        for parameter in teacher.terms["short_range"].energy.parameters():
            parameter += scale * parameter.abs().mean() * torch.randn_like(parameter)
    return teacher


def rattled(atoms: Atoms, teacher: HybridPotential, n: int, seed: int) -> list[Atoms]:
    """Labelled frames around a structure, all at once."""
    frames = [atoms.copy() for _ in range(n)]
    for k, frame in enumerate(frames):
        frame.rattle(0.08, seed=100 * seed + k)
    for frame, given in zip(frames, HybridFF(teacher).evaluate(frames), strict=True):
        results = {k: given[k] for k in ("energy", "forces", "stress") if k in given}
        frame.calc = SinglePointCalculator(frame, **results)
    return frames


def forces_rmse(potential: HybridPotential, frames: list[Atoms]) -> float:
    return rmse(potential, frames)["forces"]


def test_a_fine_tuned_model_is_better_than_as_is_and_from_scratch(tmp_path: Path) -> None:
    start = HybridFF(network(), ModelInfo("start"))
    teacher = teacher_of(start.potential)
    frames = rattled(salt_box(), teacher, 4, 1) + rattled(molecule("CH3OH"), teacher, 4, 2)
    test = rattled(salt_box(), teacher, 3, 3) + rattled(molecule("CH3OH"), teacher, 3, 4)
    before = copy.deepcopy(start.potential.state_dict())
    adapt = {"freeze": "heads_only", "refit_references": True}
    found = compare(start, frames, test, adapt=adapt, settings=SETTINGS, output=tmp_path)
    assert list(found.errors) == ["from scratch", "as is", "fine-tuned"]
    for key in ("forces", "energy_shifted"):
        scratch, as_is, tuned = (errors[key] for errors in found.errors.values())
        assert tuned < 0.7 * as_is
        assert tuned < scratch
    table = (tmp_path / "comparison.md").read_text().splitlines()
    assert table[0].startswith("| RMSE on 6 frames | from scratch | as is | fine-tuned")
    assert {line.count("|") for line in table} == {5}
    assert all(torch.equal(v, before[n]) for n, v in start.potential.state_dict().items())
    tuned = HybridFF.load(tmp_path / "finetuned" / "model.hff")
    for name, value in tuned.potential.state_dict().items():
        if ".net." in name:
            assert torch.equal(value, before[name])
    assert forces_rmse(tuned.potential, test) == pytest.approx(found.errors["fine-tuned"]["forces"])
    assert tuned.info.details["settings"]["model"]["adapt"] == {
        "freeze": ["heads_only"],
        "refit_references": True,
    }
    assert tuned.info.name == "start-finetuned"


def test_low_rank_fine_tuning_gives_a_plain_model_with_fixed_terms(tmp_path: Path) -> None:
    start = HybridFF(make_potential(), ModelInfo("start"))
    frames = rattled(salt_box(), teacher_of(start.potential, 0.3), 6, 1)
    for atoms in frames:
        atoms.info["method"] = "PBE-D3"
    adapt = {"lora": {"rank": 4}, "refit_references": True}
    faster = {**SETTINGS, "optimizer": {"learning_rate": 1e-2}}
    tuned = finetune(start, frames, adapt=adapt, settings=faster, output=tmp_path)
    assert tuned.potential.state_dict().keys() == start.potential.state_dict().keys()
    assert forces_rmse(tuned.potential, frames) < 0.8 * forces_rmse(start.potential, frames)
    config = tuned.potential.terms["dispersion"].config()
    assert config == start.potential.terms["dispersion"].config()
    # the same run again is taken up where it ended; another one is not mixed with it
    with pytest.raises(ConfigError, match="without a training in it"):
        finetune(start, frames, adapt=adapt, settings=faster, output=tmp_path)
    again = finetune(start, frames, adapt=adapt, settings=faster, output=tmp_path, resume=True)
    for name, value in again.potential.state_dict().items():
        assert torch.equal(value, tuned.potential.state_dict()[name])
    with pytest.raises(ConfigError, match="use another output"):
        finetune(start, frames[1:], adapt=adapt, settings=faster, output=tmp_path, resume=True)


def test_replay_keeps_what_was_known(tmp_path: Path) -> None:
    start = HybridFF(network(), ModelInfo("start"))
    old = rattled(molecule("CH3OH"), start.potential, 8, 1)  # without error
    new = rattled(salt_box(), teacher_of(start.potential), 8, 2)
    write(tmp_path / "old.extxyz", old)
    replay = {"frames": str(tmp_path / "old.extxyz"), "weight": 2.0}
    plain = finetune(start, new, settings=SETTINGS)
    kept = finetune(start, new, adapt={"replay": replay}, settings=SETTINGS)
    assert forces_rmse(kept.potential, old) < 0.7 * forces_rmse(plain.potential, old)
    assert forces_rmse(kept.potential, new) < forces_rmse(start.potential, new)
    config = AdaptConfig.load({"replay": {**replay, "number": 3, "labels": "model"}})
    frames = replayed(config.replay, start.potential)
    assert [atoms.info["weight"] for atoms in frames] == [2.0] * 3
    for atoms, same in zip(frames, (old[0], old[4], old[7]), strict=True):
        np.testing.assert_allclose(atoms.get_forces(), same.get_forces(), atol=1e-5)


def test_reference_energies_take_up_another_zero_of_energy() -> None:
    start = network()
    teacher = copy.deepcopy(start)
    shifts = torch.tensor([-1.0, 2.0, 0.5, -3.0, 0.0, 0.0], dtype=torch.float64)
    teacher.terms["short_range"].reference_energy += shifts
    names = ("H2O", "CH3OH", "CO2", "CH4", "H2", "O2", "LiH")
    frames = [labelled(molecule(name), teacher) for name in names]
    part = copy.deepcopy(start)
    found = refit_references(part, MemoryDataset.from_atoms(frames))
    torch.testing.assert_close(found, shifts, rtol=0, atol=1e-6)
    assert rmse(part, frames)["energy"] < 1e-6
    # of one liquid alone the sum is known: the smallest shifts that give it
    water_only = refit_references(
        copy.deepcopy(start), MemoryDataset.from_atoms(frames[:1]), ["H", "O"]
    )
    assert 2 * water_only[0] + water_only[1] == pytest.approx(2 * -1.0 - 3.0, abs=1e-5)
    assert water_only[0] / water_only[1] == pytest.approx(2.0)


def test_isolated_atoms_do_not_decide_on_reference_energies() -> None:
    start = network()
    frames = [labelled(molecule(name), start) for name in ("H2O", "CH3OH", "CO2", "CH4")]
    alone = labelled(Atoms("O"), start)
    alone.calc.results["energy"] += 3.0  # a zero of its own
    data = MemoryDataset.from_atoms([*frames, alone])
    found = refit_references(copy.deepcopy(start), data)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-6)
    assert without_isolated([*frames, alone]) == frames
    assert without_isolated([alone]) == [alone]


def test_a_new_element_is_learned(tmp_path: Path) -> None:
    start = HybridFF(network(), ModelInfo("start"))
    other = network(7, (*ELEMENTS, "Na"))
    box = salt_box()
    box.symbols[0] = "Na"
    frames = rattled(box, other, 6, 1)
    with pytest.raises(StructureError, match=r"got Na in frame .*add_elements"):
        finetune(start, frames, settings=SETTINGS)
    short = {**SETTINGS, "schedule": {"steps": 2, "warmup": 1}}
    tuned = finetune(start, frames, adapt={"add_elements": {"Na": "Li"}}, settings=short)
    assert tuned.potential.elements == (*ELEMENTS, "Na")
    assert rmse(tuned.potential, frames)["energy"] < 0.2  # the reference of Na is fitted
    with pytest.warns(HFFWarning, match="no frame contains K"):
        finetune(start, frames, adapt={"add_elements": ["Na", "K"]}, settings=short)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimiser": {}}, "did you mean optimizer"),
        ({"model": {"start": "x"}}, "without 'model'"),
        ({"schedule": {"steps": 0}}, "expected at least 1"),
    ],
)
def test_training_settings_are_checked(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        finetune(HybridFF(network()), [labelled(water(), network())], settings=settings)


def test_one_command_compares_all_three(
    tmp_path: Path, small_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()
    app.command()(finetune_command)
    teacher = teacher_of(make_potential())
    for name, seed in (("new", 1), ("test", 2), ("old", 3)):
        frames = rattled(salt_box(), teacher, 3, seed)
        for atoms in frames:
            atoms.info["method_dispersion"] = "d3bj"
        write(tmp_path / f"{name}.extxyz", frames)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text(
        "adapt: {refit_references: true}\nlogging: {progress: false, plot: false}\n"
    )
    arguments = [str(small_model_path), "new.extxyz", "-o", "out", "--config", "settings.yaml"]
    arguments += ["--schedule.steps", "2", "--schedule.warmup", "1"]
    arguments += ["--adapt.freeze", "*.embedding.*", "--adapt.lora.rank", "2"]
    arguments += ["--adapt.replay.frames", "old.extxyz"]
    run = CliRunner().invoke(app, [*arguments, "--from-scratch"])
    assert isinstance(run.exception, ConfigError)
    run = CliRunner().invoke(app, [*arguments, "--from-scratch", "--test", "test.extxyz"])
    assert run.exit_code == 0, run.output
    assert "| RMSE on 3 frames | from scratch | as is | fine-tuned |" in run.output
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert list(found["rmse"]) == ["from scratch", "as is", "fine-tuned"]
    info = HybridFF.load("out/finetuned/model.hff").info.details
    assert info["frames"] == {"train": 6, "replayed": 3, "validation": 0}
    assert info["settings"]["model"]["adapt"]["lora"]["rank"] == 2
    assert info["settings"]["schedule"]["steps"] == 2
    # from another working directory the files of the settings are still found
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = CliRunner().invoke(app, ["--resume", str(tmp_path / "out")])
    assert again.exit_code == 0, again.exception
    assert (tmp_path / "out" / "comparison.md").read_text() in again.output


def test_no_folder_is_left_for_a_training_that_was_not_asked_for(tmp_path: Path) -> None:
    start = HybridFF(network(), ModelInfo("start"))
    frames = rattled(salt_box(), teacher_of(start.potential), 2, 1)
    short = {"schedule": {"steps": 1, "warmup": 1}, "logging": {"progress": False, "plot": False}}
    with pytest.warns(HFFWarning, match="2 of 2 test frames are also trained on"):
        compare(start, frames, frames, from_scratch=False, settings=short, output=tmp_path)
    assert (tmp_path / "finetuned").is_dir()
    assert not (tmp_path / "from_scratch").exists()
