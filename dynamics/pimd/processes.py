"""i-PI and the driver beside it, as processes that are looked after."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

from hff_ase.dynamics.pimd.config import EXTRA, PIMDConfig
from hff_ase.dynamics.pimd.input_xml import driver_options, driver_path
from hff_ase.errors import ConfigError, SimulationError

SOCKETS = "/tmp/ipi_"  # i-PI's own prefix
PATIENCE = 60.0  # seconds for i-PI to open its socket
GRACE = 5.0  # seconds for i-PI to end after its driver
TAIL = 12  # lines of a log that an error looks through


def program(name: str) -> str:
    """Path of a program of i-PI's, first beside this Python.

    Raises:
        ConfigError: i-PI is not installed.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise ConfigError(EXTRA)
    return found


def driver_command(config: PIMDConfig, address: str) -> list[str]:
    """The command line of a driver for the socket of this name."""
    options = ",".join(f"{name}={value}" for name, value in driver_options(config).items())
    transport = "--shm" if config.transport == "shm" else "-u"
    command = [program("i-pi-py_driver"), "-m", "custom", "-P", str(driver_path())]
    return [*command, "-o", options, "-a", address, transport]


def last_words(log: Path) -> str:
    """The last line of a log that says what went wrong; empty where there is none."""
    with contextlib.suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        telling = [line.strip() for line in lines if "Error" in line]
        return telling[-1] if telling else (lines[-1].strip() if lines else "")
    return ""


class DriverLostError(SimulationError):
    """The driver ended while i-PI needs it; i-PI was stopped, and goes on from its checkpoint."""


class Processes:
    """i-PI and, with a socket, one driver; both end with this object.

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
        self._config, self._folder, self._address = config, folder, address
        self._driver: subprocess.Popen[bytes] | None = None
        self._socket = Path(SOCKETS + address)
        self.log, self.driver_log = folder / "ipi.log", folder / "driver.log"
        self._uses_socket = config.transport != "ffdirect"
        if self._uses_socket:
            _remove_dead_socket(self._socket)
        with open(self.log, "ab") as out:
            self._ipi = self._start([program("i-pi"), input_name], out, keep_open)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._driver, self._ipi):
            if process is not None and process.poll() is None:
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

    def running(self) -> bool:
        """Whether i-PI runs.

        Raises:
            DriverLostError: the driver failed. i-PI may wait for its answer for ever (a connection
                that breaks within a message ends the thread that listens), so it was stopped.
            SimulationError: i-PI failed.
        """
        code = self._ipi.poll()
        if code is not None:
            if code != 0:
                raise SimulationError(f"i-PI failed: {last_words(self.log)} (see {self.log})")
            return False
        if self._uses_socket and self._driver is None:
            self._start_driver()
        elif self._driver is not None and self._driver.poll() not in (None, 0):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._ipi.wait(GRACE)  # the last thing a driver sees may be a closed connection
                return self.running()
            self.stop(GRACE)
            raise DriverLostError(
                f"the driver ended: {last_words(self.driver_log)} (see {self.driver_log})"
            )
        return True

    def _start_driver(self) -> None:
        waited = time.monotonic()
        while not self._socket.exists():
            if self._ipi.poll() is not None:
                return  # the next look says why
            if time.monotonic() - waited > PATIENCE:
                raise SimulationError(f"i-PI opened no socket at {self._socket} (see {self.log})")
            time.sleep(0.05)
        time.sleep(0.2)  # listening comes a moment after the file
        with open(self.driver_log, "ab") as out:
            self._driver = self._start(driver_command(self._config, self._address), out)

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
