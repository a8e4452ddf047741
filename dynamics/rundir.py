"""The folder that a run leaves behind, with predictable names."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from hff_ase.dynamics.checkpointing import WriteError, write_atomically
from hff_ase.errors import SimulationError

SECONDS_OF_WAITING, MOST_WAITING = 1.0, 1 << 20  # of records in memory; bytes
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
    CHECKPOINT,
)


def trajectory_name(suffix: str) -> str:
    """Name of the trajectory of a format such as ``xtc``."""
    return f"trajectory.{suffix}"


class GrowingFile:
    """A file that only grows; what lies behind the last checkpoint can be cut off again.

    Records reach the disk whole, at least once a second while there are new ones: whoever reads the
    file of a running simulation finds no half of a row or frame at its end.
    """

    def __init__(self, path: Path, length: int) -> None:
        """Open at ``length`` bytes and cut off what follows.

        Raises:
            SimulationError: the file is shorter than that (WriteError: cannot be written).
        """
        self.path = path
        with _writing(path):
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115
            self._waiting, self._flushed = bytearray(), time.monotonic()
            found = self._file.tell()
            if found < length:
                self._file.close()
                raise SimulationError(
                    f"expected at least {length} bytes in {path} as at the checkpoint, got {found}"
                )
            self._file.truncate(length)

    def write(self, record: str | bytes) -> None:
        """Append a whole record (a row, a frame), which waits for others for up to a second."""
        self._waiting += record.encode() if isinstance(record, str) else record
        late = time.monotonic() - self._flushed > SECONDS_OF_WAITING
        if late or len(self._waiting) > MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Hand all records to the system, in one piece."""
        with _writing(self.path):
            while self._waiting:  # more than once where the disk is nearly full
                written = self._file.write(self._waiting)
                del self._waiting[:written]
        self._flushed = time.monotonic()

    def sync(self) -> int:
        """Bring everything to the disk; the length in bytes."""
        self.flush()
        with _writing(self.path):
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        """Close without complaint: what counts was synced with a checkpoint."""
        with contextlib.suppress(OSError, WriteError):
            self.flush()
        with contextlib.suppress(OSError):
            self._file.close()


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror}") from error


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
        with _writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self.locked(), _writing(self.path):
            for name in NAMES:
                if name != LOG:  # the log holds the lock
                    self[name].unlink(missing_ok=True)
            for path in self.path.glob("replica-[0-9]*"):
                shutil.rmtree(path)
            os.truncate(self[LOG], 0)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder; a killed process leaves no lock behind.

        Raises:
            SimulationError: another process runs here.
        """
        with _writing(self[LOG]):
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
        with _writing(self[LOG]), open(self[LOG], "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")

    def write(self, name: str, text: str) -> None:
        """Write or replace a whole file.

        Raises:
            WriteError: it cannot be written.
        """
        write_atomically(self[name], text.encode())
