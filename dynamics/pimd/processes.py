"""i-PI and its drivers as supervised processes."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

from hff_ase.dynamics.pimd.config import EXTRA, PIMDConfig
from hff_ase.dynamics.pimd.force_fields import (
    ForceField,
    address_of,
    driver_path,
    force_fields,
)
from hff_ase.errors import ConfigError, SimulationError

SOCKETS = "/tmp/ipi_"  # i-PI's own prefix
PATIENCE = 60.0  # seconds for i-PI to open its socket
GRACE = 5.0  # seconds for i-PI to end after its driver
REFUSED = "hff_ase.errors."  # how the last line of a driver begins that did not like its input
TAIL = 12  # lines of a log that an error looks through


def program(name: str) -> str:
    """Path of an i-PI program, preferably next to this Python.

    Raises:
        ConfigError: i-PI is not installed.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise ConfigError(EXTRA)
    return found


def driver_commands(config: PIMDConfig, address: str) -> list[list[str]]:
    """The command line of every driver of a run; ``address`` is the run's."""
    fields = force_fields(config)
    return [driver_command(config, field, address) for field in fields] * config.drivers


def driver_command(config: PIMDConfig, field: ForceField, address: str) -> list[str]:
    """The command line of a driver for the socket of a force field."""
    options = ",".join(f"{name}={value}" for name, value in field.options.items())
    transport = "--shm" if config.transport == "shm" else "-u"
    command = [program("i-pi-py_driver"), "-m", "custom", "-P", str(driver_path())]
    return [*command, "-o", options, "-a", address_of(field, address), transport]


def last_words(log: Path) -> str:
    """The last line of a log that says what went wrong; empty if there is none."""
    with contextlib.suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        telling = [line.strip() for line in lines if "Error" in line]
        return telling[-1] if telling else (lines[-1].strip() if lines else "")
    return ""


class DriverLostError(SimulationError):
    """The driver ended while i-PI needs it; i-PI was stopped, and continues from its checkpoint."""


class PIMDProcesses:
    """i-PI and, with sockets, its drivers; all end with this object.

    Args:
        config: of the run.
        folder: where they run.
        input_name: the file that i-PI starts from.
        address: name of the socket.
        keep_open: file descriptors for i-PI (the lock of the folder stays until i-PI has ended).
    """

    def __init__(
        self,
        config: PIMDConfig,
        folder: Path,
        input_name: str,
        address: str,
        keep_open: tuple[int, ...],
    ) -> None:
        self._folder = folder
        self._drivers: list[subprocess.Popen[bytes]] = []
        self.log = folder / "ipi.log"
        self._commands: list[list[str]] = []  # of drivers that are still to be started
        self._sockets: list[Path] = []
        if config.transport != "ffdirect":
            self._commands = driver_commands(config, address)
            fields = force_fields(config)
            self._sockets = [Path(SOCKETS + address_of(field, address)) for field in fields]
        for path in self._sockets:
            _remove_dead_socket(path)
        with open(self.log, "ab") as out:
            self._ipi = self._start([program("i-pi"), input_name], out, keep_open)

    def __enter__(self) -> PIMDProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._drivers, self._ipi):
            if process.poll() is None:
                process.kill()
                process.wait()

    def _start(
        self, command: list[str], out: BinaryIO, keep_open: tuple[int, ...] = ()
    ) -> subprocess.Popen[bytes]:
        # a session of their own: Ctrl-C reaches us alone, and we ask i-PI to stop
        return subprocess.Popen(
            command, cwd=self._folder, stdout=out, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=keep_open,
        )  # fmt: skip

    def driver_log(self, index: int) -> Path:
        """Where a driver writes."""
        return self._folder / (f"driver_{index + 1}.log" if index else "driver.log")

    def running(self) -> bool:
        """Whether i-PI runs.

        Raises:
            DriverLostError: a driver was lost. i-PI may wait for its answer forever (a connection
                that breaks within a message ends the thread that listens), so it was stopped.
            SimulationError: i-PI failed, or a driver refused what it was given.
        """
        code = self._ipi.poll()
        if code is not None:
            self._check_drivers()  # an i-PI that ends for want of an answer knows less of why
            if code < 0:
                name = signal.Signals(-code).name
                raise SimulationError(f"i-PI was killed by {name}; continue with --resume")
            if code > 0:
                raise SimulationError(f"i-PI failed: {last_words(self.log)} (see {self.log})")
            return False
        if self._commands:
            self._start_drivers()
        if any(driver.poll() not in (None, 0) for driver in self._drivers):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._ipi.wait(GRACE)  # the last thing a driver sees may be a closed connection
                return self.running()
            self.stop(GRACE)
            self._check_drivers()
            index = next(k for k, d in enumerate(self._drivers) if d.poll() not in (None, 0))
            log = self.driver_log(index)
            raise DriverLostError(f"the driver ended: {last_words(log)} (see {log})")
        return True

    def _check_drivers(self) -> None:
        """Raise what a driver said of its input: with the same input it would say it again."""
        for index, driver in enumerate(self._drivers):
            log = self.driver_log(index)
            words = last_words(log) if (driver.poll() or 0) > 0 else ""
            if words.startswith(REFUSED):
                reason = words.removeprefix(REFUSED)
                raise SimulationError(f"the driver refused: {reason} (see {log})")

    def _start_drivers(self) -> None:
        waited = time.monotonic()
        while not all(path.exists() for path in self._sockets):
            if self._ipi.poll() is not None:
                return  # the next look says why
            if time.monotonic() - waited > PATIENCE:
                raise SimulationError(f"i-PI opened no socket at {self._sockets} (see {self.log})")
            time.sleep(0.05)
        time.sleep(0.2)  # listening comes a moment after the file
        for index, command in enumerate(self._commands):
            with open(self.driver_log(index), "wb") as out:
                self._drivers.append(self._start(command, out))
        self._commands = []

    def stop(self, patience: float = 120.0) -> None:
        """Ask i-PI to stop after its step and to write RESTART."""
        if self._ipi.poll() is None:
            self._ipi.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._ipi.wait(patience)


def _remove_dead_socket(path: Path) -> None:
    """A killed i-PI leaves its socket behind, and the next one could not open it."""
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise SimulationError(f"expected no other i-PI at {path}, got one that answers")
