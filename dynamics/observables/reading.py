"""Trajectory files in chunks: our own through ASE, others through MDAnalysis.

A chunk holds a few hundred frames, so that a long trajectory of thousands of atoms needs no more
memory than that. Whatever is wrong with a file is said with its frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import iread
from numpy.typing import NDArray

from hff_ase.dynamics.observables.topology import Topology, topology_of
from hff_ase.dynamics.observables.trajectory import Trajectory
from hff_ase.dynamics.observables.universe import open_universe, topology_of_universe
from hff_ase.dynamics.observables.unwrapping import Unwrapper
from hff_ase.dynamics.observables.xtc import check_xtc
from hff_ase.errors import ConfigError, SimulationError

__all__ = ["stream"]

Array = NDArray[np.float64]
Frame = tuple[Array, Array, float]  # positions, cell, time
CHUNK = 200
ASE_SUFFIXES = (".extxyz", ".traj", ".xyz")
Progress = Callable[[int], None]


def stream(
    path: str | Path,
    topology: str | Path | Topology | None = None,
    *,
    charges: Mapping[str, float] | None = None,
    wrapped: bool = True,
    interval: float | None = None,
    every: int = 1,
    stop: int | None = None,
    chunk: int = CHUNK,
    progress: Progress | None = None,
) -> Iterator[Trajectory]:
    """A trajectory file in chunks of whole, unwrapped molecules.

    Args:
        path: .extxyz, .traj or .xyz are read by ASE, anything else by MDAnalysis.
        topology: for MDAnalysis the file with elements and residues (.pdb, .tpr, .psf, .data ...);
            or a `Topology` (for MDAnalysis beside a .pdb of the file's name). None: from the first
            frame, or that .pdb.
        charges: formal charges by species where they cannot be looked up, e.
        wrapped: whether positions may be folded into the cell: each step then takes the nearest
            image, which changes nothing where they are not. False: used unchanged.
        interval: time between frames of the file, ps; None: as the file says.
        every: every n-th frame is given; all are read, to follow the images.
        stop: at most this many frames of the file.
        chunk: frames at a time.
        progress: called with the number of frames that each chunk read.

    Raises:
        ConfigError: no such file, a library that is missing, a changed number of atoms, no times,
            frames too far apart to unwrap.
        SimulationError: a damaged or truncated file, with the number of frames that were read.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"expected a trajectory, got no file {path}")
    if path.suffix in ASE_SUFFIXES:
        system, frames = _from_ase(path, topology, charges, interval)
    else:
        system, frames = _from_mdanalysis(path, topology, charges, interval, stop)
    unwrapper, count = Unwrapper(system) if wrapped else None, 0
    for batch in _batches(islice(_guarded(frames, path, system.n_atoms), stop), chunk):
        positions = np.stack([frame[0] for frame in batch])
        cells = np.stack([frame[1] for frame in batch])
        if unwrapper is not None:
            positions = unwrapper.add(positions, cells)
        times = np.array([frame[2] for frame in batch])
        kept = slice(-count % every, None, every)
        if len(times[kept]) > 0:
            yield Trajectory(positions[kept], cells[kept], times[kept], system)
        count += len(batch)
        if progress is not None:
            progress(len(batch))


def count_frames(path: Path, stop: int | None = None) -> int | None:
    """How many frames `stream` would read; None where only reading them would tell.

    Args:
        path: the file, which is there.
        stop: so many frames at most.

    Raises:
        SimulationError: a damaged or truncated .xtc.
    """
    if path.suffix == ".xtc":
        return check_xtc(path, stop)
    if path.suffix != ".traj":
        return None
    from ase.io.ulm import InvalidULMFileError
    from ase.io.ulm import open as open_ulm

    try:
        count = len(open_ulm(path))
    except (InvalidULMFileError, OSError):  # what is wrong with it is said when it is read
        return None
    return count if stop is None else min(count, stop)


