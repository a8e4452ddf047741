"""Folders of runs or trajectory files, as a user names them, to state points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hff_ase.dynamics.properties.folders import read_folder
from hff_ase.dynamics.properties.foreign import from_trajectories
from hff_ase.dynamics.properties.request import REQUEST
from hff_ase.dynamics.properties.state import StatePoint
from hff_ase.errors import ConfigError


@dataclass(frozen=True)
class Reading:
    """How to read; see `read_folder` and `from_trajectories`."""

    recipe: str | None = None
    charges: Mapping[str, float] | None = None
    skip: float = 0.0
    topology: Path | None = None
    temperature: float | None = None
    interval: float | None = None
    wrapped: bool = True
    frames: int | None = None


def read_sources(sources: Sequence[Path], given: Reading) -> tuple[list[StatePoint], Path]:
    """State points, and the folder where results belong.

    Raises:
        ConfigError: folders and files together, options of files for a folder, no temperature for
            files; see the two functions.
        SimulationError: see the two functions.
    """
    missing = [path for path in sources if not path.exists()]
    if missing:
        raise ConfigError(f"expected a folder or a trajectory, got no {missing[0]}")
    folders = [path for path in sources if path.is_dir()]
    if not folders:
        if given.temperature is None:
            raise ConfigError("expected --temperature for a trajectory, got none")
        state = from_trajectories(
            sources,
            given.topology,
            temperature=given.temperature,
            recipe=given.recipe,
            charges=given.charges,
            interval=given.interval,
            wrapped=given.wrapped,
            skip=given.skip,
            frames=given.frames,
        )
        return [state], sources[0].parent
    if len(sources) > 1:
        raise ConfigError(f"expected one folder, or trajectory files, got {len(sources)} of both")
    for name in ("topology", "temperature", "interval", "frames"):
        if getattr(given, name) is not None:
            raise ConfigError(f"expected no {name} for the folder of a run, which knows it, got it")
    return states_of(folders[0], given), folders[0]


def states_of(folder: Path, given: Reading) -> list[StatePoint]:
    """State points of a run, or all of ``hff properties``."""
    if (folder / REQUEST).is_file():
        from hff_ase.dynamics.properties.property_run import states_of_run

        return states_of_run(folder)
    options = {"recipe": given.recipe, "charges": given.charges, "skip": given.skip}
    return read_folder(folder, **options)  # type: ignore[arg-type]
