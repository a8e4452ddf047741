"""A state point from trajectory files of any program that MDAnalysis or ASE reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from hff_ase.dynamics.observables.reading import stream
from hff_ase.dynamics.observables.trajectory import SAME_CELL
from hff_ase.dynamics.properties.state import PRESSURE, VOLUME, StatePoint, Stretch, name_of
from hff_ase.errors import ConfigError

__all__ = ["from_trajectories"]

LOOKED_AT = 20  # frames, to tell whether the cell moves


def from_trajectories(
    paths: Sequence[str | Path],
    topology: str | Path | None = None,
    *,
    temperature: float,
    recipe: str | None = None,
    charges: Mapping[str, float] | None = None,
    interval: float | None = None,
    wrapped: bool = True,
    skip: float = 0.0,
    frames: int | None = None,
) -> StatePoint:
    """Trajectories of one liquid, each a replica.

    Args:
        paths: files; .extxyz, .traj and .xyz are read by ASE, others by MDAnalysis.
        topology: file with elements and molecules, for MDAnalysis.
        temperature: K.
        recipe: what the liquid is, for measured values.
        charges: formal charges by species where they cannot be looked up, e.
        interval: between frames, ps; None: as the files say.
        wrapped: whether positions may be folded into the cell.
        skip: left out at the beginning, ps.
        frames: at most this many are read from each file.

    Raises:
        ConfigError: no files, different liquids; see `stream`.
        SimulationError: a damaged or truncated file.
    """
    if not paths:
        raise ConfigError("expected trajectories, got none")
    stretches, found = [], None
    for number, file in enumerate(map(Path, paths)):
        options = {"charges": charges, "interval": interval, "wrapped": False}
        least = LOOKED_AT if frames is None else min(LOOKED_AT, frames)
        first = next(iter(islice(stream(file, topology, stop=frames, chunk=least, **options), 1)))  # type: ignore[arg-type]
        own = first.topology
        if found is not None and not np.array_equal(own.symbols, found.symbols):
            raise ConfigError(f"expected trajectories of one liquid, got another in {file.name}")
        found = own
        change = np.abs(first.cells - first.cells[0]).max() / np.abs(first.cells[0]).max()
        held = PRESSURE if change > SAME_CELL else VOLUME
        place = Path(topology) if topology is not None else None
        stretches.append(
            Stretch(
                number, held, file, place, (), None, None, skip, interval, wrapped, charges, frames
            )
        )
    if found is None:
        raise ConfigError("expected frames, got none")
    liquid = recipe or ", ".join(f"{len(found.of_kind(kind))} {kind}" for kind in found.kinds)
    about = {"trajectories": [str(path) for path in paths]}
    name = name_of(liquid, temperature)
    return StatePoint(name, temperature, tuple(stretches), recipe, 1.0, about)
