"""A killed run that is resumed gives, bit for bit, the run that was never killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from killing import kill_again_and_again
from toy_md import ListedLennardJones, argon, settings

from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.simulation.checkpoint import load_checkpoint, save_checkpoint
from hff_ase.errors import ConfigError, HFFWarning, SimulationError

COMPARED = ("statistics.dat", "trajectory.extxyz", "final.extxyz")
PROGRAM = Path(__file__).with_name("toy_md.py")
STAGED = "npt:0.7ps,nvt:0.7ps,nvt-nhc:0.7ps"


class KilledError(Exception):
    """Stands in for a power cut."""


class FailsAtCall(ListedLennardJones):
    """Dies at a given evaluation, in the middle of a step."""

    def __init__(self, last_call: int) -> None:
        super().__init__()
        self.last_call = last_call

    def calculate(self, *args: object, **options: object) -> None:
        if self.n_calls >= self.last_call:
            raise KilledError
        super().calculate(*args, **options)  # type: ignore[arg-type]


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in COMPARED}


def launch(folder: Path, stages: str) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder), stages], env=environment, cwd=root
    )


def undisturbed(folder: Path, stages: str) -> dict[str, bytes]:
    MDRun.start(settings(str(folder), stages.split(",")), argon(), ListedLennardJones()).run()
    return outputs(folder)


def test_killed_at_random_moments(tmp_path):
    expected = undisturbed(tmp_path / "whole", STAGED)
    killed = tmp_path / "killed"
    hits = kill_again_and_again(lambda: launch(killed, STAGED), killed, tmp_path / "whole", 3)
    assert hits >= 2  # the others came after the end
    assert outputs(tmp_path / "killed") == expected


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["nvt", "nvt-nhc", "npt", "nve"])
def test_killed_twenty_times(tmp_path, ensemble):
    stages = f"{ensemble}:10ps"
    expected = undisturbed(tmp_path / "whole", stages)
    killed = tmp_path / "killed"
    hits = kill_again_and_again(lambda: launch(killed, stages), killed, tmp_path / "whole", 20)
    assert hits >= 15
    assert outputs(tmp_path / "killed") == expected


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "nvt-nhc", "npt"])
def test_every_ensemble_resumes_exactly(tmp_path, ensemble):
    stages = f"{ensemble}:0.8ps"
    expected = undisturbed(tmp_path / "whole", stages)
    config = settings(str(tmp_path / "cut"), [stages])
    # before the first checkpoint, between two, and soon after one
    run = MDRun.start(config, argon(), FailsAtCall(4))
    for call in (95, 40, None):
        with pytest.raises(KilledError):
            run.run()
        run = MDRun.resume(tmp_path / "cut", FailsAtCall(call) if call else ListedLennardJones())
    run.run()
    assert outputs(tmp_path / "cut") == expected


def test_more_checkpoints_change_nothing(tmp_path):
    stages = ["npt:0.2ps", "nvt:0.2ps"]
    often = settings(str(tmp_path / "often"), stages, checkpoint_interval=1)
    seldom = settings(str(tmp_path / "seldom"), stages, checkpoint_interval=10**6)
    for config in (often, seldom):
        MDRun.start(config, argon(), ListedLennardJones()).run()
    assert outputs(tmp_path / "often") == outputs(tmp_path / "seldom")


def test_calculator_state_is_needed_and_kept(tmp_path):
    """Without the neighbour list's reference the last bits differ: the test above has teeth."""
    expected = undisturbed(tmp_path / "whole", "nvt:1.2ps")
    config = settings(str(tmp_path / "cut"), ["nvt:1.2ps"])
    with pytest.raises(KilledError):
        MDRun.start(config, argon(), FailsAtCall(200)).run()
    path = tmp_path / "cut" / "checkpoint.npz"
    checkpoint = load_checkpoint(path)
    reference = checkpoint.calculator["positions"]
    assert not np.array_equal(reference, checkpoint.atoms["arrays/positions"])
    checkpoint.calculator = {}
    save_checkpoint(path, checkpoint)
    with pytest.warns(HFFWarning, match="energy at the checkpoint differs"):
        MDRun.resume(tmp_path / "cut", ListedLennardJones()).run()
    assert outputs(tmp_path / "cut") != expected


