"""Frames of a path-integral run, and a classical run for comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import iread, read

from hff_ase.dynamics.pimd.force_fields import START
from hff_ase.dynamics.pimd.input_xml import BEAD, PREFIX, PROPERTIES
from hff_ase.dynamics.pimd.rdf import Array
from hff_ase.dynamics.pimd.results import read_properties
from hff_ase.dynamics.pimd.trajectories import iter_frames
from hff_ase.dynamics.reporters.run_folder import STATISTICS, trajectory_name
from hff_ase.dynamics.reporters.statistics import average, read_statistics
from hff_ase.errors import SimulationError

TRAJECTORIES = tuple(trajectory_name(suffix) for suffix in ("extxyz", "traj"))  # ASE reads them
MOST_FRAMES = 400  # of one bead; more change a radial distribution function little


@dataclass(frozen=True)
class Classical:
    """A classical run to compare with.

    Attributes:
        folder: where it is.
        frames: of its second half.
        time: [n_rows], ps; density: [n_rows], g/cm^3; None without a cell.
    """

    folder: str
    frames: list[Atoms]
    time: Array
    density: Array | None

    def summary(self) -> dict[str, Any]:
        """The density over its second half, from summary.yaml."""
        found: dict[str, Any] = {"folder": self.folder, "frames": len(self.frames)}
        if self.density is not None:
            found["density{g/cm3}"] = average(self.density[len(self.density) // 2 :])
        return found


def read_classical(folder: str | Path) -> Classical:
    """A run of `hff md`, or a path integral run with one bead.

    Raises:
        SimulationError: the folder holds neither, or a trajectory that cannot be read here.
    """
    path = Path(folder)
    if (path / PROPERTIES).exists():
        columns = read_properties(path / PROPERTIES)
        start = read(path / START)
        assert isinstance(start, Atoms)
        frames = read_beads(path, start)
        if len(list(path.glob(f"{PREFIX}.{BEAD}_*.xyz"))) > 1:
            raise SimulationError(f"expected a classical run (one bead), got several in {path}")
        time, density = columns["time{picosecond}"], columns.get("density{g/cm3}")
        return Classical(str(path), frames, time, density)
    if not (path / STATISTICS).exists():
        raise SimulationError(f"expected the folder of a run of hff md or hff pimd, got {path}")
    rows = read_statistics(path / STATISTICS)
    found = [path / name for name in TRAJECTORIES if (path / name).exists()]
    if not found:
        names = " or ".join(TRAJECTORIES)
        raise SimulationError(f"expected {names} of a classical run in {path}, got none")
    every = list(iread(found[0]))
    return Classical(str(path), second_half(every), rows["time[ps]"], rows.get("density[g/cm^3]"))


def second_half(frames: list[Atoms]) -> list[Atoms]:
    """Frames from the middle on, thinned out where there are many."""
    late = frames[len(frames) // 2 :]
    return late[:: max(1, -(-len(late) // MOST_FRAMES))]


def read_beads(folder: Path, start: Atoms) -> list[Atoms]:
    """The second half of the frames of every bead in a trajectory, in Angstrom.

    Args:
        folder: of the run.
        start: elements in i-PI's order, and periods.
    """
    frames: list[Atoms] = []
    for path in sorted(folder.glob(f"{PREFIX}.{BEAD}_*.xyz")):
        frames += second_half(list(iter_frames(path, start)))
    return frames
