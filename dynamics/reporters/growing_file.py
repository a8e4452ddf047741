"""Files of a run: those that grow, and those that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hff_ase.errors import SimulationError
from hff_ase.files import write_whole

SECONDS_OF_WAITING, MOST_WAITING = 1.0, 1 << 20  # of records in memory; bytes


class WriteError(SimulationError):
    """A file of a run cannot be written: a full disk, a folder without permission ..."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's errors about a file into a `WriteError`."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write or replace a whole file of a run.

    Raises:
        WriteError: the folder cannot be written or the disk is full; the old file stays.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror}") from error


class GrowingFile:
    """A file that only grows; what was written after the last checkpoint can be cut off.

    Records reach the disk whole, at least once a second while there are new ones: whoever reads the
    file of a running simulation finds no half of a row or frame at its end.
    """

    def __init__(self, path: Path, length: int) -> None:
        """Open at ``length`` bytes and cut off what follows.

        Raises:
            SimulationError: the file is shorter than that (WriteError: cannot be written).
        """
        self.path = path
        with writing(path):
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
        """Write all buffered records to the file at once."""
        with writing(self.path):
            while self._waiting:  # more than once where the disk is nearly full
                written = self._file.write(self._waiting)
                del self._waiting[:written]
        self._flushed = time.monotonic()

    def sync(self) -> int:
        """Sync to disk; returns the length in bytes."""
        self.flush()
        with writing(self.path):
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        """Close without raising: what matters was synced with a checkpoint."""
        with contextlib.suppress(OSError, WriteError):
            self.flush()
        with contextlib.suppress(OSError):
            self._file.close()