def test_finished_run_is_left_alone(tmp_path):
    expected = undisturbed(tmp_path / "run", "nvt:0.1ps")
    calc = FailsAtCall(0)
    assert MDRun.resume(tmp_path / "run", calc).run()["status"] == "finished"
    assert outputs(tmp_path / "run") == expected


def test_resume_refuses_other_settings_and_models(tmp_path):
    config = settings(str(tmp_path), ["nvt:0.8ps"])
    with pytest.raises(KilledError):
        MDRun.start(config, argon(), FailsAtCall(60)).run()
    with pytest.raises(ConfigError, match=r"temperature 90\.0, got 95\.0"):
        MDRun.resume(tmp_path, ListedLennardJones(), settings={"temperature": 95})
    MDRun.resume(tmp_path, ListedLennardJones(), settings={"temperature": 90, "time": "0.8ps"})

    class OtherModel(ListedLennardJones):
        def calculate(self, *args: object, **options: object) -> None:
            super().calculate(*args, **options)  # type: ignore[arg-type]
            self.results["energy"] += 1.0

    with pytest.raises(SimulationError, match="another model"):
        MDRun.resume(tmp_path, OtherModel()).run()


def test_resume_warns_about_another_number_of_threads(tmp_path, monkeypatch):
    config = settings(str(tmp_path), ["nvt:0.4ps"])
    with pytest.raises(KilledError):
        MDRun.start(config, argon(), FailsAtCall(60)).run()
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    with pytest.warns(HFFWarning, match="OMP_NUM_THREADS was"):
        MDRun.resume(tmp_path, ListedLennardJones()).run()


def test_damaged_and_missing_files(tmp_path):
    with pytest.raises(SimulationError, match="expected a run in"):
        MDRun.resume(tmp_path / "nowhere")
    config = settings(str(tmp_path), ["nvt:0.8ps"])
    with pytest.raises(KilledError):
        MDRun.start(config, argon(), FailsAtCall(120)).run()
    (tmp_path / "statistics.dat").write_text("")
    with pytest.raises(SimulationError, match="at the checkpoint, got 0"):
        MDRun.resume(tmp_path, ListedLennardJones()).run()
    checkpoint = tmp_path / "checkpoint.npz"
    whole = checkpoint.read_bytes()
    for damaged in (whole[:200], b"", b"nonsense", whole[:-400] + bytes(400)):
        checkpoint.write_bytes(damaged)
        with pytest.raises(SimulationError):
            MDRun.resume(tmp_path, ListedLennardJones())


def test_full_disk_leaves_the_checkpoint(tmp_path):
    """A limit on file size stands in for a full disk."""
    code = (
        "import resource, signal, sys; sys.argv = sys.argv[1:]\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))\n"
        "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    root = Path(__file__).parents[1]
    folder, stages = tmp_path / "full", "nvt:1.2ps"
    done = subprocess.run(
        [sys.executable, "-c", code, str(PROGRAM), str(folder), stages],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "cannot write" in last
    assert "File too large" in last
    assert "checkpoint is intact" in last
    MDRun.resume(folder, ListedLennardJones()).run()
    assert outputs(folder) == undisturbed(tmp_path / "whole", stages)


def test_signal_stops_between_steps_with_a_checkpoint(tmp_path):
    class Signals(ListedLennardJones):
        def calculate(self, *args: object, **options: object) -> None:
            if self.n_calls == 50:
                os.kill(os.getpid(), signal.SIGTERM)
            super().calculate(*args, **options)  # type: ignore[arg-type]

    expected = undisturbed(tmp_path / "whole", "npt:0.6ps")
    config = settings(str(tmp_path / "cut"), ["npt:0.6ps"])
    with pytest.raises(SimulationError, match="stopped by SIGTERM at step"):
        MDRun.start(config, argon(), Signals()).run()
    assert load_checkpoint(tmp_path / "cut" / "checkpoint.npz").step % 30 != 0
    MDRun.resume(tmp_path / "cut", ListedLennardJones()).run()
    assert outputs(tmp_path / "cut") == expected


def test_one_process_per_folder(tmp_path):
    run = MDRun.start(settings(str(tmp_path), ["nvt:0.1ps"]), argon(), ListedLennardJones())
    with run.folder.locked(), pytest.raises(SimulationError, match="another process"):
        run.run()
