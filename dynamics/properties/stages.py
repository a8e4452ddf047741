"""The stages of a state point: packed, equilibrated, at constant pressure, at constant volume.

Each has its own folder and is an ordinary run of this package, which a kill at any
moment leaves where it can be resumed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase.io import read, write
from rich.console import Console

from hff_ase.dynamics.equilibration import EquilibrationConfig, EquilibrationRun, UnsettledError
from hff_ase.dynamics.equilibration.equilibration_run import real_masses
from hff_ase.dynamics.observables.topology import topology_of
from hff_ase.dynamics.properties.request import Point, Request
from hff_ase.dynamics.replicas import ReplicaConfig, ReplicaRun
from hff_ase.dynamics.replicas.reporter import replica_folder
from hff_ase.dynamics.reporters.growing_file import write_atomically
from hff_ase.dynamics.reporters.run_folder import FINAL, STATISTICS, RunFolder
from hff_ase.dynamics.reporters.statistics import read_statistics
from hff_ase.errors import SimulationError
from hff_ase.units import GRAM_PER_CM3

BOXES, EQUILIBRATE, NPT, NVT = "boxes.extxyz", "equilibrate", "npt", "nvt"
TENSOR_EVERY = 5.0  # fs
MOST_FRAMES, LEAST_SPACING = 4000, 0.1  # of each box; ps
HALF = 0.5  # of constant pressure: the densities that constant volume is run at
Builder = Callable[[str, int, int], Atoms]


def build(recipe: str, n_atoms: int, seed: int) -> Atoms:
    """A packed box; see `build_box`."""
    from hff_ase.dynamics.build import build_box

    return build_box(recipe, n_atoms, seed=seed)


def packed(folder: Path, point: Point, request: Request, builder: Builder) -> list[Atoms]:
    """A box for each replica, packed once and read afterwards."""
    place = folder / BOXES
    if not place.is_file():
        seeds = range(request.seed, request.seed + request.replicas)
        boxes = [builder(point.recipe, request.atoms, seed) for seed in seeds]
        text = io.StringIO()
        write(text, boxes, format="extxyz")
        write_atomically(place, text.getvalue().encode())
    found = read(place, index=":")
    return cast(list[Atoms], found)


def equilibrated(
    folder: Path,
    boxes: Sequence[Atoms],
    point: Point,
    request: Request,
    calc: Any,
    console: Console | None,
) -> str:
    """Run or continue the equilibration; returns ``settled``, or why the boxes have not settled."""
    place = folder / EQUILIBRATE
    if RunFolder(place).has_run:
        run = EquilibrationRun.resume(place, calc, settings=_longest(request), console=console)
    else:
        settings = {
            **shared_settings(request),
            "pressure": request.pressure,
            **request.equilibration,
        }
        settings |= {"temperature": point.temperature, "output": str(place)}
        config = EquilibrationConfig.load(settings)
        run = EquilibrationRun.start(config, boxes, calc, console=console)
    try:
        run.run()
    except UnsettledError as error:
        return f"{error.why}; a new run with --max-settling {error.longer} gives it that time"
    return "settled"


def at_constant_pressure(
    folder: Path,
    point: Point,
    request: Request,
    calc: Any,
    console: Console | None,
    max_hours: float | None,
) -> None:
    """Run or continue production at constant pressure, from the equilibrated boxes."""
    place, before = folder / NPT, folder / EQUILIBRATE
    given = {"model": request.model, **request.equilibration}
    defaults = EquilibrationConfig.load(given).replicas.shared
    settings = {
        **_production(place, point, request),
        "pressure": request.pressure,
        "stages": [f"npt:{request.npt}"],
        "timestep": defaults.timestep,
        "hydrogen_mass": defaults.hydrogen_mass,
        "trajectory_interval": _steps(1.0, defaults.timestep),
        **request.production,
    }
    boxes = last_frames(before, request.replicas)
    carry_on(place, settings, [real_masses(box) for box in boxes], calc, console, max_hours)


def at_constant_volume(
    folder: Path,
    point: Point,
    request: Request,
    calc: Any,
    console: Console | None,
    max_hours: float | None,
) -> None:
    """Run or continue production at constant volume, at the mean density and with real masses."""
    place, before = folder / NVT, folder / NPT
    settings = {
        **_production(place, point, request),
        "stages": [f"nvt:{request.settle}", f"nvt-nhc:{request.nvt}"],
        "timestep": request.timestep,
        "tdamp": 1000.0,
        "pressure_interval": _steps(TENSOR_EVERY * 1e-3, request.timestep),
        "trajectory_interval": _steps(frame_spacing(request), request.timestep),
        **request.production,
    }
    boxes: list[Atoms] = []
    if not RunFolder(place).has_run:
        density = mean_density(before, request.replicas)
        boxes = [
            at_density(real_masses(box), density) for box in last_frames(before, request.replicas)
        ]
    carry_on(place, settings, boxes, calc, console, max_hours)


def frame_spacing(request: Request) -> float:
    """Time between frames at constant volume, ps."""
    from hff_ase.settings import parse_time

    return max(LEAST_SPACING, 1e-3 * parse_time(request.nvt) / MOST_FRAMES)


def mean_density(folder: Path, n_replicas: int) -> float:
    """Mean density of the second half of a run of replicas, g/cm^3.

    Raises:
        SimulationError: no rows.
    """
    kept = []
    for number in range(n_replicas):
        place = replica_folder(RunFolder(folder), number)[STATISTICS]
        if place.is_file():
            rows = read_statistics(place)["density[g/cm^3]"]
            kept.append(rows[int(HALF * len(rows)) :])
    if not kept or not len(np.concatenate(kept)):
        raise SimulationError(f"expected densities in {folder}, got none")
    return float(np.concatenate(kept).mean())


def at_density(atoms: Atoms, density: float) -> Atoms:
    """A copy at another density, g/cm^3: centres of molecules are scaled, molecules stay rigid."""
    topology = topology_of(atoms)
    copy = atoms.copy()
    volume = float(copy.get_masses().sum()) / density / GRAM_PER_CM3
    scale = (volume / copy.get_volume()) ** (1 / 3)
    masses = copy.get_masses()[:, None]
    weighted = masses * copy.positions
    total = np.bincount(topology.molecule, masses[:, 0])
    summed = [np.bincount(topology.molecule, column) for column in weighted.T]
    centres = np.stack(summed, axis=1) / total[:, None]
    copy.positions += (scale - 1.0) * centres[topology.molecule]
    copy.set_cell(copy.cell * scale, scale_atoms=False)
    return copy


def last_frames(folder: Path, n_replicas: int) -> list[Atoms]:
    """The final boxes of a run, of the replicas that finished.

    Raises:
        SimulationError: none did.
    """
    files = [replica_folder(RunFolder(folder), number)[FINAL] for number in range(n_replicas)]
    found = [cast(Atoms, read(file)) for file in files if file.is_file()]
    if not found:
        raise SimulationError(f"expected boxes at the end of {folder}, got none")
    return found


def carry_on(
    place: Path,
    settings: Mapping[str, Any],
    boxes: Sequence[Atoms],
    calc: Any,
    console: Console | None,
    max_hours: float | None,
) -> None:
    """Start or resume a run of replicas and run it to the end."""
    if RunFolder(place).has_run:
        changed = {"stages": settings["stages"], "max_hours": max_hours}
        changed["progress"] = settings.get("progress", True)
        run = ReplicaRun.resume(place, calc, settings=changed, console=console)
    else:
        asked = {**settings, "replicas": len(boxes), "max_hours": max_hours}
        config = ReplicaConfig.load(asked)
        run = ReplicaRun.start(config, boxes, calc, console=console)
    run.run()


def _production(place: Path, point: Point, request: Request) -> dict[str, Any]:
    """Settings shared by production at constant pressure and at constant volume."""
    return {
        **shared_settings(request),
        "output": str(place),
        "temperature": point.temperature,
        "velocities": "file",
        "minimize": False,
        "plot": False,
        "statistics_interval": 20,
        "trajectory_format": _format(request),
    }


def _format(request: Request) -> str:
    """xtc where its libraries are installed and frames need no charges, else ASE's format."""
    can = find_spec("chemfiles") is not None and find_spec("MDAnalysis") is not None
    return "xtc" if can and not request.needs_charges else "traj"


def shared_settings(request: Request) -> dict[str, Any]:
    """Settings shared by all runs."""
    names = ("model", "dtype", "device", "without", "outside_domain", "seed", "progress")
    return {name: getattr(request, name) for name in names}


def _longest(request: Request) -> dict[str, Any]:
    """The settings that may change when an equilibration is resumed."""
    known = {"progress": request.progress, **request.equilibration}
    return {name: known[name] for name in ("max_time", "progress") if name in known}


def _steps(picoseconds: float, timestep: float) -> int:
    """A time in whole steps, at least one."""
    return max(round(1000.0 * picoseconds / timestep), 1)
