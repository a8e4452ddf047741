"""The folder that a run leaves behind, with predictable names."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from hff_ase.dynamics.reporters.growing_file import write_atomically, writing
from hff_ase.errors import SimulationError

CHECKPOINT = "checkpoint.npz"
CONFIG = "config.yaml"
INPUT = "input.extxyz"
LOG = "md.log"
STATISTICS = "statistics.dat"
PRESSURE = "pressure.dat"
TRAJECTORY = "trajectory.extxyz"
TOPOLOGY = "trajectory.pdb"  # beside trajectory.xtc
FINAL = "final.extxyz"
SUMMARY = "summary.yaml"
PLOT = "md.png"
FAILED = "failed.extxyz"
SPREAD = "spread.dat"
UNCERTAINTY = "uncertainty.dat"
# the checkpoint last: while it is there, the folder holds a run
NAMES = (
    LOG,
    CONFIG,
    INPUT,
    STATISTICS,
    PRESSURE,
    TRAJECTORY,
    "trajectory.traj",
    "trajectory.xtc",
    TOPOLOGY,
    FINAL,
    SUMMARY,
    PLOT,
    FAILED,
    SPREAD,
    UNCERTAINTY,
    CHECKPOINT,
)


def trajectory_name(suffix: str) -> str:
    """Name of the trajectory of a format such as ``xtc``."""
    return f"trajectory.{suffix}"


class RunFolder:
    """Paths, log and lock of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __getitem__(self, name: str) -> Path:
        return self.path / name

    @property
    def has_run(self) -> bool:
        """Whether a run was started here."""
        return self[CHECKPOINT].exists()

    def create(self, force: bool) -> None:
        """Make the folder; with ``force`` the files of an earlier run in it are removed.

        Raises:
            SimulationError: it holds a run (without ``force``), or cannot be written.
        """
        if self.has_run and not force:
            raise SimulationError(
                f"expected an output folder without a run, got {self.path}; continue it with "
                f"--resume {self.path}, replace it with --force, or choose another --output"
            )
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self.locked(), writing(self.path):
            for name in NAMES:
                if name != LOG:  # the log holds the lock
                    self[name].unlink(missing_ok=True)
            for path in self.path.glob("replica-[0-9]*"):
                shutil.rmtree(path)
            os.truncate(self[LOG], 0)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other processes; a killed process leaves no lock.

        Raises:
            SimulationError: another process runs here.
        """
        with writing(self[LOG]):
            file = open(self[LOG], "ab")  # noqa: SIM115
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SimulationError(f"another process is running in {self.path}") from None
            except OSError as error:
                raise SimulationError(f"cannot lock {self[LOG]}: {error.strerror}") from error
            yield

    def log(self, message: str) -> None:
        """Append a line with the time to the log.

        Raises:
            WriteError: the log cannot be written.
        """
        with writing(self[LOG]), open(self[LOG], "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")

    def write(self, name: str, text: str) -> None:
        """Write or replace a whole file.

        Raises:
            WriteError: it cannot be written.
        """
        write_atomically(self[name], text.encode())
