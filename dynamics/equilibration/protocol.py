"""The equilibration protocol: its phases and settings.

Packed molecules are cold inside and press apart: under a barostat from the first step on, the box
expands within a picosecond to a density at which it then stays for long, since what a packed liquid
must do to shrink again, turning and passing each other, takes long at room temperature. Here the
volume is held until that has happened: hot at the density that is expected, then cooled, and only
then at constant pressure, first without inertia of the volume (stochastic cell rescaling), then in
the ensemble of production (Martyna, Tobias and Klein).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import model_validator

from hff_ase.dynamics.config import DENSITIES, MOVES_CELL, MDConfig
from hff_ase.dynamics.replicas.config import SEVERAL, ReplicaConfig, ReplicaSettings
from hff_ase.errors import ConfigError
from hff_ase.settings import Duration, Given, Settings, TimeConstant, parse_time, setting

HOT, HOTTER = 1.5, 2.0  # times the temperature of the run
PROTOCOL = "Protocol"
COOLING = 3  # steps down to the temperature of the run
KEY = "equilibration"  # in the settings of a run
# what a run has that its user does not set here
FOREIGN = ("ensemble", "time", "stages", "velocities", "plot", "pressure_interval", "pdamp",
           "checkpoint_interval", "shear")  # fmt: skip
# what is of no use here: replicas have none, or cell rescaling cannot have it
ALONE = ("engine", "committee", "committee_drive", "committee_interval", "max_spread",
         "spread_quantile", "collect", "collect_spacing", "inner_model", "inner_without",
         "inner_steps")  # fmt: skip
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


class Protocol(Settings):
    """How a box is equilibrated."""

    heat: float | None = setting(
        None,
        "Temperature of the hot phase relative to that of the run: at 450 K cations keep "
        "their neighbours for longer than 10 ps.",
        panel=PROTOCOL,
        shown=f"{HOT:g}, {HOTTER:g} with cations",
        ge=1,
        le=3,
    )
    hot: Duration = setting("10ps", "Length of the hot phase.", panel=PROTOCOL)
    cool: Duration = setting("3ps", "Length of the cooling phase.", panel=PROTOCOL)
    soft: Duration = setting(
        "10ps",
        "Length of the phase with stochastic cell rescaling, before the Martyna- "
        "Tobias-Klein barostat.",
        panel=PROTOCOL,
    )
    hot_max: Duration = setting(
        "100ps",
        "Longest hot phase, extended while the cations keep their first shells.",
        panel=PROTOCOL,
    )
    max_time: Duration = setting(
        "200ps",
        "Total time at constant pressure after which the run ends, settled or not.",
        panel=PROTOCOL,
    )
    soft_pdamp: TimeConstant = setting(
        500.0, "Time constant of the cell-rescaling barostat.", unit="fs", panel=PROTOCOL
    )
    pdamp: TimeConstant = setting(
        1000.0, "Time constant of the Martyna-Tobias-Klein barostat.", unit="fs", panel=PROTOCOL
    )
    check: Duration = setting("2ps", "Time between checks whether it has settled.", panel=PROTOCOL)
    # The density breathes within half a picosecond, and a shorter stretch has many independent
    # samples of that and none of what is slow.
    least: Duration = setting("20ps", "Shortest stretch that counts as settled.", panel=PROTOCOL)
    shells: bool = setting(
        True, "Require the first shells of cations to settle too.", panel=PROTOCOL
    )
    lowest: float = setting(
        DENSITIES[0],
        "Density relative to the expected one below which a replica is stopped at "
        "constant pressure.",
        panel=PROTOCOL,
        gt=0,
        lt=1,
    )
    highest: float = setting(
        DENSITIES[1],
        "Density relative to the expected one above which a replica is stopped at "
        "constant pressure.",
        panel=PROTOCOL,
        gt=1,
    )

    @model_validator(mode="after")
    def _in_order(self) -> Protocol:
        if parse_time(self.hot_max) < parse_time(self.hot):
            raise ConfigError(f"expected hot_max of at least {self.hot}, got {self.hot_max}")
        if parse_time(self.max_time) <= parse_time(self.soft):
            raise ConfigError(f"expected max_time above soft ({self.soft}), got {self.max_time}")
        return self

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
    def load(
        cls,
        source: Mapping[str, Any] | str | Path,
        overrides: Mapping[str, Any] | None = None,
    ) -> EquilibrationConfig:
        """Settings of `ReplicaConfig` and `Protocol` by name; what is not given is `DEFAULTS`.

        Args:
            source: a mapping, or a yaml file.
            overrides: settings that replace those of the source.

        Raises:
            ConfigError: as those two; a setting that the protocol makes.
        """
        given = Given.of(source)
        if overrides:
            given = Given.of(overrides).over(given, MDConfig, Protocol, ReplicaSettings)
        own, rest = given.without(KEY).take(Protocol)
        kept = dict(given.get(KEY, {}))
        expected, known = tuple(kept.pop("expected", ())), dict(kept.pop("measured", {}))
        measured = {name: (float(value), str(source)) for name, (value, source) in known.items()}
        protocol = Protocol.load(own.over(kept))
        for name in FOREIGN:
            if name in rest:
                raise ConfigError(
                    f"{rest.where(name)}expected no {name} for an equilibration, got {rest[name]!r}"
                )
        rest = rest.over(DEFAULTS)
        shared = MDConfig.load(
            Given({"time": protocol.max_time}).over(
                rest.without(*SEVERAL, *ReplicaSettings.names())
            )
        )
        every = round(parse_time(protocol.check) / shared.timestep)
        stages = [f"{phase.ensemble}:{phase.time!r}fs" for phase in protocol.phases]
        made = {"checkpoint_interval": every, "stages": stages, "plot": False}
        made["pdamp"] = protocol.soft_pdamp
        replicas = ReplicaConfig.load(Given(made).over(rest))
        return cls(replicas, protocol, expected, measured)

    def resolved(self) -> dict[str, Any]:
        """Every setting with its value; `load` takes it back."""
        options = self.replicas.resolved()
        for name in FOREIGN:
            options.pop(name, None)
        known = {name: list(entry) for name, entry in self.measured.items()}
        own = {
            **self.protocol.model_dump(mode="json"),
            "expected": list(self.expected),
            "measured": known,
        }
        return {**options, KEY: own}
