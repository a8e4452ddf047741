"""Settings of a training: what is refused and how, schedules, batches."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule
from typer.testing import CliRunner

from hff_ase.data.dataset import MemoryDataset
from hff_ase.errors import ConfigError
from hff_ase.settings.yaml_text import assignments
from hff_ase.training.config import OptimizerSection, ScheduleSection, TrainConfig
from hff_ase.training.loop.batching import deal, edge_counts, epoch_batches
from hff_ase.training.loop.loader import Batches, Place
from hff_ase.training.loop.optim import make_optimizer
from hff_ase.training.loop.schedule import learning_rate

STEPS = {"steps": 10}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"optimiser": {}}, "unknown setting 'optimiser'; did you mean optimizer"),
        ({"optimizer": {"learn_rate": 1}}, "'optimizer.learn_rate'; did you mean learning_rate"),
        ({"data": {"train": "x", "split": {"fractoin": 0.1}}}, "did you mean fraction"),
        ({"loss": {"phases": [{"start": 0.5, "energi": 1}]}}, "did you mean energy"),
        ({"loss": {"forces": -1}}, r"loss\.forces: expected at least 0, got -1"),
        ({"model": {"elements": ["H"]}}, "either terms or start, got neither"),
        ({"schedule": {"steps": 1, "epochs": 2}}, "either steps or epochs"),
        ({"schedule": {}}, "expected steps or epochs"),
        ({"schedule": {"by": "time"}}, "limits.max_hours"),
        ({"data": {"train": "x", "validation": "y", "split": {"fraction": 0.1}}}, "got both"),
    ],
)
def test_what_makes_no_sense_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**{"schedule": STEPS, **content})


def test_messages_name_the_line_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("seed: 1\nschedule:\n  steps: 5\noptimizer:\n  kind: sgd\n")
    with pytest.raises(ConfigError, match=r"config.yaml:5: optimizer.kind: .*got 'sgd'"):
        TrainConfig.load(path)
    path.write_text("schedule:\n  steps: 5\n  epoch: 3\n")
    with pytest.raises(ConfigError, match=r"yaml:3: .*'schedule.epoch'; did you mean epochs"):
        TrainConfig.load(path)
    path.write_text("schedule: [1\n")
    with pytest.raises(ConfigError, match=r"config.yaml:2: expected yaml"):
        TrainConfig.load(path)
    with pytest.raises(ConfigError, match="cannot read"):
        TrainConfig.load(tmp_path / "missing.yaml")


def test_overrides_and_the_way_back_to_yaml(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "schedule: {steps: 5}\nmodel:\n  elements: [H]\n  terms:\n"
        "    short_range: {}\n    coulomb: {tolerance: 1e-4}\n"
    )
    config = TrainConfig.load(
        path,
        {"optimizer.learning_rate": 3e-4, "batching.batch_size": 4, "schedule.decay": "constant"},
    )
    assert config.optimizer.learning_rate == 3e-4
    assert config.batching.batch_size == 4
    assert config.model is not None
    assert config.model.terms is not None
    assert config.model.terms["coulomb"]["tolerance"] == 1e-4  # a number, not a text
    (tmp_path / "again.yaml").write_text(config.to_yaml())
    assert TrainConfig.load(tmp_path / "again.yaml") == config
    assert assignments(["ema.decay=1e-4"]) == {"ema.decay": 1e-4}
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        assignments(["optimizer.learning_rate"])


def test_the_command_line_refuses_a_bad_setting(tmp_path: Path) -> None:
    import typer

    from hff_ase.cli.train import train

    app = typer.Typer()
    app.command()(train)
    path = tmp_path / "config.yaml"
    path.write_text("schedule: {steps: 5}\n")
    result = CliRunner().invoke(app, ["--config", str(path), "--ema.decay", "1.5"])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == "--ema.decay: expected less than 1, got '1.5'"


def test_loss_weights_change_with_the_phases() -> None:
    config = TrainConfig(
        schedule=STEPS,
        loss={"phases": [{"start": 0.5, "energy": 7.0}, {"start": 0.8, "stress": 9.0}]},
    )
    found = [config.loss.weights(part) for part in (0.0, 0.49, 0.5, 0.8, 1.0)]
    assert [w.energy for w in found] == [2.0, 2.0, 7.0, 7.0, 7.0]
    assert [w.stress for w in found] == [1e3, 1e3, 1e3, 9.0, 9.0]
    assert {w.forces for w in found} == {1.0}


@pytest.mark.parametrize("decay", ["cosine", "exponential", "constant"])
def test_learning_rate_warms_up_and_decays(decay: str) -> None:
    schedule = ScheduleSection(steps=100, warmup=10, decay=decay, final_learning_rate=0.1)  # type: ignore[arg-type]
    optimizer = OptimizerSection(learning_rate=1.0)
    rates = [learning_rate(k, (k - 10) / 90, schedule, optimizer) for k in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(1.0 if decay == "constant" else 0.1)
    if decay != "constant":
        assert all(a > b for a, b in pairwise(rates[10:]))


@pytest.mark.parametrize("kind", ["adam", "adamw", "adamax", "soap"])
def test_only_matrices_decay(kind: str) -> None:
    model = torch.nn.Linear(3, 2)
    section = OptimizerSection(kind=kind, weight_decay=0.1)  # type: ignore[arg-type]
    groups = make_optimizer(model, section).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [p.ndim for group in groups for p in group["params"]] == [2, 1]


def test_every_frame_is_in_one_batch_of_an_epoch_and_batches_are_alike() -> None:
    costs = np.random.default_rng(0).integers(10, 500, 103)
    for options in ({"batch_size": 4}, {"max_cost": 900.0}):
        batches = epoch_batches(costs, 3, 5, **options)  # type: ignore[arg-type]
        assert sorted(k for batch in batches for k in batch) == list(range(103))
        sums = np.array([costs[batch].sum() for batch in batches])
        random = costs[np.random.default_rng(1).permutation(100)].reshape(-1, 4).sum(1)
        assert sums.std() < 0.5 * random.std()
        assert batches == epoch_batches(costs, 3, 5, **options)  # type: ignore[arg-type]
        assert batches != epoch_batches(costs, 3, 6, **options)  # type: ignore[arg-type]
    assert max(len(batch) for batch in epoch_batches(costs, 3, 5, 4)) <= 4
    assert max(costs[b].sum() for b in epoch_batches(costs, 3, 5, max_cost=900.0)) <= 900


def test_shares_of_a_batch_are_alike() -> None:
    costs = np.array([5, 1, 1, 1, 1, 1])
    shares = deal(range(6), costs, 2)
    assert sorted(map(tuple, shares)) == [(0,), (1, 2, 3, 4, 5)]


def test_edges_are_those_of_a_pair_of_loops() -> None:
    frames = [molecule("CH3CH2OH"), molecule("H2O")]
    counts = edge_counts(MemoryDataset.from_atoms(frames), 2.0)
    expected = []
    for atoms in frames:
        distance = atoms.get_all_distances()
        expected.append(int(((distance < 2.0) & (distance > 0)).sum()))
    assert counts.tolist() == expected


def test_the_order_of_frames_goes_on_from_any_place() -> None:
    dataset = MemoryDataset.from_atoms([molecule("H2O") for _ in range(7)])
    section = TrainConfig(schedule=STEPS, batching={"batch_size": 2}).batching
    walk = Batches(dataset, section, 1, 4.0).walk(Place())
    whole = [next(walk) for _ in range(10)]
    batches = Batches(dataset, section, 1, 4.0)
    place = Place()
    for _ in range(6):
        place = batches.after(place)
    later = Batches(dataset, section, 1, 4.0).walk(place)
    assert [next(later) for _ in range(4)] == whole[6:]
