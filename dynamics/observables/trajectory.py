"""Positions over time as arrays, and checks before transport is computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.topology import Topology
from hff_ase.errors import ConfigError

__all__ = ["Trajectory", "centres", "check_transport"]

Array = NDArray[np.float64]
SAME_CELL = 1e-6  # relative change of a cell that is rounding
SAME_STEP = 1e-3  # relative change of the time between frames that is rounding
HALF = 0.5  # of a cell: farther between two frames only by an image


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Frames of atoms, or of centres of molecules.

    Attributes:
        positions: [n_frames, n_atoms, 3], Angstrom; whole molecules.
        cells: [n_frames, 3, 3], rows, Angstrom.
        times: [n_frames], ps.
        topology: of the atoms.
        unwrapped: whether positions are unwrapped across the boundary, so that displacements are
            differences.
    """

    positions: Array
    cells: Array
    times: Array
    topology: Topology
    unwrapped: bool = True

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together or hold what is not a number."""
        n_frames, n_atoms = len(self.times), self.topology.n_atoms
        if self.positions.shape != (n_frames, n_atoms, 3):
            raise ConfigError(
                f"expected positions [{n_frames}, {n_atoms}, 3], got {self.positions.shape}: has "
                "the number of atoms changed?"
            )
        if self.cells.shape != (n_frames, 3, 3):
            raise ConfigError(f"expected cells [{n_frames}, 3, 3], got {self.cells.shape}")
        if not np.isfinite(self.positions).all():
            frame = int(np.flatnonzero(~np.isfinite(self.positions).all(axis=(1, 2)))[0])
            raise ConfigError(f"expected finite positions, got others in frame {frame}")

    def __len__(self) -> int:
        return len(self.times)

    @property
    def volumes(self) -> Array:
        """[n_frames], Angstrom^3."""
        return np.abs(np.linalg.det(self.cells))

    def frames(self, which: slice) -> Trajectory:
        """Some of the frames."""
        return replace(
            self, positions=self.positions[which], cells=self.cells[which], times=self.times[which]
        )


def centres(trajectory: Trajectory) -> Trajectory:
    """Centres of mass of the molecules, each a site [n_frames, n_molecules, 3]."""
    topology = trajectory.topology
    order = np.argsort(topology.molecule, kind="stable")
    starts = np.searchsorted(topology.molecule[order], np.arange(topology.n_molecules))
    weighted = (trajectory.positions * topology.masses[:, None])[:, order]
    summed = np.add.reduceat(weighted, starts, axis=1)
    positions = summed / topology.molecule_masses[:, None]
    return replace(trajectory, positions=positions, topology=topology.of_centres())


def join(parts: Iterable[Trajectory]) -> Trajectory:
    """Consecutive parts of one trajectory, such as chunks of `stream`, as one.

    Raises:
        ConfigError: no parts, or a frame that does not come later than the one before.
    """
    found = list(parts)
    if not found:
        raise ConfigError("expected a trajectory with frames, got none")
    times = np.concatenate([part.times for part in found])
    if (np.diff(times) <= 0).any():
        row = int(np.argmax(np.diff(times) <= 0)) + 1
        raise ConfigError(f"expected times that rise, got {times[row]:g} ps at frame {row}")
    return replace(
        found[0],
        positions=np.concatenate([part.positions for part in found]),
        cells=np.concatenate([part.cells for part in found]),
        times=times,
        unwrapped=all(part.unwrapped for part in found),
    )


def centres_of(parts: Iterable[Trajectory]) -> Trajectory:
    """Centres of molecules of a streamed trajectory: what transport needs, and small."""
    return join(centres(part) for part in parts)


def chunks(trajectory: Trajectory, size: int = 100) -> Iterator[Trajectory]:
    """A trajectory in parts of ``size`` frames, as `stream` gives them."""
    for start in range(0, len(trajectory), size):
        yield trajectory.frames(slice(start, start + size))


def check_transport(trajectory: Trajectory) -> float:
    """Refuse a trajectory unfit for displacements; gives the time between frames in ps.

    Raises:
        ConfigError: fewer than four frames, unequal times, a cell that changes (a barostat), or
            wrapped positions.
    """
    if len(trajectory) < 4:
        raise ConfigError(f"expected at least 4 frames for transport, got {len(trajectory)}")
    steps = np.diff(trajectory.times)
    interval = float(np.median(steps))
    uneven = np.abs(steps - interval) > SAME_STEP * interval
    if interval <= 0 or uneven.any():
        row = int(np.argmax(uneven))
        raise ConfigError(
            f"expected frames at equal times, got {steps[row]:g} ps after frame {row} and "
            f"{interval:g} ps elsewhere: are frames missing?"
        )
    cells = trajectory.cells
    change = np.abs(cells - cells[0]).max() / np.abs(cells[0]).max()
    if change > SAME_CELL:
        raise ConfigError(
            f"expected a constant cell for transport, got one that changes by {100 * change:.2g} %:"
            " a barostat moves the molecules; run it at constant volume (nvt, nve)"
        )
    if not trajectory.unwrapped:
        raise ConfigError(
            "expected positions that go on across the boundary for transport, got wrapped ones: "
            "unwrap them (`unwrap`)"
        )
    check_continuous(trajectory)
    return interval


def check_continuous(trajectory: Trajectory) -> None:
    """Refuse positions that jump by more than half a cell between frames.

    Raises:
        ConfigError: they do, with the frame and the atom.
    """
    inverse = np.linalg.inv(trajectory.cells)
    for frame in range(1, len(trajectory)):
        step = trajectory.positions[frame] - trajectory.positions[frame - 1]
        far = np.abs(step @ inverse[frame]).max(axis=1)
        if far.max() > HALF:
            raise ConfigError(
                f"expected unwrapped positions, got a jump of {far.max():.2f} cells of site "
                f"{int(far.argmax())} at frame {frame}: wrapped without images?"
            )
