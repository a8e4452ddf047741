"""Settings of how liquids are sampled, and of runs for transport."""

from __future__ import annotations

from pydantic import field_validator

from hff_ase.dynamics.config import HYDROGEN_MASS
from hff_ase.errors import ConfigError
from hff_ase.settings import Duration, Settings, TimeStep, setting

SAMPLING = "Samples"
FEWEST_VALUES = 5  # of a parameter, for a line with an error


class SamplingSettings(Settings):
    """How liquids are sampled: boxes are packed, equilibrated and run at constant pressure."""

    atoms: int = setting(230, "Of a box, about.", panel=SAMPLING, ge=1)
    replicas: int = setting(3, "Boxes of each liquid, packed anew.", panel=SAMPLING, ge=2)
    time: Duration = setting("200ps", "Length of production for each box.", panel=SAMPLING)
    max_time: Duration = setting(
        "200ps", "Of equilibration at constant pressure; then the run ends.", panel=SAMPLING
    )
    interval: float = setting(0.5, "Between frames that are kept.", unit="ps", panel=SAMPLING, gt=0)
    timestep: TimeStep = setting(2.0, "Time step.", unit="fs", panel=SAMPLING)
    hydrogen_mass: float = setting(
        3.0,
        "Mass of every hydrogen; the difference is taken from the heavy atom that it is bonded to.",
        panel=SAMPLING,
        **HYDROGEN_MASS,
    )
    seed: int = setting(0, "Of packing and velocities.", panel=SAMPLING, ge=0)


class ResponseSettings(Settings):
    """Runs of transport at several values of a parameter."""

    values: tuple[float, ...] = setting(
        (0.85, 0.925, 1.0, 1.075, 1.15),
        "Factors of each parameter, the others unchanged: five or more.",
        panel=SAMPLING,
        commas=True,
    )
    npt: Duration = setting("50ps", "Run of each box at constant pressure.", panel=SAMPLING)
    nvt: Duration = setting("200ps", "Run of each box at constant volume.", panel=SAMPLING)
    atoms: int = setting(300, "Of a box, about.", panel=SAMPLING, ge=1)
    replicas: int = setting(4, "Boxes of each liquid, packed anew.", panel=SAMPLING, ge=1)
    seed: int = setting(0, "Of packing and velocities.", panel=SAMPLING, ge=0)
    outside_domain: bool = setting(
        False, "Run even with molecules that the model was not trained on.", panel=SAMPLING
    )

    @field_validator("values")
    @classmethod
    def _five(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) < FEWEST_VALUES or min(value) <= 0:
            raise ConfigError(
                f"expected {FEWEST_VALUES} positive factors or more, got {list(value)}"
            )
        return value
