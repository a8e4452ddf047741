"""Ensembles from the folders of runs: frames after density and energy have settled."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.io import iread, read
from numpy.typing import NDArray

from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.equilibration import EquilibrationConfig
from hff_ase.dynamics.equilibration.protocol import KEY
from hff_ase.dynamics.observables.equilibration import detect_equilibration
from hff_ase.dynamics.replicas import ReplicaConfig
from hff_ase.dynamics.replicas.composition import label
from hff_ase.dynamics.replicas.config import asks_for_replicas
from hff_ase.dynamics.reporters.run_folder import CONFIG, FAILED, INPUT, STATISTICS, TRAJECTORY
from hff_ase.errors import ConfigError, HFFWarning

__all__ = ["read_ensembles"]

Array = NDArray[np.float64]
VOLUME, DENSITY, POTENTIAL, TIME = "volume[A^3]", "density[g/cm^3]", "potential[eV]", "time[ps]"


@dataclass(frozen=True, eq=False)
class RunOfOne:
    """One system of a run.

    Attributes:
        folder: with its statistics and trajectory.
        liquid: its name.
        temperature: K.
        pressure: bar; None at constant volume.
        series: columns of the statistics, from the moment on that counts at the earliest.
    """

    folder: Path
    liquid: str
    temperature: float
    pressure: float | None
    series: dict[str, Array]


def read_ensembles(
    folders: Sequence[str | Path], every: int = 1, unsettled: bool = False
) -> list[Ensemble]:
    """The ensembles of runs of ``hff md`` and ``hff equilibrate``, one for each liquid and state.

    Args:
        folders: of runs; replicas of one liquid may be in several.
        every: only every n-th frame.
        unsettled: take runs that have not settled, their second half at least, with a warning.

    Raises:
        ConfigError: no run there, one that has not settled, or too few frames.
    """
    groups: dict[tuple[Any, ...], list[RunOfOne]] = {}
    for folder in folders:
        for one in runs_in(Path(folder)):
            state = (one.liquid, one.temperature, one.pressure)
            groups.setdefault(state, []).append(one)
    return [_ensemble(runs, every, unsettled) for runs in groups.values()]


def runs_in(folder: Path) -> Iterator[RunOfOne]:
    """The systems of a run's folder; those that blew up are skipped with a warning.

    Raises:
        ConfigError: no run there.
    """
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"expected the folder of a run, got no {CONFIG} in {folder}")
    settings = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    parts = sorted(folder.glob("replica-*")) or [folder]
    for part, config in zip(parts, _configs(settings), strict=True):
        if (part / FAILED).exists():
            warnings.warn(f"left out {part}, which blew up", HFFWarning, stacklevel=3)
            continue
        if not (part / TRAJECTORY).is_file():
            raise ConfigError(f"expected {TRAJECTORY} in {part}, got another format or none")
        series = _statistics(part / STATISTICS)
        moves = np.diff(series[VOLUME]) != 0
        constant = len(moves) == 0 or not moves[-1]
        first = int(np.flatnonzero(moves == constant)[-1]) + 1 if (moves == constant).any() else 0
        yield RunOfOne(
            part,
            _name(part, folder),
            config.temperature,
            None if constant else (1.0 if config.pressure is None else config.pressure),
            {name: column[first:] for name, column in series.items()},
        )


def _configs(settings: dict[str, Any]) -> list[MDConfig]:
    """The settings of every system."""
    if KEY in settings:
        return EquilibrationConfig.load(settings).replicas.replica_configs()
    if asks_for_replicas(settings):
        return ReplicaConfig.load(settings).replica_configs()
    return [MDConfig(**settings)]


def _statistics(path: Path) -> dict[str, Array]:
    """Columns by name; an incomplete last line is ignored."""
    if not path.is_file():
        raise ConfigError(f"expected the statistics of a run, got no {path}")
    header, *lines = path.read_text().splitlines()
    names = header.lstrip("#").split()
    rows = [line.split() for line in lines]
    table = np.array([row for row in rows if len(row) == len(names)], dtype=float)
    if len(table) < 2:
        raise ConfigError(f"expected statistics in {path}, got {len(table)} rows")
    return dict(zip(names, table.T, strict=True))


def _name(part: Path, folder: Path) -> str:
    """The molecule of a neat liquid, the recipe of a mixture, else its composition."""
    first = next(iread(part / TRAJECTORY, index=":1"))
    kinds = set(first.info.get("molecules", ()))
    if len(kinds) == 1:
        return str(kinds.pop())
    for file in (part / INPUT, folder / INPUT):
        if file.exists():
            found: Any = read(file)
            if "recipe" in found.info:
                return str(found.info["recipe"])
    return label(first)


def _ensemble(runs: Sequence[RunOfOne], every: int, unsettled: bool) -> Ensemble:
    """The frames of one state after equilibration, as found from its series."""
    first = runs[0]
    columns = (POTENTIAL,) if first.pressure is None else (DENSITY, POTENTIAL)
    shortest = min(len(run.series[TIME]) for run in runs)
    found = [detect_equilibration([run.series[c][:shortest] for run in runs]) for c in columns]
    bad = [one for one in found if not one.settled]
    if bad:
        state = f"{first.liquid} at {first.temperature:g} K"
        if not unsettled:
            raise ConfigError(
                f"expected settled samples of {state}, got some that are not ({bad[0].reason}): "
                "run for longer"
            )
        warnings.warn(f"{state} has not settled: {bad[0].reason}", HFFWarning, stacklevel=4)
    start = max(one.start for one in found)
    if bad:  # the start that was found means nothing
        start = min(start, shortest // 2)
    frames = [_frames(run, start, every) for run in runs]
    frames = [own for own in frames if own]
    times = [atoms.info["time_ps"] for atoms in frames[0]] if frames else []
    interval = float(times[1] - times[0]) if len(times) > 1 else 1.0
    state_of = (first.liquid, first.temperature, first.pressure)
    return Ensemble.of(frames, *state_of, interval=interval)


def _frames(run: RunOfOne, start: int, every: int) -> list[Atoms]:
    """Structures from a given sample of the statistics on, with standard masses."""
    after = run.series[TIME][start] - 1e-9
    own = []
    for atoms in iread(run.folder / TRAJECTORY, index=":"):
        if atoms.info.get("time_ps", 0.0) >= after:
            atoms.calc = None
            for name in ("masses", "momenta"):
                atoms.arrays.pop(name, None)
            own.append(atoms)
    return own[::every]
