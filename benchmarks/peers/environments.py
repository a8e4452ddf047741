"""Environments of the peers, each with its own requirements, and how processes run in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# Settings of glibc's allocator that suit every package: large blocks are kept, not given back.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


def make_environment(folder: Path, name: str) -> str | None:
    """An environment with a peer's requirements, once; why not, if that fails."""
    done = folder / ".installed"
    if done.exists():
        return None
    requirements = HERE / "requirements"
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "-c", str(requirements / "constraints.txt"),
         "-r", str(requirements / f"{name}.txt")],
    ):  # fmt: skip
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            lines = run.stderr.strip().splitlines()
            return "not installed: " + (lines[-1] if lines else "no message")
    done.touch()
    return None


def one_thread() -> dict[str, str]:
    """Environment variables of a process with one thread and the allocator's settings."""
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {**os.environ, **ALLOCATOR, **threads, "PYTHONUNBUFFERED": "1"}