def _batches(frames: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    """Frames in lists of ``size``; the last may be shorter."""
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _guarded(frames: Iterator[Frame], path: Path, n_atoms: int) -> Iterator[Frame]:
    """Frames with what can be wrong with them said by number."""
    count = 0
    while True:
        try:
            frame = next(frames)
        except StopIteration:
            break
        except (ConfigError, SimulationError):
            raise
        except Exception as problem:  # every reader has its own exceptions for damaged files
            reason = str(problem).split("\n")[0] or type(problem).__name__
            raise SimulationError(
                f"expected a whole trajectory in {path.name}, got one that is truncated or damaged "
                f"after {count} frames: {reason}"
            ) from problem
        if len(frame[0]) != n_atoms:
            raise ConfigError(
                f"expected {n_atoms} atoms in every frame of {path.name}, got {len(frame[0])} in "
                f"frame {count}"
            )
        if not np.isfinite(frame[0]).all() or abs(np.linalg.det(frame[1])) < 1e-6:
            raise SimulationError(
                f"expected finite positions in a periodic cell, got others in frame {count} of "
                f"{path.name}"
            )
        yield frame
        count += 1
    if count == 0:
        raise SimulationError(f"expected frames in {path.name}, got none: empty or damaged")


def _from_ase(
    path: Path,
    topology: str | Path | Topology | None,
    charges: Mapping[str, float] | None,
    interval: float | None,
) -> tuple[Topology, Iterator[Frame]]:
    """Topology and frames of a file that ASE reads."""
    if topology is not None and not isinstance(topology, Topology):
        raise ConfigError(f"expected no topology file beside {path.name}, got {topology}")
    source = iread(path, index=":")
    try:
        first = next(source)
    except Exception as problem:  # as above
        raise SimulationError(
            f"expected frames in {path.name}, got none: empty or damaged"
        ) from problem
    system = topology_of(first, charges) if topology is None else topology

    def frames() -> Iterator[Frame]:
        for index, atoms in enumerate(chain([first], source)):
            yield atoms.positions, np.array(atoms.cell), _time(atoms, index, interval, path)

    return system, frames()


def _time(atoms: Atoms, index: int, interval: float | None, path: Path) -> float:
    """Time of a frame, ps."""
    if interval is not None:
        return index * interval
    if "time_ps" not in atoms.info:
        raise ConfigError(f"expected times in {path.name}, got none: give the interval in ps")
    return float(atoms.info["time_ps"])


def _from_mdanalysis(
    path: Path,
    topology: str | Path | Topology | None,
    charges: Mapping[str, float] | None,
    interval: float | None,
    stop: int | None,
) -> tuple[Topology, Iterator[Frame]]:
    """Topology and frames of a file that MDAnalysis reads."""
    if find_spec("MDAnalysis") is None:
        raise ConfigError(
            f"expected MDAnalysis for {path.name}, got none: pip install 'hff-ase[analysis]'"
        )
    known = topology if isinstance(topology, Topology) else None
    if topology is None or isinstance(topology, Topology):
        topology = path.with_suffix(".pdb")
    if not Path(topology).is_file():
        raise ConfigError(f"expected the topology of {path.name}, got no file {topology}")
    if path.suffix == ".xtc":
        check_xtc(path, stop)
    library: Any = import_module("MDAnalysis")
    try:
        universe = open_universe(topology, path)
    except Exception as problem:  # as above
        reason = str(problem).split("\n")[0]
        raise SimulationError(f"cannot read {path.name} with {topology}: {reason}") from problem

    def frames() -> Iterator[Frame]:
        for index, step in enumerate(universe.trajectory):
            if step.dimensions is None:
                raise ConfigError(f"expected a periodic cell, got none in frame {index}")
            cell = library.lib.mdamath.triclinic_vectors(step.dimensions)
            time = float(step.time) if interval is None else index * interval
            yield step.positions.astype(float), np.asarray(cell, dtype=float), time

    return topology_of_universe(universe, charges) if known is None else known, frames()
