"""``--resume FOLDER`` and nothing else: a killed training ends as one that was never stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
import yaml
from ase.io import write
from test_trainer import make_frames, make_teacher
from test_trainer_runs import TERMS, weights

from hff_ase.checkpoint import ModelInfo, save_model
from hff_ase.cli import app
from hff_ase.errors import ConfigError

PROGRAM: Any = typer.main.get_command(app)
STEPS = 40
COMMON: dict[str, Any] = {
    "loss": {"stress": 0.0, "energy": 0.01, "charges": 1.0, "phases": []},
    "schedule": {"steps": STEPS, "warmup": 4},
    "batching": {"batch_size": 3},
    "logging": {"checkpoint_every": 3, "progress": False, "plot": False},
}


def command(*arguments: str) -> None:
    PROGRAM.main([*arguments], standalone_mode=False)


def killed(arguments: list[str], state: Path) -> None:
    """Run a command in a process of its own and kill it once there is a first state."""
    code = "import hff_ase.cli; hff_ase.cli.main()"
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE) as run:
        while run.poll() is None and not state.exists():
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    assert 0 < torch.load(state, weights_only=True)["step"] < STEPS


def same_weights(one: Path, other: Path) -> None:
    expected = weights(one)
    for name, value in weights(other).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.slow  # the other one trains from a folder too
def test_a_killed_training_goes_on_from_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "frames.extxyz", make_frames(12, make_teacher()))
    model = {"elements": ["H", "C", "O"], "terms": TERMS}
    data = {
        "train": str(tmp_path / "frames.extxyz"),
        "split": {"segment": 3, "held_out": [1]},
    }
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump({"model": model, "data": data, **COMMON}, sort_keys=False))
    whole, half = tmp_path / "whole", tmp_path / "half"
    seed = ["--seed", "3"]  # an option, that no file holds
    command("train", "--config", str(file), "-o", str(whole), *seed)
    killed(["train", "--config", str(file), "-o", str(half), *seed], half / "state.pt")
    file.unlink()
    command("train", "--resume", str(half))
    same_weights(whole / "model.hff", half / "model.hff")
    with pytest.raises(ConfigError, match=r"expected a training in .*nothing, got none"):
        command("train", "--resume", str(tmp_path / "nothing"))


def test_a_killed_comparison_goes_on_from_its_folder(tmp_path: Path) -> None:
    """Killed in its first training, it also does the second as it was asked for: with defaults of
    its own."""
    teacher = make_teacher()
    frames = make_frames(15, teacher)
    write(tmp_path / "new.extxyz", frames[:9])
    write(tmp_path / "test.extxyz", frames[9:])
    start = tmp_path / "start.hff"
    save_model(start, teacher, ModelInfo("start"), frames[:1])
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(COMMON))
    asked = [str(start), str(tmp_path / "new.extxyz"), "--test", str(tmp_path / "test.extxyz")]
    asked += ["--from-scratch", "--config", str(file)]
    whole, half = tmp_path / "whole", tmp_path / "half"
    command("finetune", *asked, "-o", str(whole))
    killed(["finetune", *asked, "-o", str(half)], half / "finetuned" / "state.pt")
    assert not (half / "from_scratch" / "state.pt").exists()
    file.unlink()
    command("finetune", "--resume", str(half))
    for name in ("finetuned", "from_scratch"):
        same_weights(whole / name / "model.hff", half / name / "model.hff")
    one, other = (json.loads((path / "comparison.json").read_text()) for path in (whole, half))
    assert one == other
