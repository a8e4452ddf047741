"""State points in the folders that this package leaves: one run, replicas, an equilibration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ase import Atoms

from hff_ase.dynamics.config import DEFAULT_PRESSURE, MOVES_CELL, MDConfig, Stage
from hff_ase.dynamics.observables.topology import topology_of
from hff_ase.dynamics.properties.state import PRESSURE, VOLUME, StatePoint, Stretch, name_of
from hff_ase.dynamics.reporters.run_folder import CONFIG, INPUT, RunFolder, trajectory_name
from hff_ase.dynamics.reporters.run_folder import PRESSURE as TENSOR
from hff_ase.dynamics.reporters.run_folder import STATISTICS as ROWS
from hff_ase.dynamics.reporters.statistics import read_input
from hff_ase.errors import ConfigError, HFFError, SimulationError

if TYPE_CHECKING:  # it imports torch, which reading numbers does without
    from hff_ase.dynamics.replicas import ReplicaConfig

__all__ = ["read_folder"]

SHOWN = (
    "model",
    "dtype",
    "timestep",
    "hydrogen_mass",
    "friction",
    "seed",
    "without",
    "inner_model",
)


def read_folder(
    path: str | Path,
    *,
    recipe: str | None = None,
    charges: Mapping[str, float] | None = None,
    skip: float = 0.0,
) -> list[StatePoint]:
    """The state points of a folder of ``hff md``, of replicas or of ``hff equilibrate``.

    Args:
        path: the folder; the run in it may still be in progress.
        recipe: what the box is, for measured values; None: as the box says.
        charges: formal charges by species where they cannot be looked up, e.
        skip: left out at the beginning of every stretch in any case, ps.

    Raises:
        ConfigError: no such folder, or none of these.
        SimulationError: a run that has not begun.
    """
    from hff_ase.dynamics.equilibration.protocol import KEY, EquilibrationConfig
    from hff_ase.dynamics.replicas import ReplicaConfig

    folder = RunFolder(path)
    if not folder.path.is_dir():
        raise ConfigError(f"expected the folder of a run, got {folder.path}")
    settings = _settings(folder)
    if KEY in settings:
        made = EquilibrationConfig.load(settings)
        config, members = made.replicas, _of_replicas(folder, made.replicas)
    elif "replicas" in settings:
        config = ReplicaConfig.load(settings)
        members = _of_replicas(folder, config)
    else:
        own = MDConfig.load({"engine": "ase", **settings})
        config, members = None, [(folder, own, 0)]
    shared = config.shared if config else members[0][1]
    return _grouped(folder, members, shared, recipe, charges, skip)


def held_stages(plan: Iterable[Stage]) -> dict[str, tuple[int, ...]]:
    """Which stages of a run, from 1, are production at constant pressure and volume.

    The last stages in a row at constant pressure; those at constant volume behind them, or all
    where there are none at constant pressure: what lies before is heating and settling.
    """
    moves = [stage.ensemble in MOVES_CELL for stage in plan]
    last = max((k for k, one in enumerate(moves) if one), default=-1)
    first = last
    while first > 0 and moves[first - 1]:
        first -= 1
    found = {PRESSURE: tuple(range(first + 1, last + 2)) if last >= 0 else ()}
    return found | {VOLUME: tuple(range(last + 2, len(moves) + 1))}


def _settings(folder: RunFolder) -> dict[str, Any]:
    """What config.yaml of a run holds.

    Raises:
        ConfigError: no run there.
        SimulationError: one that has written nothing yet.
    """
    try:
        content = yaml.safe_load(folder[CONFIG].read_text(encoding="utf-8"))
    except OSError:
        if folder.has_run:
            raise SimulationError(
                f"expected a run that has begun in {folder.path}, got one that has written nothing"
            ) from None
        raise ConfigError(
            f"expected a run of hff md, hff equilibrate or hff properties in {folder.path}, got "
            f"no {CONFIG}; a trajectory of another program is given as a file"
        ) from None
    except yaml.YAMLError as error:
        raise SimulationError(f"cannot read {folder[CONFIG]}: {error}") from None
    return dict(content)


def _of_replicas(folder: RunFolder, config: ReplicaConfig) -> list[tuple[RunFolder, MDConfig, int]]:
    """Folder, settings and number of each replica that has written something."""
    from hff_ase.dynamics.replicas.reporter import replica_folder

    found = [(replica_folder(folder, k), own, k) for k, own in enumerate(config.replica_configs())]
    found = [entry for entry in found if entry[0][ROWS].is_file()]
    if not found:
        raise SimulationError(f"expected replicas that have begun in {folder.path}, got none")
    return found


def _grouped(
    folder: RunFolder,
    members: list[tuple[RunFolder, MDConfig, int]],
    shared: MDConfig,
    recipe: str | None,
    charges: Mapping[str, float] | None,
    skip: float,
) -> list[StatePoint]:
    """Runs of the same composition, temperature and pressure as one state point each."""
    from hff_ase.dynamics.replicas.composition import label

    stages = held_stages(shared.plan)
    suffix = shared.trajectory_format
    groups: dict[tuple[str, float, float], list[Stretch]] = {}
    recipes: dict[tuple[str, float, float], str | None] = {}
    for own, config, number in members:
        atoms = read_input(own[INPUT])
        if atoms is None or not own[ROWS].is_file():
            raise SimulationError(f"expected a run that has begun in {own.path}, got no {INPUT}")
        bar = DEFAULT_PRESSURE if config.pressure is None else config.pressure
        key = (label(atoms), config.temperature, bar)
        recipes.setdefault(key, recipe or recipe_of(atoms, config.structure))
        frames, tensor = own[trajectory_name(suffix)], own[TENSOR]
        topology = topology_of(atoms, charges)
        for held, which in stages.items():
            if which:
                stretch = Stretch(
                    number,
                    held,
                    frames if frames.is_file() else None,
                    topology,
                    which,
                    own[ROWS],
                    tensor if tensor.is_file() else None,
                    skip,
                    wrapped=False,  # ours are unwrapped across the boundary
                )
                groups.setdefault(key, []).append(stretch)
    about = {name: value for name, value in shared.resolved().items() if name in SHOWN}
    about |= {"folder": str(folder.path), "stages": list(shared.resolved()["stages"])}
    if shared.field:
        about |= {"field": list(shared.field), "field_frequency": shared.field_frequency}
    if shared.shear:
        about["shear"] = shared.shear
    several = len({key[2] for key in groups}) > 1
    return [
        StatePoint(
            name_of(recipes[key] or key[0], key[1], key[2] if several else None),
            key[1],
            tuple(stretches),
            recipes[key],
            key[2],
            about,
            _notes(folder, key, shared),
        )
        for key, stretches in groups.items()
    ]


def recipe_of(atoms: Atoms, file: str | None = None) -> str | None:
    """The recipe of a box: its own, that of the file it came from, or a neat liquid's name."""
    if "recipe" in atoms.info:
        return str(atoms.info["recipe"])
    if file is not None and Path(file).is_file():
        from hff_ase.reading import read_structure

        try:
            start = read_structure(file)
        except HFFError:
            start = atoms
        if "recipe" in start.info:
            return str(start.info["recipe"])
    names = set(atoms.info.get("molecules", ()))
    return str(names.pop()) if len(names) == 1 else None


def _notes(folder: RunFolder, key: tuple[str, float, float], shared: MDConfig) -> tuple[str, ...]:
    """What the runs themselves say to be careful about."""
    from hff_ase.dynamics.equilibration.equilibration_simulation import VERDICT

    notes = []
    if shared.hydrogen_mass is not None:
        notes.append(
            f"hydrogens weigh {shared.hydrogen_mass:g} amu: densities are those of the liquid, "
            "motion is not"
        )
    if shared.shear:
        notes.append(
            f"the liquid is sheared ({shared.shear:g} A/ps^2): of its transport only the driven "
            "viscosity is that of the liquid at rest"
        )
    try:
        content = yaml.safe_load(folder[VERDICT].read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return tuple(notes)
    for name, verdict in content["states"].items():
        if name.startswith(f"{key[0]}, {key[1]:g} K") and not verdict["settled"]:
            waiting = [
                f"{quantity}: {one['reason']}"
                for quantity, one in verdict["quantities"].items()
                if not one["settled"]
            ]
            notes.append(f"the boxes have not settled: {'; '.join(waiting) or 'too short'}")
    return tuple(notes)
