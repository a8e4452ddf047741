"""Trajectory files behind one interface: extended xyz, ASE's .traj, and XTC for MDAnalysis.

A frame holds positions as integrated (never wrapped, so that displacements across the boundary
are plain differences) and molecule ids, which transport coefficients need. A writer only appends;
what `sync` returns goes into a checkpoint, and a writer opened at that length continues from there.

===========  =====================================  ==============================================
format       a frame holds                          molecule ids
===========  =====================================  ==============================================
``.extxyz``  everything, as text                    array ``molecule``
``.traj``    positions, momenta, cell, charges ...  tags
``.xtc``     positions to 0.0005 Angstrom, cell,    residue ids of a topology (.pdb) next to it,
             step and time; 5 to 6 bytes per atom  counted from 1
===========  =====================================  ==============================================

XTC is written by chemfiles (extra ``xtc``), which sets the precision and is under a permissive
licence. XTC frames stand one after the other without a table, so a file cut after a whole frame is
a whole file, as a restart needs; an HDF5 file (H5MD) that a killed process leaves open may be lost
as a whole.
"""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import TrajectoryReader, TrajectoryWriter

from hff_ase.dynamics.reporters.growing_file import GrowingFile, WriteError
from hff_ase.dynamics.reporters.pdb import pdb_text
from hff_ase.dynamics.reporters.statistics import FRAME_RESULTS, Moment, frame
from hff_ase.errors import ConfigError, SimulationError, StructureError

XTC_PRECISION = 10000.0  # steps per nm: 0.001 Angstrom, half of that as the error of a position
ULM_COUNT = 32  # byte of a .traj file at which its number of frames stands (int64)


class TrajectoryFile(ABC):
    """Frames appended to a file that can be cut back to its length at a checkpoint.

    Args:
        path: the file; what follows ``length`` in it is cut off, so 0 starts from the beginning.
        length: what `sync` returned: bytes, or frames for .traj.
        with_forces: keep forces too, where the format has room for them.

    Raises:
        SimulationError: the file is shorter than ``length``.
        WriteError: it cannot be written.
    """

    def __init__(self, path: str | Path, length: int = 0, with_forces: bool = False) -> None:
        self.path, self.with_forces = Path(path), with_forces
        self._open(length)

    @abstractmethod
    def _open(self, length: int) -> None: ...

    @abstractmethod
    def append(self, atoms: Atoms, moment: Moment, results: Mapping[str, Any]) -> None:
        """Add a frame: ``atoms`` at ``moment`` with a calculator's results, ASE units.

        Raises:
            WriteError: it cannot be written.
        """

    @abstractmethod
    def sync(self) -> int:
        """Sync to disk; returns the length at which to reopen the file."""

    @abstractmethod
    def close(self) -> None:
        """Close the file, which was synced before."""


class ExtxyzTrajectory(TrajectoryFile):
    """Extended xyz: readable anywhere, about 130 bytes per atom."""

    def _open(self, length: int) -> None:
        self._file = GrowingFile(self.path, length)

    def append(self, atoms: Atoms, moment: Moment, results: Mapping[str, Any]) -> None:
        """Add a frame; see `TrajectoryFile.append`."""
        self._file.write(frame(atoms, moment, results, self.with_forces))
        self._file.flush()

    def sync(self) -> int:
        """Length in bytes."""
        return self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class AseTrajectory(TrajectoryFile):
    """ASE's .traj: exact floats, about 65 bytes per atom with momenta and charges."""

    def _open(self, length: int) -> None:
        if length == 0:
            GrowingFile(self.path, 0).close()
        else:
            _forget_frames(self.path, length)
        self._n_frames = length
        try:
            self._writer = TrajectoryWriter(str(self.path), "a")
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {error.strerror}") from error

    def append(self, atoms: Atoms, moment: Moment, results: Mapping[str, Any]) -> None:
        """Add a frame; molecule ids become tags, which this format keeps."""
        copy = atoms.copy()
        copy.set_constraint()
        if "molecule" in copy.arrays:
            copy.set_tags(copy.arrays["molecule"])
        copy.info.update(step=moment.step, time_ps=moment.time)
        names = (*FRAME_RESULTS, "forces") if self.with_forces else FRAME_RESULTS
        kept = {name: results[name] for name in names if name in results}
        copy.calc = SinglePointCalculator(copy, **kept)
        try:
            self._writer.write(copy)
            self._writer.backend.fd.flush()
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {error.strerror}") from error
        self._n_frames += 1

    def sync(self) -> int:
        """Number of frames."""
        file = self._writer.backend.fd
        try:
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {error.strerror}") from error
        return self._n_frames

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class XtcTrajectory(TrajectoryFile):
    """XTC with its topology next to it: ``MDAnalysis.Universe("x.pdb", "x.xtc")`` reads them.

    Raises:
        ConfigError: chemfiles is not installed.
    """

    def _open(self, length: int) -> None:
        check_library(str(self.path))
        self._chemfiles = import_module("chemfiles")
        self._file, self._begun = GrowingFile(self.path, length), length > 0
        # The library hands over pieces of 16 kB and the rest on closing. A frame stands alone in
        # this format: it is written next to the file and appended whole.
        self._beside = tempfile.TemporaryDirectory(prefix="hff_ase-xtc-")

    def append(self, atoms: Atoms, moment: Moment, results: Mapping[str, Any]) -> None:
        """Add a frame; the first one writes the topology too.

        Raises:
            StructureError: the cell is not lower triangular, which the format takes for granted.
        """
        lib = self._chemfiles
        entry = lib.Frame()
        entry.resize(len(atoms))
        entry.positions[:] = atoms.positions
        if atoms.cell.rank == 3:
            check_triangular(atoms, self.path.name)
            entry.cell = lib.UnitCell(np.array(atoms.cell).T)
        entry.step = moment.step
        entry["time"], entry["xtc_precision"] = moment.time, XTC_PRECISION
        alone = Path(self._beside.name) / "frame.xtc"
        try:
            if not self._begun:
                write_topology(self.path.with_suffix(".pdb"), atoms)
                self._begun = True
            file = lib.Trajectory(str(alone), "w", "XTC")
            file.write(entry)
            file.close()
            self._file.write(alone.read_bytes())
        except (OSError, lib.ChemfilesError) as error:
            raise WriteError(f"cannot write {self.path}: {error}") from error
        self._file.flush()

    def sync(self) -> int:
        """Length in bytes."""
        return self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._beside.cleanup()


