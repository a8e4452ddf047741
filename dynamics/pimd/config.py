"""Every setting of a path integral run, checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ase.data import atomic_numbers
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hff_ase.dynamics.config import (
    DAMPING,
    TIMESTEPS,
    check_plausible,
    in_femtoseconds,
    parse_time,
)
from hff_ase.errors import ConfigError

EXTRA = "expected i-PI for path integrals, got none: pip install 'hff-ase[pimd]'"


class PIMDConfig(BaseModel):
    """Settings of a run.

    Attributes:
        structure: file with the starting structure (anything ASE reads; the last frame).
        model: name of a shipped model or path of an .hff file.
        committee: further models; the mean of all moves the beads.
        inner_model: a cheaper model on every bead and inner step, corrected by the difference
            between the full and the cheap one on fewer beads or steps.
        contract: beads on which that correction is evaluated (ring-polymer contraction); None all.
        mts: inner steps of the cheap model per timestep; the correction acts once per timestep.
        device, dtype: of the models.
        outside_domain: go on with molecules that the model was not trained on.
        beads: replicas of the ring polymer; 1 is classical dynamics.
        temperature: K.
        time: length of the run, such as ``5ps``.
        timestep: fs, or with its unit; the outer one, of `mts` inner steps.
        ensemble: ``nvt``, or ``npt`` with i-PI's isotropic barostat.
        thermostat: ``pile_l``; ``piglet`` with the matrices of `gle`; ``trpmd``, whose centroid
            moves without a thermostat (vibrational spectra, diffusion).
        gle: file with the A and C elements of i-PI's thermostat input, one matrix per normal mode.
        tau: time constant of the centroid's thermostat, fs.
        pressure: bar; tau_barostat: fs. Of npt.
        seed: of velocities and thermostats.
        start_from: checkpoint of another i-PI run with as many beads to start from.
        minimize, minimize_steps: relax the start first, for at most so many steps; not with
            `start_from`.
        transport: ``ffdirect`` (in i-PI's process), ``socket`` or ``shm`` (a driver beside it;
            both are started again where it dies).
        drivers: beside i-PI, which share the beads; 1 with ffdirect.
        extras: what else the driver gives to i-PI's extras: ``charges``, ``dipole``.
        max_hours: i-PI stops after so much time and can be resumed; None never.
        properties_interval, trajectory_interval, checkpoint_interval: steps.
        rdf: pairs of elements such as ``O-H``; empty: six with the lightest partners.
        classical: folder of a run of `hff md`, or of this with one bead, to compare with.
        output: folder of the run.

    Raises:
        ConfigError: by `checked`.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    structure: str
    model: str
    committee: tuple[str, ...] = ()
    inner_model: str | None = None
    contract: int | None = Field(None, ge=1)
    mts: int = Field(1, ge=1)
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    outside_domain: bool = False
    beads: int = Field(32, ge=1)
    temperature: float = Field(300.0, gt=0)
    time: str = "1ps"
    timestep: float = 0.5
    ensemble: Literal["nvt", "npt"] = "nvt"
    thermostat: Literal["pile_l", "piglet", "trpmd"] = "pile_l"
    gle: str | None = None
    tau: float = 100.0
    pressure: float = 1.0
    tau_barostat: float = 500.0
    seed: int = Field(0, ge=0)
    start_from: str | None = None
    minimize: bool = True
    minimize_steps: int = Field(200, ge=1)
    transport: Literal["ffdirect", "socket", "shm"] = "ffdirect"
    drivers: int = Field(1, ge=1)
    extras: tuple[Literal["charges", "dipole"], ...] = ()
    max_hours: float | None = Field(None, gt=0)
    properties_interval: int = Field(10, ge=1)
    trajectory_interval: int = Field(100, ge=1)
    checkpoint_interval: int = Field(1000, ge=1)
    rdf: tuple[str, ...] = ()
    classical: str | None = None
    output: str = "pimd"

    @classmethod
    def checked(cls, settings: Mapping[str, Any]) -> PIMDConfig:
        """The settings, the rest at its defaults.

        Raises:
            ConfigError: an unknown setting or a value that makes no sense.
        """
        try:
            return cls(**settings)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            got = f", got {first['input']!r:.60}" if name else ""
            message = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{name}: {message}{got}" if name else message) from None

    @field_validator("timestep", "tau", "tau_barostat", mode="before")
    @classmethod
    def _with_unit(cls, value: object) -> object:
        return in_femtoseconds(value)

    @model_validator(mode="after")
    def _together(self) -> PIMDConfig:
        check_plausible("timestep", self.timestep, *TIMESTEPS)
        check_plausible("tau", self.tau, *DAMPING)
        check_plausible("tau_barostat", self.tau_barostat, *DAMPING)
        parse_time(self.time)
        if (self.thermostat == "piglet") != (self.gle is not None):
            raise ValueError(
                "expected a file of matrices with the thermostat piglet, and only there, got "
                f"thermostat {self.thermostat} and {self.gle or 'none'}"
            )
        if self.thermostat == "trpmd" and self.ensemble == "npt":
            raise ValueError("expected ensemble nvt with the thermostat trpmd, got npt")
        self._check_split()
        if self.classical is not None and not Path(self.classical).is_dir():
            raise ValueError(f"expected the folder of a run at {self.classical}, got none")
        for pair in self.rdf:
            elements_of(pair)
        for path in (self.structure, self.gle, self.start_from):
            if path is not None and not Path(path).is_file():
                raise ValueError(f"expected a file at {path}, got none")
        return self

    def _check_split(self) -> None:
        split = self.contract is not None or self.mts > 1
        if split != (self.inner_model is not None):
            raise ValueError(
                "expected an inner model with contract or mts, and only there, got inner model "
                f"{self.inner_model or 'none'}, contract {self.contract}, mts {self.mts}"
            )
        if self.outer_beads > self.beads:
            raise ValueError(f"expected contract up to {self.beads} beads, got {self.contract}")
        if self.drivers > 1 and self.transport == "ffdirect":
            raise ValueError(
                f"expected transport socket or shm with several drivers, got {self.drivers} drivers"
                " and ffdirect"
            )
        for beads in (self.beads, self.outer_beads):
            if beads % self.drivers:
                raise ValueError(
                    f"expected drivers that share {beads} beads evenly, got {self.drivers}"
                )

    @property
    def outer_beads(self) -> int:
        """Beads on which the full model is evaluated."""
        return self.contract or self.beads

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        return max(1, round(parse_time(self.time) / self.timestep))


def elements_of(pair: str) -> tuple[str, str]:
    """Both elements of a pair such as ``O-H``.

    Raises:
        ConfigError: it is no pair of elements.
    """
    parts = pair.split("-")
    if len(parts) != 2 or not all(part in atomic_numbers for part in parts):
        raise ConfigError(f"expected a pair of elements such as O-H, got {pair!r}")
    return parts[0], parts[1]
