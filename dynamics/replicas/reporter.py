"""The output of every replica during the run, each in its own folder."""

from __future__ import annotations

import resource
from collections.abc import Mapping

from hff_ase.dynamics.replicas.replica_engine import Replica
from hff_ase.dynamics.reporters.growing_file import WriteError
from hff_ase.dynamics.reporters.reporter import Reporter
from hff_ase.dynamics.reporters.run_folder import RunFolder

SPARE = 256  # open files beside those of the replicas
FILES_EACH = 3  # statistics, trajectory, pressure


def folder_name(index: int) -> str:
    """The folder of a replica in that of the run."""
    return f"replica-{index:03d}"


def replica_folder(folder: RunFolder, index: int) -> RunFolder:
    """The folder of a replica, laid out as that of a single run."""
    return RunFolder(folder[folder_name(index)])


def allow_open_files(n_replicas: int) -> None:
    """Raise the limit of open files to what the replicas need: the default is often 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_EACH * n_replicas + SPARE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class ReplicaReporter(Reporter):
    """The growing files of one replica.

    Args:
        folder: of the run; that of the replica is made.
        replica: whose files.
        lengths: of all replicas' files, by path within the run.

    Raises:
        SimulationError: a file is shorter than at the checkpoint, or cannot be written.
        ConfigError: the library for the trajectory's format is not installed.
    """

    def __init__(self, folder: RunFolder, replica: Replica, lengths: Mapping[str, int]) -> None:
        own = replica_folder(folder, replica.index)
        try:
            own.path.mkdir(exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot make {own.path}: {error.strerror}") from error
        self._prefix = f"{own.path.name}/"
        known = {
            name.removeprefix(self._prefix): length
            for name, length in lengths.items()
            if name.startswith(self._prefix)
        }
        super().__init__(own, replica.config, known, float(replica.atoms.get_masses().sum()))

    def sync(self) -> dict[str, int]:
        """Sync the files to disk; returns their lengths by path within the run."""
        return {f"{self._prefix}{name}": length for name, length in super().sync().items()}
