"""Settings that every run of dynamics has."""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator

from hff_ase.settings import Duration, TimeConstant, TimeStep, absolute, setting
from hff_ase.settings.common import MODEL, OUTPUT, ModelSettings

DYNAMICS, START, SAFETY = "Dynamics", "Start", "What stops a run"
COMMITTEE, INNER = "Committee", "Multiple time steps"


class RunSettings(ModelSettings):
    """Settings that every run of dynamics has, with beads or without."""

    structure: str | None = setting(
        None,
        "Starting structure, in any format that ASE reads (last frame).",
        positional=True,
        metavar="FILE",
    )
    outside_domain: bool = setting(
        False, "Run even with molecules that the model was not trained on.", panel=MODEL
    )
    time: Duration | None = setting(
        None, "Length of the run with its unit, such as 50ps, 0.5ns or 200fs.", panel=DYNAMICS
    )
    temperature: float = setting(
        300.0,
        "Temperature of the thermostat and of the starting velocities.",
        unit="K",
        panel=DYNAMICS,
        ge=0,
    )
    pressure: float | None = setting(
        None, "Pressure of stages at constant pressure.", unit="bar", panel=DYNAMICS, shown="1 bar"
    )
    timestep: TimeStep = setting(
        1.0, "Time step; with inner steps, the outer one.", unit="fs", panel=DYNAMICS
    )
    tdamp: TimeConstant = setting(
        100.0,
        "Time constant of Nose-Hoover chains, and of the centroid thermostat of a ring polymer.",
        unit="fs",
        panel=DYNAMICS,
    )
    pdamp: TimeConstant = setting(
        1000.0, "Time constant of the barostat.", unit="fs", panel=DYNAMICS
    )
    seed: int = setting(0, "Seed of starting velocities and thermostats.", panel=START, ge=0)
    minimize: bool = setting(True, "Relax the atoms first.", panel=START)
    minimize_steps: int = setting(200, "Largest number of minimisation steps.", panel=START, ge=0)
    committee: tuple[str, ...] = setting(
        (), "Further model, evaluated on the same frames.", panel=COMMITTEE, metavar="MODEL"
    )
    inner_model: str | None = setting(
        None,
        "Cheap model for the inner steps; its difference from the full model acts once "
        "per time step.",
        panel=INNER,
        metavar="MODEL",
    )
    inner_steps: int = setting(1, "Number of inner steps per time step.", panel=INNER, ge=1)
    output: str = setting("md", "Folder of the run.", short="-o", panel=OUTPUT, metavar="FOLDER")
    statistics_interval: int = setting(
        10, "Time between rows of statistics.", unit="steps", panel=OUTPUT, ge=1
    )
    trajectory_interval: int = setting(
        100, "Time between frames.", unit="steps", panel=OUTPUT, ge=1
    )
    checkpoint_interval: int = setting(
        1000,
        "Time between checkpoints; hff md also writes one a minute.",
        unit="steps",
        panel=OUTPUT,
        ge=1,
    )
    progress: bool = setting(True, "Show progress on the screen.", panel=OUTPUT)
    max_hours: float | None = setting(
        None,
        "Wall-time limit: the run then stops as after SIGTERM and can be resumed.",
        unit="hours",
        panel=SAFETY,
        gt=0,
    )

    @field_validator("structure", "model", "inner_model")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        return absolute(value, Path.is_file) if value else value

    @field_validator("committee")
    @classmethod
    def _absolute_members(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(cls._absolute(member) or member for member in value)
