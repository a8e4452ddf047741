"""Whole trainings from a yaml file: killed ones, several processes, the saved model."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from test_trainer import make_frames, make_teacher

from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.calculators.finetune import train
from hff_ase.errors import ConfigError, StructureError
from hff_ase.model_file import read_file
from hff_ase.potential import HybridPotential
from hff_ase.terms.repulsion import ZBL
from hff_ase.training.config import TrainConfig
from hff_ase.training.model import build
from hff_ase.training.pipeline import prepare

TERMS: dict[str, Any] = {
    "short_range": {
        "network": "get",
        "options": {"channels": 8, "heads": 2, "layers": 2, "n_radial": 8, "cutoff": 4.0},
        "hidden": [8],
    },
    "charges": {"kind": "predicted_charges", "hidden": [8]},
}
RUN = """
import os, signal, sys
from hff_ase.calculators.finetune import train

class KillAt:  # asked once before every step
    left = int(os.environ.get("KILL_AT", "0"))

    @property
    def signal_name(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

train(sys.argv[1], resume=True, stop=KillAt())
"""


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("frames") / "box.extxyz"
    write(path, make_frames(12, make_teacher()))
    return path


def write_config(folder: Path, frames: Path, **sections: Any) -> Path:
    content: dict[str, Any] = {
        "output": str(folder / "run"),
        "model": {"elements": ["H", "C", "O"], "terms": TERMS},
        "data": {"train": str(frames), "split": {"segment": 3, "held_out": [1]}},
        "loss": {"stress": 0.0, "energy": 0.01, "charges": 1.0, "phases": []},
        "schedule": {"steps": 30, "warmup": 4},
        "batching": {"batch_size": 3},
        "logging": {"progress": False, "plot": False},
    }
    folder.mkdir(exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**content, **sections}, sort_keys=False))
    return path


def weights(path: Path) -> dict[str, torch.Tensor]:
    return {k: v for k, v in read_file(path)[1].items() if k.startswith("weights.")}


def launch(config: Path, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(config)],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("kind", ["adamw", "soap"])
def test_a_killed_training_resumes_to_the_same_weights(
    frames: Path, tmp_path: Path, kind: str
) -> None:
    sections: dict[str, Any] = {
        "optimizer": {"kind": kind},
        "schedule": {"steps": 14, "warmup": 4},
        "logging": {"checkpoint_every": 5, "progress": False, "plot": False},
    }
    train(write_config(tmp_path / "whole", frames, **sections))
    config = write_config(tmp_path / "killed", frames, **sections)
    process = launch(config, KILL_AT="8")
    assert process.wait() == -signal.SIGKILL
    state = torch.load(tmp_path / "killed/run/state.pt", weights_only=True)
    assert state["step"] in (5, 6)  # in the middle of an epoch, and not where it was killed
    train(config, resume=True)
    expected = weights(tmp_path / "whole/run/model.hff")
    for name, value in weights(tmp_path / "killed/run/model.hff").items():
        assert torch.equal(value, expected[name]), name


def test_two_processes_train_as_one(frames: Path, tmp_path: Path) -> None:
    sections: dict[str, Any] = {
        "dtype": "float64",
        "schedule": {"steps": 6, "warmup": 2},
        "batching": {"batch_size": 3},  # an odd number: shares differ
        "loss": {"stress": 0.0, "energy": 0.01, "charges": 1.0, "remove_energy_mean": True},
    }
    train(write_config(tmp_path / "one", frames, **sections))
    config = write_config(tmp_path / "two", frames, **sections)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [launch(config, RANK=str(k), LOCAL_RANK=str(k), **group) for k in range(2)]
    assert [rank.communicate(timeout=100)[1] for rank in ranks] == [b"", b""]
    assert [rank.returncode for rank in ranks] == [0, 0]
    rows = [
        [json.loads(line) for line in (tmp_path / name / "run/log.jsonl").open()]
        for name in ("one", "two")
    ]
    assert len(rows[0]) == len(rows[1])
    for one, two in zip(*rows, strict=True):
        for name, value in one.items():
            if name not in ("seconds", "cpu_seconds", "frames_per_s"):
                assert two[name] == pytest.approx(value, rel=1e-9), name
    expected = weights(tmp_path / "one/run/model.hff")
    for name, value in weights(tmp_path / "two/run/model.hff").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-8, atol=1e-10)


def test_the_saved_model_is_the_whole_potential(frames: Path, tmp_path: Path) -> None:
    """Fixed terms are taken off the labels, and are part of what is saved."""
    wall = HybridPotential({"wall": ZBL()}, ("H", "C", "O"))
    labelled = read(frames, ":")
    for atoms in labelled:
        part = wall(AtomsBatch.from_atoms(atoms))
        assert part.forces is not None
        results = {"energy": atoms.get_potential_energy() + float(part.energy)}
        results["forces"] = atoms.get_forces() + part.forces.numpy()
        atoms.calc = SinglePointCalculator(atoms, **results)
    write(tmp_path / "walled.extxyz", labelled)
    model = {
        "name": "tiny",
        "elements": ["H", "C", "O"],
        "terms": {**TERMS, "wall": {"kind": "zbl"}},
        "save_as": {"wall": {"scale": 0.5}, "coulomb": {"kind": "coulomb", "method": "pme"}},
    }
    path = write_config(tmp_path, tmp_path / "walled.extxyz", model=model)
    config = TrainConfig.load(path, {"schedule.steps": 3})
    assert config.model is not None
    assert config.data is not None
    prepared = prepare(config)
    assert [name for name, _ in prepared.trainable.named_terms()] == ["short_range", "charges"]
    sources = [prepared.train.source(k) for k in range(len(prepared.train))]
    assert sources == [f"walled:{k}" for k in (0, 1, 2, *range(6, 12))]
    plain = read(frames, ":")[6]
    np.testing.assert_allclose(prepared.train[3][1].forces.numpy(), plain.get_forces(), atol=1e-6)
    calc = train(config)
    assert calc.info.name == "tiny"
    assert calc.info.details["frames"] == {"train": 9, "validation": 3}
    loaded = HybridFF.load(tmp_path / "run/model.hff")
    names = [name for name, _ in loaded.potential.named_terms()]
    assert names == ["short_range", "charges", "wall", "coulomb"]
    assert loaded.potential.terms["wall"].config()["scale"] == 0.5  # type: ignore[operator,union-attr,index]
    plain.calc, twin = calc, plain.copy()
    twin.calc = loaded
    np.testing.assert_allclose(plain.get_forces(), twin.get_forces(), atol=1e-5)
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["seed"] == 0
    with pytest.raises(ConfigError, match="--resume"):
        train(config)


def test_a_saved_model_is_a_start(frames: Path, tmp_path: Path) -> None:
    first = train(write_config(tmp_path / "first", frames))
    model = {
        "start": str(tmp_path / "first/run/model.hff"),
        "adapt": {"freeze": ["terms.charges.*"]},
    }
    second = train(write_config(tmp_path / "second", frames, model=model))
    assert second.info.details["start"]["name"] == "model"
    assert second.info.details["settings"]["model"]["start"] == "model.hff"  # no path
    old, new = (dict(c.potential.named_parameters()) for c in (first, second))
    assert all(torch.equal(old[k], new[k]) for k in old if k.startswith("terms.charges."))
    assert not torch.equal(
        old["terms.short_range.net.embedding.weight"],
        new["terms.short_range.net.embedding.weight"],
    )


def test_a_term_is_trained_coarser_than_it_is_saved(frames: Path, tmp_path: Path) -> None:
    fine = {"method": "ewald", "cutoff": 4.0, "tolerance": 1e-8}
    model = {
        "elements": ["H", "C", "O"],
        "terms": {**TERMS, "coulomb": fine},
        "train_as": {"coulomb": {"tolerance": 1e-3}},
    }
    config = TrainConfig.load(write_config(tmp_path, frames, model=model), {"schedule.steps": 2})
    assert config.model is not None
    assert config.data is not None
    prepared = prepare(config)
    assert prepared.trainable.terms["coulomb"].tolerance == 1e-3
    saved = dict(train(config).potential.named_terms())
    assert saved["coulomb"].config()["tolerance"] == 1e-8
    wrong = config.model.model_copy(update={"train_as": {"coulom": {}}})
    with pytest.raises(ConfigError, match="got 'coulom'"):
        prepare(config.model_copy(update={"model": wrong}))


def test_initial_weights_follow_the_seed() -> None:
    section = TrainConfig(
        model={"elements": ["H", "O"], "terms": TERMS}, schedule={"steps": 1}
    ).model
    assert section is not None
    (a, _), (b, _), (c, _) = build(section, 1), build(section, 1), build(section, 2)
    embedding = "terms.short_range.net.embedding.weight"
    states = [p.state_dict()[embedding] for p in (a, b, c)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_frames_with_other_elements_are_named(frames: Path, tmp_path: Path) -> None:
    model = {"elements": ["H", "O"], "terms": TERMS}
    with pytest.raises(StructureError, match=r"got C in frame box:1"):
        train(write_config(tmp_path, frames, model=model))


def test_tensorboard_gets_every_row(frames: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed",
    )
    logging = {"progress": False, "plot": False, "tensorboard": True, "validate_every": 2}
    train(write_config(tmp_path, frames, schedule={"steps": 4, "warmup": 1}, logging=logging))
    events = reader.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    written = {event.step: event.value for event in events.Scalars("forces_rmse")}
    assert written == pytest.approx({row["step"]: row["forces_rmse"] for row in rows})


def test_a_training_says_which_labels_of_how_many_frames_it_uses(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = frames.read_text().replace(":forces:R:3", ":dft_forces:R:3")
    renamed = tmp_path / "renamed.extxyz"
    renamed.write_text(text)
    sections = {"schedule": {"steps": 1}, "logging": {"plot": False}}
    train(write_config(tmp_path / "named", renamed, **sections))
    said = (tmp_path / "named/run/labels.txt").read_text()
    assert said.startswith("train: 9 frames: energy 9, forces 9 (from dft_forces), stress 0")
    assert said in capsys.readouterr().err
