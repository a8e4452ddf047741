"""Killing a run at random moments, at whatever speed the machine has."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import yaml


def kill_again_and_again(
    launch: Callable[[], subprocess.Popen[bytes]], folder: Path, whole: Path, kills: int
) -> int:
    """Start or resume the run in `folder` and SIGKILL it, then let it finish; kills that hit.

    The moments are drawn from the time that the undisturbed run in `whole` took, so that together
    the sittings reach about half of it before the last one.
    """
    seconds = yaml.safe_load((whole / "summary.yaml").read_text())["wall_time[s]"]
    rng, hits, log = random.Random(5), 0, folder / "md.log"
    for _ in range(kills):
        before = log.stat().st_mtime_ns if log.exists() else None
        process = launch()
        while process.poll() is None and (
            not log.exists() or (before is not None and log.stat().st_mtime_ns == before)
        ):
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, seconds / kills))
        process.send_signal(signal.SIGKILL)
        hits += process.wait() == -signal.SIGKILL
    assert launch().wait() == 0
    return hits
