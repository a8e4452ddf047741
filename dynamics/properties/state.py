"""The input of an analysis: state points, and the stretches of runs that sampled them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hff_ase.dynamics.observables.topology import Topology

__all__ = ["StatePoint", "Stretch"]

PRESSURE, VOLUME = "pressure", "volume"  # what a stretch holds constant
GAS = "gas"  # single molecules, in the place of either


@dataclass(frozen=True, eq=False)
class Stretch:
    """A part of one run in one ensemble.

    Attributes:
        replica: number of the run among those of its state point and folder.
        held: ``pressure``, ``volume`` or ``gas``.
        trajectory: file of frames; None if there are none.
        topology: of its atoms, or the file that holds it.
        stages: of the run that count, from 1; empty for all of the file.
        statistics, tensor: files of numbers of our own runs; None elsewhere.
        skip: left out at its beginning whatever the series look like, ps.
        interval: between frames, ps; None: as the file says.
        wrapped: whether positions may be folded into the cell.
        charges: formal charges by species that the user gave, e.
        frames: at most this many frames of the file; None for all.
    """

    replica: int
    held: str
    trajectory: Path | None
    topology: Topology | Path | None = None
    stages: tuple[int, ...] = ()
    statistics: Path | None = None
    tensor: Path | None = None
    skip: float = 0.0
    interval: float | None = None
    wrapped: bool = True
    charges: Mapping[str, float] | None = None
    frames: int | None = None


@dataclass(frozen=True)
class StatePoint:
    """A liquid at a temperature and pressure, with all stretches that sampled it.

    Attributes:
        name: for tables, such as ``1 M LiPF6 in EC:DMC 1:1 w/w, 298.15 K``.
        temperature: K.
        stretches: of its replicas.
        recipe: as for ``hff build``; None where it is not known.
        pressure: bar.
        about: of the runs: model, time step, masses ..., for the report.
        notes: what to be careful about, such as boxes that have not settled.
    """

    name: str
    temperature: float
    stretches: tuple[Stretch, ...]
    recipe: str | None = None
    pressure: float = 1.0
    about: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def held(self, what: str) -> tuple[Stretch, ...]:
        """The stretches at constant ``pressure`` or ``volume``."""
        return tuple(one for one in self.stretches if one.held == what)


def name_of(liquid: str, temperature: float, pressure: float | None = None) -> str:
    """Name of a state point."""
    return f"{liquid}, {temperature:g} K" + (f", {pressure:g} bar" if pressure is not None else "")