FORMATS: dict[str, type[TrajectoryFile]] = {
    ".extxyz": ExtxyzTrajectory,
    ".traj": AseTrajectory,
    ".xtc": XtcTrajectory,
}


def open_trajectory(path: str | Path, length: int = 0, with_forces: bool = False) -> TrajectoryFile:
    """Open a trajectory file in the format given by the suffix of ``path``.

    Raises:
        ConfigError: another ending, or a library that is missing.
        SimulationError: the file is shorter than ``length``.
        WriteError: it cannot be written.
    """
    suffix = Path(path).suffix
    if suffix not in FORMATS:
        raise ConfigError(f"expected a trajectory {', '.join(FORMATS)}, got {str(path)!r}")
    return FORMATS[suffix](path, length, with_forces)


def check_format(suffix: str, atoms: Atoms) -> None:
    """Refuse a structure, before a run, whose frames the format (such as ``xtc``) cannot hold.

    Raises:
        ConfigError: a library is missing.
        StructureError: the cell is not lower triangular.
    """
    if suffix == "xtc":
        check_library(suffix)
        if atoms.cell.rank == 3:
            check_triangular(atoms, suffix)


def check_library(name: str) -> None:
    """Refuse to write XTC to the file ``name`` without the library for it.

    Raises:
        ConfigError: it is missing.
    """
    if find_spec("chemfiles") is None:
        raise ConfigError(f"expected chemfiles for {name}, got none: pip install 'hff-ase[xtc]'")


def check_triangular(atoms: Atoms, name: str) -> None:
    """Refuse a cell that XTC would rotate.

    Raises:
        StructureError: the rows of the cell are not lower triangular with a positive diagonal.
    """
    cell = np.array(atoms.cell)
    if np.abs(np.triu(cell, 1)).max() > 1e-6 or (np.diag(cell) <= 0).any():
        raise StructureError(
            f"expected a cell of lower triangular rows for {name}, got "
            f"{cell.round(4).tolist()}; see ase.cell.Cell.standard_form"
        )


def write_topology(path: str | Path, atoms: Atoms) -> None:
    """Molecules, bonds and charges as a PDB file (`hff_ase.dynamics.reporters.pdb`).

    Raises:
        WriteError: it cannot be written.
    """
    try:
        Path(path).write_text(pdb_text(atoms), encoding="ascii")
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror}") from error


def _forget_frames(path: Path, n_frames: int) -> None:
    """Let a .traj file end after ``n_frames``; later ones become gaps between its items."""
    found = 0
    if path.exists() and path.stat().st_size > 0:
        with TrajectoryReader(str(path)) as reader:
            found = len(reader)
    if found < n_frames:
        raise SimulationError(
            f"expected at least {n_frames} frames in {path} as at the checkpoint, got {found}"
        )
    try:
        with open(path, "r+b") as file:
            file.seek(ULM_COUNT)
            file.write(np.array(n_frames, dtype="<i8").tobytes())
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror}") from error
