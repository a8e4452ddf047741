"""The files that grow during a run: statistics, trajectory and pressure tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ase import Atoms

from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.reporters.growing_file import GrowingFile
from hff_ase.dynamics.reporters.run_folder import PRESSURE, STATISTICS, RunFolder, trajectory_name
from hff_ase.dynamics.reporters.statistics import (
    Moment,
    columns,
    format_row,
    header,
    pressure_columns,
    pressure_row,
    row,
)
from hff_ase.dynamics.reporters.trajectory_files import open_trajectory

if TYPE_CHECKING:
    from hff_ase.dynamics.engine.interface import Sample

NARROW = {"width": 15, "digits": 8}  # of pressure.dat, which has many rows


class FrameSource(Protocol):
    """A source of frames; asked only when one is due, since reading from a GPU takes time."""

    @property
    def atoms(self) -> Atoms:
        """The structure, positions not wrapped."""

    @property
    def results(self) -> Mapping[str, Any]:
        """ASE's results for it."""


class Reporter:
    """Writes what is due; each file can be cut back to its length at a checkpoint.

    Args:
        folder: of the run.
        config: which files, and how often.
        lengths: as `sync` returned them; without an entry a file starts from the beginning.
        mass: of the system, amu, for the density.

    Raises:
        SimulationError: a file is shorter than at the checkpoint, or cannot be written.
        ConfigError: the library for the trajectory's format is not installed.
    """

    def __init__(
        self, folder: RunFolder, config: MDConfig, lengths: Mapping[str, int], mass: float
    ) -> None:
        self._config, self._mass = config, mass
        self._statistics = GrowingFile(folder[STATISTICS], lengths.get(STATISTICS, 0))
        self._frames = trajectory_name(config.trajectory_format)
        self._trajectory = open_trajectory(
            folder[self._frames], lengths.get(self._frames, 0), config.trajectory_forces
        )
        self._pressure: GrowingFile | None = None
        if config.pressure_interval is not None:
            self._pressure = GrowingFile(folder[PRESSURE], lengths.get(PRESSURE, 0))

    def begin(self, moment: Moment, sample: Sample, source: FrameSource) -> None:
        """Write headers, and the start of the run to every file."""
        self._statistics.write(header(columns(source.atoms, sample)))
        if self._pressure:
            self._pressure.write(header(pressure_columns(), NARROW["width"]))
        self._write(moment, sample, source, everything=True)

    def record(self, moment: Moment, sample: Sample, source: FrameSource) -> None:
        """Write what is due after a step.

        Raises:
            WriteError: it cannot be written.
        """
        self._write(moment, sample, source)

    def _write(
        self, moment: Moment, sample: Sample, source: FrameSource, everything: bool = False
    ) -> None:
        config, step = self._config, moment.step
        if everything or step % config.statistics_interval == 0:
            self._statistics.write(format_row(row(moment, sample, self._mass)))
        every = config.pressure_interval
        if self._pressure and every and (everything or step % every == 0):
            self._pressure.write(format_row(pressure_row(moment, sample), **NARROW))
        if everything or step % config.trajectory_interval == 0:
            self._trajectory.append(source.atoms, moment, source.results)

    def flush(self) -> None:
        """Write buffered output to the files, for readers during the run."""
        for file in (self._statistics, self._pressure):
            if file:
                file.flush()

    def sync(self) -> dict[str, int]:
        """Sync the files to disk; returns their lengths, for the checkpoint."""
        lengths = {STATISTICS: self._statistics.sync(), self._frames: self._trajectory.sync()}
        if self._pressure:
            lengths[PRESSURE] = self._pressure.sync()
        return lengths

    def close(self) -> None:
        """Close the files."""
        self._statistics.close()
        self._trajectory.close()
        if self._pressure:
            self._pressure.close()
