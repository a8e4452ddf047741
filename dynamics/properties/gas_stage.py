"""Single molecules in the gas, many in one batch: what the heat of vaporisation compares with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from rich.console import Console

from hff_ase.dynamics.observables.topology import topology_of
from hff_ase.dynamics.observables.unwrapping import whole_offsets
from hff_ase.dynamics.properties.folders import read_folder
from hff_ase.dynamics.properties.request import Point, Request
from hff_ase.dynamics.properties.stages import NPT, carry_on, last_frames, shared_settings
from hff_ase.dynamics.properties.state import GAS, Stretch
from hff_ase.errors import ConfigError

MOLECULES = 32  # of each species
STEP, FRICTION = 0.5, 5.0  # fs; 1/ps: a molecule alone has nothing else to share its energy with
EVERY = 20  # steps between rows
SETTLING = 2.0  # ps, left out


def single_molecules(boxes: Sequence[Atoms], n: int = MOLECULES) -> list[Atoms]:
    """Molecules of every species alone, as they lie in a liquid, without a cell.

    Args:
        boxes: of one composition.
        n: of each species; different ones as far as there are.
    """
    found, topology = [], topology_of(boxes[0])
    for kind in topology.kinds:
        members = topology.of_kind(kind)
        for k in range(n):
            box = boxes[k % len(boxes)]
            chosen = members[(k // len(boxes) * 7) % len(members)]
            inside = np.flatnonzero(topology.molecule == chosen)
            offsets = whole_offsets(box.positions, np.asarray(box.cell), topology)
            whole = box.positions + offsets @ np.asarray(box.cell)
            one = Atoms(box.numbers[inside], whole[inside] - whole[inside].mean(axis=0))
            one.info["molecules"] = [kind]
            one.set_array("molecule", np.zeros(len(one), dtype=int))
            found.append(one)
    return found


def run_gas(
    folder: Path, point: Point, request: Request, calc: Any, console: Console | None
) -> None:
    """Go on with single molecules under Langevin dynamics to the end.

    Args:
        folder: of the state point, with boxes at the end of constant pressure.
        point, request, calc, console: as for the other stages.

    Raises:
        ConfigError: molecules of one atom, which have nothing to sample.
    """
    place = folder / GAS
    boxes = single_molecules(last_frames(folder / NPT, request.replicas))
    single = [one.info["molecules"][0] for one in boxes if len(one) == 1]
    if single:
        raise ConfigError(f"expected molecules of several atoms in the gas, got {single[0]}")
    settings = {
        **shared_settings(request),
        "output": str(place),
        "temperature": point.temperature,
        "stages": [f"nvt:{request.gas}"],
        "timestep": STEP,
        "friction": FRICTION,
        "minimize": False,
        "plot": False,
        "statistics_interval": EVERY,
        "trajectory_format": "traj",
        "trajectory_interval": 2000,
    }
    carry_on(place, settings, boxes, calc, console, None)


def gas_stretches(folder: Path) -> tuple[Stretch, ...]:
    """What the gas of a state point has given."""
    states = read_folder(folder / GAS, skip=SETTLING)
    found = [replace(one, held=GAS) for state in states for one in state.stretches]
    return tuple(replace(one, replica=k) for k, one in enumerate(found))
