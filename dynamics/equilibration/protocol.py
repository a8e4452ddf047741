"""From a packed box to a liquid: what is done in which order, and every setting of it.

Packed molecules are cold inside and press apart: under a barostat from the first step on, the box
expands within a picosecond to a density at which it then stays for long, since what a packed liquid
must do to shrink again, turning and passing each other, takes long at room temperature. Here the
volume is held until that has happened: hot at the density that is expected, then cooled, and only
then at constant pressure, first without inertia of the volume (stochastic cell rescaling), then in
the ensemble of production (Martyna, Tobias and Klein).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hff_ase.dynamics.config import MOVES_CELL, parse_time
from hff_ase.dynamics.replicas.config import ReplicaConfig
from hff_ase.errors import ConfigError

HOT, HOTTER = 1.5, 2.0  # times the temperature of the run
COOLING = 3  # steps down to the temperature of the run
KEY = "equilibration"  # in the settings of a run
# what a run has that its user does not set here
FOREIGN = ("ensemble", "time", "stages", "velocities", "plot", "pressure_interval", "pdamp")
DEFAULTS: dict[str, Any] = {
    "timestep": 2.0,
    "hydrogen_mass": 3.0,
    "friction": 2.0,
    "temperature": 298.15,
    "minimize_steps": 500,
    "statistics_interval": 10,
    "trajectory_interval": 500,
    "output": "equilibrate",
}


@dataclass(frozen=True)
class EquilibrationPhase:
    """A stretch of the protocol.

    Attributes:
        name: for messages.
        ensemble: as in `MDConfig`.
        time: fs; of the last phase, and of the first with cations, at most.
        heat: its temperature over that of the run.
        pdamp: of the barostat, fs.
    """

    name: str
    ensemble: str
    time: float
    heat: float = 1.0
    pdamp: float = 1000.0

    @property
    def under_pressure(self) -> bool:
        """Whether the volume moves."""
        return self.ensemble in MOVES_CELL


@dataclass(frozen=True)
class Protocol:
    """How a box is equilibrated.

    Attributes:
        heat: temperature of the hot phase over that of the run; None for `HOT`, or with cations
            `HOTTER`: at 450 K they keep their neighbours for longer than 10 ps.
        hot, cool, soft: lengths of the hot phase, of cooling, and of constant pressure by cell
            rescaling, such as ``10ps``.
        hot_max: the hot phase goes on up to this length while the cations keep their first shells.
        max_time: of constant pressure altogether; then the run ends, settled or not.
        soft_pdamp, pdamp: of the barostats, fs: cell rescaling, then Martyna-Tobias-Klein.
        check: time between two looks whether it has settled.
        least: what has settled must have been so for at least this long. The density breathes
            within half a picosecond, and a shorter stretch has many independent samples of that
            and none of what is slow.
        shells: whether the first shells of cations must have settled too.
        lowest, highest: density over the expected one that stops a replica at constant pressure.
    """

    heat: float | None = None
    hot: str = "10ps"
    cool: str = "3ps"
    soft: str = "10ps"
    hot_max: str = "100ps"
    max_time: str = "200ps"
    soft_pdamp: float = 500.0
    pdamp: float = 1000.0
    check: str = "2ps"
    least: str = "20ps"
    shells: bool = True
    lowest: float = 0.75
    highest: float = 1.3

    def __post_init__(self) -> None:
        if self.heat is not None and not 1.0 <= self.heat <= 3.0:
            raise ConfigError(f"expected heat from 1 to 3 times the temperature, got {self.heat:g}")
        if not 0 < self.lowest < 1 < self.highest:
            raise ConfigError(
                "expected a corridor of densities around the expected one, such as 0.75 to 1.3, "
                f"got {self.lowest:g} to {self.highest:g}"
            )
        if parse_time(self.hot_max) < parse_time(self.hot):
            raise ConfigError(f"expected hot_max of at least {self.hot}, got {self.hot_max}")
        parse_time(self.least)
        if parse_time(self.max_time) <= parse_time(self.soft):
            raise ConfigError(f"expected max_time above soft ({self.soft}), got {self.max_time}")

    @property
    def phases(self) -> tuple[EquilibrationPhase, ...]:
        """In order; each is a stage of the run."""
        step = parse_time(self.cool) / COOLING
        hot = HOT if self.heat is None else self.heat
        heats = [1 + (hot - 1) * (1 - k / COOLING) for k in range(1, COOLING + 1)]
        soft = parse_time(self.soft)
        return (
            EquilibrationPhase("hot", "nvt", parse_time(self.hot_max), hot),
            *(EquilibrationPhase("cool", "nvt", step, heat) for heat in heats),
            EquilibrationPhase("soft", "npt-scr", soft, pdamp=self.soft_pdamp),
            EquilibrationPhase("final", "npt", parse_time(self.max_time) - soft, pdamp=self.pdamp),
        )


@dataclass(frozen=True)
class EquilibrationConfig:
    """Settings of an equilibration: those of a run of replicas, and the protocol.

    Attributes:
        replicas: of the run; its stages are the protocol's.
        protocol: what is done.
        expected: density of each structure to compare with, g/cm^3.
        measured: by state (`groups.states`): measured density in g/cm^3 and its source.
    """

    replicas: ReplicaConfig
    protocol: Protocol
    expected: tuple[float, ...] = ()
    measured: Mapping[str, tuple[float, str]] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> EquilibrationConfig:
        """Settings of `ReplicaConfig` and `Protocol` by name; what is not given is `DEFAULTS`.

        Raises:
            ConfigError: as those two; a setting that the protocol makes.
        """
        rest = dict(settings)
        own = dict(rest.pop(KEY, {}))
        expected, known = tuple(own.pop("expected", ())), dict(own.pop("measured", {}))
        measured = {name: (float(value), str(source)) for name, (value, source) in known.items()}
        own |= {one.name: rest.pop(one.name) for one in fields(Protocol) if one.name in rest}
        unknown = set(own) - {one.name for one in fields(Protocol)}
        if unknown:
            raise ConfigError(f"unknown setting {sorted(unknown)[0]!r} of an equilibration")
        for name in FOREIGN:
            if name in rest:
                raise ConfigError(f"expected no {name} for an equilibration, got {rest[name]!r}")
        protocol = Protocol(**own)
        rest = {**DEFAULTS, **rest}
        step = float(rest["timestep"])
        every = round(parse_time(protocol.check) / step)
        stages = [f"{phase.ensemble}:{phase.time!r}fs" for phase in protocol.phases]
        made = {"checkpoint_interval": every, "stages": stages, "plot": False}
        made["pdamp"] = protocol.soft_pdamp
        return cls(ReplicaConfig.from_settings(rest | made), protocol, expected, measured)

    def resolved(self) -> dict[str, Any]:
        """Every setting with its value: `from_settings` makes the same of it."""
        options = self.replicas.resolved()
        for name in (*FOREIGN, "checkpoint_interval"):
            options.pop(name, None)
        known = {name: list(entry) for name, entry in self.measured.items()}
        own = {**asdict(self.protocol), "expected": list(self.expected), "measured": known}
        return {**options, KEY: own}
