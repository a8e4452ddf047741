"""Settings of a run of molecular dynamics, checked, to and from yaml."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import field_validator, model_validator

from hff_ase.dynamics.run_config import COMMITTEE, DYNAMICS, INNER, SAFETY, START, RunSettings
from hff_ase.errors import ConfigError
from hff_ase.settings import parse_time, setting
from hff_ase.settings.common import OUTPUT, TermSettings

Ensemble = Literal["nve", "nvt", "nvt-nhc", "npt", "npt-scr"]
ENSEMBLES: tuple[str, ...] = get_args(Ensemble)
MOVES_CELL = ("npt", "npt-scr")
DEFAULT_PRESSURE = 1.0  # bar
DENSITIES = (0.75, 1.3)  # of that of the recipe, what a liquid keeps to
HYDROGEN_MASS: dict[str, Any] = {"unit": "amu", "ge": 1.00784, "le": 4}
LEAST_PDAMP = 100  # time steps, for cell rescaling to be stable with stiff bonds


@dataclass(frozen=True)
class Stage:
    """A stretch of a run in one ensemble."""

    ensemble: str
    n_steps: int


def steps_of(stages: Iterable[str], timestep: float) -> tuple[Stage, ...]:
    """Stages such as ``nvt:10ps`` in steps of so many fs (lengths are rounded to whole steps)."""
    parts = [stage.partition(":") for stage in stages]
    return tuple(Stage(name, round(parse_time(length) / timestep)) for name, _, length in parts)


class MDConfig(RunSettings, TermSettings):
    """Settings of a run of molecular dynamics."""

    alternatives = (("stages",), ("ensemble", "time"))

    field: tuple[float, ...] = setting(
        (),
        "External electric field along x, y and z, such as 0,0,0.02; each molecule carries its "
        "formal charge in it.",
        unit="V/A",
        panel=DYNAMICS,
        commas=True,
        shown="none",
    )
    field_frequency: float = setting(
        0.0,
        "Frequency of a field that is a cosine in time; 0: constant.",
        unit="THz",
        panel=DYNAMICS,
        ge=0,
    )
    shear: float = setting(
        0.0,
        "Amplitude of an acceleration along x, a cosine along z, for the viscosity of the liquid "
        "that flows; needs nvt-nhc and a right-angled box.",
        unit="A/ps^2",
        panel=DYNAMICS,
        ge=0,
    )
    engine: Literal["auto", "torch", "ase"] = setting(
        "auto",
        "torch: the package's own engine, on the model's device; ase: ASE's integrators, "
        "with any ASE calculator; auto: torch where possible.",
        panel=DYNAMICS,
    )
    ensemble: Ensemble | None = setting(
        None,
        "nvt is Langevin dynamics, nvt-nhc uses a Nose-Hoover chain, npt is isotropic "
        "Martyna-Tobias-Klein with chains, npt-scr isotropic stochastic cell rescaling "
        "with Langevin dynamics (no oscillations, for volumes far from the mean).",
        panel=DYNAMICS,
        shown="nvt",
    )
    stages: tuple[str, ...] = setting(
        (),
        "ENSEMBLE:TIME, several ensembles in sequence instead of ensemble and time: "
        "npt:20ps,nvt:10ps.",
        panel=DYNAMICS,
        commas=True,
        metavar="STAGE",
    )
    hydrogen_mass: float | None = setting(
        None,
        "Mass of every hydrogen; the difference is taken from the heavy atom that it is bonded to.",
        panel=DYNAMICS,
        **HYDROGEN_MASS,
    )
    friction: float = setting(
        1.0,
        "Friction of Langevin dynamics; the centre of mass is held fixed.",
        unit="1/ps",
        panel=DYNAMICS,
        gt=0,
    )
    inner_without: tuple[str, ...] = setting(
        (), "Or a term to leave out of the inner steps.", panel=INNER, metavar="TERM"
    )
    velocities: Literal["random", "file"] = setting(
        "random",
        "Starting velocities: Maxwell-Boltzmann with zero total momentum, or those of the file.",
        panel=START,
    )
    minimizer: Literal["fire", "lbfgs"] = setting("lbfgs", "Minimiser.", panel=START)
    fmax: float = setting(
        0.1, "Largest force at which the minimisation stops.", unit="eV/Angstrom", panel=START, gt=0
    )
    trajectory_format: Literal["extxyz", "traj", "xtc"] = setting(
        "extxyz", "traj is ASE's format, xtc is compact and for MDAnalysis.", panel=OUTPUT
    )
    trajectory_forces: bool = setting(False, "Write forces to the frames.", panel=OUTPUT)
    pressure_interval: int | None = setting(
        None,
        "Time between rows of the pressure tensor in pressure.dat; without it the file is "
        "not written.",
        unit="steps",
        panel=OUTPUT,
        ge=1,
    )
    plot: bool = setting(True, "Write md.png at the end.", panel=OUTPUT)
    max_displacement: float = setting(
        0.5,
        "Stop the run if an atom moves farther than this in one step.",
        unit="Angstrom",
        panel=SAFETY,
        gt=0,
    )
    min_distance: float = setting(
        0.5, "Stop the run if two atoms come closer than this.", unit="Angstrom", panel=SAFETY, ge=0
    )
    max_temperature: float = setting(
        5000.0, "Stop the run if the temperature exceeds this.", unit="K", panel=SAFETY, gt=0
    )
    bond_watch: Literal["stop", "report", "off"] = setting(
        "stop",
        "Whether a bond that breaks or forms stops the run, is only reported, or is not checked.",
        panel=SAFETY,
    )
    uncertainty_interval: int = setting(
        200,
        "Time between estimates of the force error, for models with a companion; 0 for never.",
        unit="steps",
        panel=SAFETY,
        ge=0,
    )
    committee_drive: Literal["first", "mean"] = setting(
        "first",
        "Forces that move the atoms: those of the model, or the mean of all (with engine ase).",
        panel=COMMITTEE,
    )
    committee_interval: int | None = setting(
        None,
        "Time between evaluations of the spread.",
        unit="steps",
        panel=COMMITTEE,
        shown="10 steps, or 1 with the mean",
        ge=1,
    )
    max_spread: float | None = setting(
        None,
        "A larger spread of the force on an atom stops the run, or the frame is collected.",
        unit="eV/Angstrom",
        panel=COMMITTEE,
        gt=0,
    )
    spread_quantile: float = setting(
        1.0,
        "Quantile of the atoms' spreads to compare; 1 is the largest.",
        panel=COMMITTEE,
        gt=0,
        le=1,
    )
    collect: str | None = setting(
        None,
        "File in the output folder for frames above the spread; the run continues.",
        panel=COMMITTEE,
        metavar="FILE",
    )
    collect_spacing: int = setting(
        100, "Shortest time between two collected frames.", unit="steps", panel=COMMITTEE, ge=1
    )

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
        self._check_field()
        self._check_shear()
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

    def _check_field(self) -> None:
        if self.field and len(self.field) != 3:
            raise ConfigError(f"expected three components of a field, got {list(self.field)}")
        if self.field and self.needs_cell:
            raise ConfigError(
                "expected constant volume with a field (the virial of charges in it depends on "
                "their images), got a barostat"
            )
        if self.field_frequency and not self.field:
            raise ConfigError("expected a field with field_frequency, got none")

    def _check_shear(self) -> None:
        if self.shear and self._ensembles() != {"nvt-nhc"}:
            got = ", ".join(sorted(self._ensembles()))
            raise ConfigError(f"expected the ensemble nvt-nhc with shear, got {got}")
        if self.shear and (self.engine == "ase" or self.inner_steps > 1):
            raise ConfigError("expected the torch engine without inner steps for shear")

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
        """Steps between evaluations of the committee's spread."""
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
