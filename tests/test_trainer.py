"""The trainer: learning, exact resume, running out of memory, infinite losses."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from hff_ase.batch import AtomsBatch
from hff_ase.data.dataset import MemoryDataset
from hff_ase.errors import CheckpointError, ConfigError, HFFWarning, StoppedError
from hff_ase.potential import HybridPotential
from hff_ase.terms.predicted_charges import PredictedCharges
from hff_ase.terms.short_range import ShortRange
from hff_ase.training.config import LimitsSection, TrainConfig
from hff_ase.training.loop import step as step_module
from hff_ase.training.loop.trainer import Trainer
from hff_ase.training.loop.validation import evaluate, rmse

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


def make_frames(n_frames: int, teacher: HybridPotential) -> list[Atoms]:
    rng, out = np.random.default_rng(0), []
    for k in range(n_frames):
        atoms = molecule(["H2O", "CH3OH", "H2CO"][k % 3])
        atoms.set_cell(np.eye(3) * 6.0)
        atoms.pbc = True
        atoms.rattle(0.08, rng=rng)
        result = teacher(AtomsBatch.from_atoms(atoms))
        assert result.forces is not None
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=float(result.energy),
            forces=result.forces.numpy(),
            charges=result.fields["charges"].numpy(),
        )
        atoms.info["source"] = f"box:{k}"
        out.append(atoms)
    return out


@pytest.fixture(scope="module")
def dataset() -> MemoryDataset:
    return MemoryDataset.from_atoms(make_frames(10, make_teacher()))


def settings(output: Path, **sections: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "output": str(output),
        "loss": {"energy": 0.01, "stress": 0.0, "charges": 1.0, "phases": []},
        "optimizer": {"learning_rate": 1e-2},
        "schedule": {"steps": 24, "warmup": 4},
        "ema": {"decay": 0.9},
        "batching": {"batch_size": 3},
        "logging": {"progress": False, "plot": False},
    }
    return TrainConfig(**{key: {**base.get(key, {}), **value} if isinstance(value, dict) else value
                          for key, value in {**base, **sections}.items()})  # fmt: skip


def same_weights(a: HybridPotential, b: HybridPotential, rtol: float = 0.0) -> None:
    for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        torch.testing.assert_close(x, y, rtol=rtol, atol=rtol, msg=lambda m, n=name: f"{n}: {m}")


class StopAt:
    """Asks to stop once it was looked at so many times."""

    def __init__(self, step: int) -> None:
        self.left = step

    @property
    def signal_name(self) -> str | None:
        self.left -= 1
        return "SIGTERM" if self.left <= 0 else None


def test_training_learns_and_writes_its_curve(dataset: MemoryDataset, tmp_path: Path) -> None:
    config = settings(
        tmp_path,
        schedule={"steps": 120},
        logging={"validate_every": 40, "plot": True, "progress": False},
    )
    before = rmse(evaluate(make_potential(1), dataset))
    potential = Trainer(make_potential(1), dataset, dataset, config).run()
    after = rmse(evaluate(potential, dataset))
    assert after["forces_rmse"] < 0.7 * before["forces_rmse"]
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").open()]
    assert [row["step"] for row in rows] == [40, 80, 120]
    assert rows[-1]["forces_rmse"] == pytest.approx(after["forces_rmse"])
    with (tmp_path / "log.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in table] == pytest.approx([row["loss"] for row in rows])
    assert (tmp_path / "log.png").stat().st_size > 1000


def test_validation_sees_the_weights_of_the_moment(dataset: MemoryDataset, tmp_path: Path) -> None:
    """Fused kernels keep folded copies of weights: they must follow the optimizer."""
    config = settings(tmp_path, logging={"validate_every": 6, "progress": False, "plot": False})
    trainer = Trainer(make_potential(1), dataset, dataset, config)
    potential = trainer.run()
    fused = rmse(evaluate(potential, dataset))
    plain = rmse(evaluate(potential.use_kernels("reference"), dataset))
    for name, value in plain.items():
        assert fused[name] == pytest.approx(value, rel=1e-3), name
    assert trainer.rows[-1]["forces_rmse"] == pytest.approx(plain["forces_rmse"], rel=1e-3)


def test_a_stopped_run_resumes_to_the_same_weights(dataset: MemoryDataset, tmp_path: Path) -> None:
    whole = Trainer(make_potential(1), dataset, dataset, settings(tmp_path / "a")).run()
    parts = settings(tmp_path / "b")
    for stop in (5, 9):
        with pytest.raises(StoppedError, match="--resume"):
            Trainer(make_potential(1), dataset, dataset, parts, stop=StopAt(stop)).run()
    resumed = Trainer(make_potential(2), dataset, dataset, parts).run()  # other initial weights
    same_weights(whole, resumed)
    rows = [[json.loads(line) for line in (tmp_path / n / "log.jsonl").open()] for n in "ab"]
    for a, b in zip(*rows, strict=True):
        timed = ("seconds", "cpu_seconds", "frames_per_s")
        assert {k: v for k, v in a.items() if k not in timed} == {
            k: v for k, v in b.items() if k not in timed
        }


def test_other_settings_or_a_torn_state_are_refused(dataset: MemoryDataset, tmp_path: Path) -> None:
    config = settings(tmp_path, schedule={"steps": 2})
    Trainer(make_potential(1), dataset, None, config).run()
    other = settings(tmp_path, schedule={"steps": 2}, optimizer={"learning_rate": 0.5})
    with pytest.raises(ConfigError, match=r"optimizer.learning_rate = 0.5 instead of 0.01"):
        Trainer(make_potential(1), dataset, None, other).run()
    state = tmp_path / "state.pt"
    content = state.read_bytes()
    state.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        Trainer(make_potential(1), dataset, None, config).run()


def test_out_of_memory_halves_the_micro_batch_and_changes_no_gradient(
    dataset: MemoryDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batching = {"batch_size": 8}
    loss = {"stress": 1.0}
    steps = {"steps": 3}
    config = settings(tmp_path / "a", batching=batching, schedule=steps, loss=loss)
    whole = Trainer(make_potential(1), dataset, None, config).run()
    real, sizes = step_module.accumulate_gradients, []

    def small_memory(potential: HybridPotential, batch: AtomsBatch, *args: Any, **options: Any):  # type: ignore[no-untyped-def]
        sizes.append(batch.n_systems)
        found = real(potential, batch, *args, **options)  # gradients are already added ...
        if batch.n_systems > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")  # ... when it fails
        return found

    monkeypatch.setattr(step_module, "accumulate_gradients", small_memory)
    config = settings(tmp_path / "b", batching=batching, schedule=steps, loss=loss)
    trainer = Trainer(make_potential(1), dataset, None, config)
    with pytest.warns(HFFWarning, match="out of memory with"):
        parts = trainer.run()
    assert max(sizes) > 2
    assert max(sizes[-2:]) <= 2
    for (name, a), (_, b) in zip(whole.named_parameters(), parts.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_a_frame_too_large_alone_is_an_error(dataset: MemoryDataset, tmp_path: Path) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    potential = make_potential(1)
    potential.named_terms()[0][1].register_forward_pre_hook(no_memory)
    trainer = Trainer(potential, dataset, None, settings(tmp_path, batching={"batch_size": 1}))
    with pytest.raises(ConfigError, match="single frames that fit into memory"):
        trainer.run()


def test_an_infinite_loss_names_its_frame(dataset: MemoryDataset, tmp_path: Path) -> None:
    frames = list(dataset.frames)
    batch, labels = frames[4]
    frames[4] = batch, replace(labels, forces=torch.full_like(labels.forces, 1e200))
    broken = MemoryDataset(frames, dataset.sources)
    config = settings(tmp_path, batching={"batch_size": 10})
    with pytest.raises(ConfigError, match=r"finite.*box:4"):
        Trainer(make_potential(1), broken, None, config).run()


def test_the_best_weights_are_kept(dataset: MemoryDataset, tmp_path: Path) -> None:
    config = settings(
        tmp_path,
        ema={"decay": 0.0, "keep": "best"},
        optimizer={"learning_rate": 0.1, "clip": None},
        schedule={"steps": 12, "warmup": 0, "decay": "constant"},
        logging={"validate_every": 1, "plot": False, "progress": False},
    )
    trainer = Trainer(make_potential(1), dataset, dataset, config)
    potential = trainer.run()
    losses = [row["validation_loss"] for row in trainer.rows]
    best = trainer.rows[int(np.argmin(losses))]
    assert rmse(evaluate(potential, dataset))["forces_rmse"] == pytest.approx(
        best["forces_rmse"], rel=1e-6
    )


def test_time_ends_a_run_and_anneals_it(dataset: MemoryDataset, tmp_path: Path) -> None:
    config = settings(
        tmp_path,
        schedule={"by": "time", "steps": None, "warmup": 0, "final_learning_rate": 1e-6},
        limits={"cpu_hours": 0.5 / 3600.0},
    )
    trainer = Trainer(make_potential(1), dataset, None, config)
    trainer.run()
    assert trainer.step > 1
    assert trainer.rows[-1]["cpu_seconds"] >= 0.5
    assert trainer.rows[-1]["learning_rate"] < 0.2e-2
    before = trainer.step
    again = Trainer(make_potential(1), dataset, None, config)
    again.run()
    assert again.step == before  # a finished run stays as it is
    longer = config.model_copy(update={"limits": LimitsSection(cpu_hours=0.8 / 3600.0)})
    further = Trainer(make_potential(1), dataset, None, longer)
    further.run()
    assert further.step > before
    assert further.rows[-1]["cpu_seconds"] >= 0.8


def test_nothing_to_train_is_an_error(dataset: MemoryDataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="parameters to train"):
        Trainer(make_potential(1).requires_grad_(False), dataset, None, settings(tmp_path))
