"""Every setting of a molecular dynamics run, in one place, checked, to and from yaml."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hff_ase.errors import ConfigError

Ensemble = Literal["nve", "nvt", "nvt-nhc", "npt", "npt-scr"]
ENSEMBLES: tuple[str, ...] = get_args(Ensemble)
FEMTOSECONDS = {"fs": 1.0, "ps": 1e3, "ns": 1e6, "us": 1e9}
MOVES_CELL = ("npt", "npt-scr")
DEFAULT_PRESSURE = 1.0  # bar
TIMESTEPS = (0.01, 10.0)  # fs
DAMPING = (1.0, 1e6)  # fs, time constants of thermostats and barostats
LEAST_PDAMP = 100  # time steps, for cell rescaling to be stable with stiff bonds


def parse_time(text: object) -> float:
    """A time such as ``50ps``, ``0.5 ns`` or ``200fs``, in fs.

    Raises:
        ConfigError: not a positive number followed by fs, ps, ns or us.
    """
    number = r"\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*"
    match = re.fullmatch(number + f"({'|'.join(FEMTOSECONDS)})\\s*", str(text))
    if match is None or not 0 < float(match[1]) < float("inf"):
        raise ConfigError(
            f"expected a positive time with its unit, such as 50ps, 0.5ns or 200fs, got {text!r}"
        )
    return float(match[1]) * FEMTOSECONDS[match[2]]


def in_femtoseconds(value: object) -> object:
    """A time of the integrator in fs: a number of fs, or a text with its unit such as ``0.5fs``.

    Raises:
        ConfigError: a text that is neither.
    """
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return parse_time(value)


def check_plausible(name: str, value: float, least: float, most: float) -> None:
    """Refuse a time in fs that was probably meant in another unit: LAMMPS and GROMACS have ps.

    Raises:
        ConfigError: the range, and how to say what was meant.
    """
    if least <= value <= most:
        return
    meant = f" (in ps? write {value:g}ps)" if least <= 1000 * value <= most else ""
    raise ConfigError(
        f"{name}: expected a time from {least:g} to {most:g} fs, got {value:g} fs{meant}"
    )


@dataclass(frozen=True)
class Stage:
    """A stretch of a run in one ensemble."""

    ensemble: str
    n_steps: int


def steps_of(stages: Iterable[str], timestep: float) -> tuple[Stage, ...]:
    """Stages such as ``nvt:10ps`` in steps of so many fs (lengths are rounded to whole steps)."""
    parts = [stage.partition(":") for stage in stages]
    return tuple(Stage(name, round(parse_time(length) / timestep)) for name, _, length in parts)


class MDConfig(BaseModel):
    """Settings of a run. Times are strings with a unit; the rest is in the units given here.

    Attributes:
        structure: file with the starting structure (anything ASE reads; the last frame).
        model: name of a shipped model or path of an .hff file.
        dtype, device: precision of the model's networks, and ``cpu`` or ``cuda``.
        without: energy terms to leave out.
        outside_domain: go on with molecules that the model was not trained on.
        engine: what moves the atoms: ``torch``, the package's own engine on the device of the
            model; ``ase``, ASE's integrators with any ASE calculator; ``auto``, the first wherever
            the calculator is a HybridFF.
        output: folder of the run.
        ensemble: ``nve``; ``nvt`` (Langevin); ``nvt-nhc`` (Nose-Hoover chain); ``npt`` (isotropic
            Martyna-Tobias-Klein with chains); ``npt-scr`` (isotropic stochastic cell rescaling
            with Langevin dynamics: no oscillations, for volumes far from their mean). With `time`
            it is short for one stage.
        time: length of the run, such as ``50ps``.
        stages: several ensembles one after another, such as ``["npt:20ps", "nvt:10ps"]``.
        temperature: K, of the thermostats and of the starting velocities.
        pressure: bar, only with a stage of constant pressure (1 bar if not given).
        timestep: fs, or with its unit (``0.5fs``); with an inner potential, the outer one.
        hydrogen_mass: amu; every hydrogen gets it from the heavy atom it is bound to.
        inner_model, inner_without: r-RESPA: a cheap model (name or .hff file), or the terms that
            the model itself does without, in the inner steps; what is missing is added once per
            timestep.
        inner_steps: inner steps per timestep.
        friction: of Langevin dynamics, 1/ps. The centre of mass is held fixed.
        tdamp, pdamp: time constants of the Nose-Hoover chains and the barostat, fs.
        velocities: ``random`` (Maxwell-Boltzmann, no total momentum) or ``file``.
        seed: of the starting velocities and of Langevin dynamics.
        minimize, minimizer, minimize_steps, fmax: relax the atoms first, for at most so many
            steps or down to a largest force in eV/Angstrom.
        statistics_interval, trajectory_interval, checkpoint_interval: in steps; a checkpoint is
            also written once a minute.
        trajectory_format: ``extxyz``, ``traj`` (ASE's) or ``xtc`` (compact, for MDAnalysis).
        trajectory_forces: whether frames hold forces.
        pressure_interval: steps between rows of pressure.dat, the pressure tensor; None for no
            such file.
        max_displacement: Angstrom per step; an atom that moves farther stops the run.
        min_distance: Angstrom; two atoms closer than this stop the run.
        max_temperature: K; a hotter system stops the run.
        bond_watch: whether a bond of the start that breaks, or one that forms, stops the run
            (``stop``), is only told (``report``), or is not looked for (``off``).
        uncertainty_interval: steps between estimates of the error of the forces, for a model whose
            domain names a companion; 0 for none.
        committee: further models (names or .hff files) that are asked at the same atoms.
        committee_drive: ``first``, the run is that of `model`; ``mean``, of the mean of all (with
            engine ``ase``).
        committee_interval: steps between two looks at their spread (10, or 1 if the mean drives).
        max_spread: eV/Angstrom; a larger spread of the force on an atom stops the run, or is
            collected.
        spread_quantile: of the spread over the atoms that is compared, 1 for the largest.
        collect: file for frames above `max_spread`, relative to the folder of the run; the run
            goes on.
        collect_spacing: at least so many steps between two collected frames.
        max_hours: wall-clock limit of one sitting; then it stops as by SIGTERM. A sitting that
            resumes the run may have another.
        progress: show a progress bar.
        plot: write md.png at the end.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    structure: str | None = None
    model: str | None = None
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "cpu"
    without: tuple[str, ...] = ()
    outside_domain: bool = False
    engine: Literal["auto", "torch", "ase"] = "auto"
    output: str = "md"
    ensemble: Ensemble | None = None
    time: str | None = None
    stages: tuple[str, ...] = ()
    temperature: float = Field(300.0, ge=0)
    pressure: float | None = None
    timestep: float = 1.0
    hydrogen_mass: float | None = Field(None, ge=1.00784, le=4)
    inner_model: str | None = None
    inner_without: tuple[str, ...] = ()
    inner_steps: int = Field(1, ge=1)
    friction: float = Field(1.0, gt=0)
    tdamp: float = 100.0
    pdamp: float = 1000.0
    velocities: Literal["random", "file"] = "random"
    seed: int = Field(0, ge=0)
    minimize: bool = True
    minimizer: Literal["fire", "lbfgs"] = "lbfgs"
    minimize_steps: int = Field(200, ge=0)
    fmax: float = Field(0.1, gt=0)
    statistics_interval: int = Field(10, ge=1)
    trajectory_interval: int = Field(100, ge=1)
    checkpoint_interval: int = Field(1000, ge=1)
    trajectory_format: Literal["extxyz", "traj", "xtc"] = "extxyz"
    trajectory_forces: bool = False
    pressure_interval: int | None = Field(None, ge=1)
    max_displacement: float = Field(0.5, gt=0)
    min_distance: float = Field(0.5, ge=0)
    max_temperature: float = Field(5000.0, gt=0)
    bond_watch: Literal["stop", "report", "off"] = "stop"
    uncertainty_interval: int = Field(200, ge=0)
    committee: tuple[str, ...] = ()
    committee_drive: Literal["first", "mean"] = "first"
    committee_interval: int | None = Field(None, ge=1)
    max_spread: float | None = Field(None, gt=0)
    spread_quantile: float = Field(1.0, gt=0, le=1)
    collect: str | None = None
    collect_spacing: int = Field(100, ge=1)
    max_hours: float | None = Field(None, gt=0)
    progress: bool = True
    plot: bool = True

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise ConfigError(one_line(error)) from None

    @field_validator("structure", "model", "inner_model")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        # a run may be resumed from another working directory
        return str(Path(value).resolve()) if value and Path(value).is_file() else value

    @field_validator("committee")
    @classmethod
    def _absolute_members(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(cls._absolute(member) or member for member in value)

    @field_validator("timestep", "tdamp", "pdamp", mode="before")
    @classmethod
    def _with_unit(cls, value: object) -> object:
        return in_femtoseconds(value)

    @field_validator("time", mode="before")
    @classmethod
    def _check_time(cls, value: object) -> object:
        if value is not None:
            parse_time(value)
        return value

    @field_validator("stages", mode="before")
    @classmethod
    def _check_stages(cls, value: object) -> object:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"expected a list such as [npt:20ps, nvt:10ps], got {value!r}")
        for entry in value:
            ensemble, separator, length = str(entry).partition(":")
            if not separator or ensemble not in ENSEMBLES:
                raise ConfigError(
                    f"expected ENSEMBLE:TIME with one of {', '.join(ENSEMBLES)}, got {entry!r}"
                )
            parse_time(length)
        return value

    @model_validator(mode="after")
    def _check_combinations(self) -> MDConfig:
        check_plausible("timestep", self.timestep, *TIMESTEPS)
        check_plausible("tdamp", self.tdamp, *DAMPING)
        check_plausible("pdamp", self.pdamp, *DAMPING)
        if self.stages and (self.ensemble or self.time):
            raise ConfigError("expected either stages or ensemble and time, got both")
        if not self.stages and self.time is None:
            raise ConfigError("expected a length such as time: 50ps, or stages, got neither")
        if self.pressure is not None and not self.needs_cell:
            raise ConfigError(f"expected a pressure only with npt, got pressure {self.pressure:g}")
        if "npt-scr" in self._ensembles() and self.pdamp < LEAST_PDAMP * self.timestep:
            raise ConfigError(
                f"expected pdamp of at least {LEAST_PDAMP} time steps for npt-scr "
                f"({LEAST_PDAMP * self.timestep:g} fs), got {self.pdamp:g}"
            )
        if "npt-scr" in self._ensembles() and self.inner_steps > 1:
            raise ConfigError(f"expected no inner steps with npt-scr, got {self.inner_steps}")
        if self.temperature == 0 and self._ensembles() != {"nve"}:
            raise ConfigError("expected a temperature above 0 K for a thermostat, got 0")
        if self.engine == "torch" and self.seed >= 2**32:
            raise ConfigError(f"expected a seed below 2^32 for the torch engine, got {self.seed}")
        if self.max_temperature <= 2 * self.temperature:
            raise ConfigError(
                "expected max_temperature to be more than twice the temperature "
                f"({self.temperature:g} K), got {self.max_temperature:g}"
            )
        if self.inner_model is not None and self.inner_without:
            raise ConfigError("expected either inner_model or inner_without, got both")
        if self.inner_steps > 1 and self.inner_model is None and not self.inner_without:
            raise ConfigError(
                "expected inner_model or inner_without with inner_steps (what is cheap enough for "
                f"{self.inner_steps} inner steps), got neither"
            )
        if self.collect is not None and self.max_spread is None:
            raise ConfigError("expected max_spread with collect (above what to collect), got none")
        for stage in self.plan:
            if stage.n_steps < 1:
                raise ConfigError(f"expected at least one step of {self.timestep:g} fs per stage")
        return self

    def _stages(self) -> tuple[str, ...]:
        return self.stages or (f"{self.ensemble or 'nvt'}:{self.time}",)

    def _ensembles(self) -> set[str]:
        return {stage.partition(":")[0] for stage in self._stages()}

    @property
    def plan(self) -> tuple[Stage, ...]:
        """The stages in steps (lengths are rounded to whole steps)."""
        return steps_of(self._stages(), self.timestep)

    @property
    def look_interval(self) -> int:
        """Steps between two looks at the spread of the committee."""
        return self.committee_interval or (1 if self.committee_drive == "mean" else 10)

    @property
    def needs_cell(self) -> bool:
        """Whether a stage changes the volume."""
        return not self._ensembles().isdisjoint(MOVES_CELL)

    def resolved(self) -> dict[str, Any]:
        """Every setting with its value, `ensemble` and `time` as a stage: a valid configuration."""
        options = self.model_dump(mode="json", exclude={"ensemble", "time"})
        options["stages"] = list(self._stages())
        if self.needs_cell and self.pressure is None:
            options["pressure"] = DEFAULT_PRESSURE
        return options


def one_line(error: ValidationError) -> str:
    """The first thing that is wrong, in one line that names the key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown setting {key!r}{close_matches(key)}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message[0].lower()}{message[1:]}, got {first['input']!r}"


def close_matches(key: str) -> str:
    """A hint at the settings that are spelt alike."""
    matches = difflib.get_close_matches(key.replace("-", "_"), MDConfig.model_fields, n=3)
    return f"; did you mean {' or '.join(matches)}?" if matches else "; see hff md --help"


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings in a yaml file, unchecked.

    Raises:
        ConfigError: the file cannot be read, is no yaml, or holds no mapping.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings in {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        reason = getattr(error, "problem", None) or "no text"
        raise ConfigError(f"expected yaml in {path}, got something else: {reason}{place}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"expected 'setting: value' lines in {path}, got {content!r:.60}")
    return {str(key): value for key, value in content.items()}


def merge(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some replaced; stages and ensemble/time replace each other."""
    merged = dict(settings)
    if "stages" in overrides:
        merged = {key: value for key, value in merged.items() if key not in ("ensemble", "time")}
    if "ensemble" in overrides or "time" in overrides:
        merged.pop("stages", None)
    return {**merged, **overrides}


def to_yaml(content: Mapping[str, Any]) -> str:
    """Yaml text, keys in the order given."""
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
