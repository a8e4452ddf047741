"""From folders of runs or trajectory files, as given by a user, to state points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hff_ase.dynamics.properties.folders import read_folder
from hff_ase.dynamics.properties.foreign import from_trajectories
from hff_ase.dynamics.properties.request import REQUEST
from hff_ase.dynamics.properties.state import StatePoint
from hff_ase.errors import ConfigError

ALIKE = ("model", "without", "hydrogen_mass")  # what runs that are pooled have in common
POOLED = Path("pooled")  # where results of several folders go if nothing is said
BESIDE = "-properties"  # of a trajectory: results go into a folder of its name with this behind it


@dataclass(frozen=True)
class Reading:
    """Options for reading; see `read_folder` and `from_trajectories`."""

    recipe: str | None = None
    charges: Mapping[str, float] | None = None
    skip: float = 0.0
    topology: Path | None = None
    temperature: float | None = None
    interval: float | None = None
    wrapped: bool = True
    frames: int | None = None


def read_sources(sources: Sequence[Path], given: Reading) -> tuple[list[StatePoint], Path]:
    """State points, and the folder for the results.

    The same state points of several folders are pooled.

    Raises:
        ConfigError: folders and files together, folders of different models, options of files for
            a folder, no temperature for files; see the two functions.
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
        return [state], sources[0].with_name(sources[0].stem + BESIDE)
    if len(folders) < len(sources):
        raise ConfigError(f"expected folders, or trajectory files, got {len(sources)} of both")
    for name in ("topology", "temperature", "interval", "frames"):
        if getattr(given, name) is not None:
            raise ConfigError(f"expected no {name} for the folder of a run, which knows it, got it")
    if len(folders) == 1:
        return states_of(folders[0], given), folders[0]
    return pooled([states_of(folder, given) for folder in folders]), POOLED


def pooled(folders: Sequence[Sequence[StatePoint]]) -> list[StatePoint]:
    """The state points of several folders; runs of the same one count as its replicas.

    Raises:
        ConfigError: a state point of different models or masses.
    """
    found: dict[tuple[str, float, float], StatePoint] = {}
    for states in folders:
        for state in states:
            key = (state.name, state.temperature, state.pressure)
            before = found.get(key)
            found[key] = state if before is None else _joined(before, state)
    return list(found.values())


def _joined(one: StatePoint, other: StatePoint) -> StatePoint:
    for name in ALIKE:
        if one.about.get(name) != other.about.get(name):
            raise ConfigError(
                f"expected runs of one {name} to pool as {one.name}, got {one.about.get(name)} and "
                f"{other.about.get(name)}"
            )
    first = 1 + max((stretch.replica for stretch in one.stretches), default=-1)
    more = tuple(replace(s, replica=first + s.replica) for s in other.stretches)
    notes = tuple(dict.fromkeys((*one.notes, *other.notes)))
    return replace(one, stretches=(*one.stretches, *more), notes=notes)


def states_of(folder: Path, given: Reading) -> list[StatePoint]:
    """State points of a run, or all of ``hff properties``."""
    if (folder / REQUEST).is_file():
        from hff_ase.dynamics.properties.progress import states_of_run

        return states_of_run(folder)
    options = {"recipe": given.recipe, "charges": given.charges, "skip": given.skip}
    return read_folder(folder, **options)  # type: ignore[arg-type]
