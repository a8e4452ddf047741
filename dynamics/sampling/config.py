"""Settings of how liquids are sampled."""

from __future__ import annotations

from hff_ase.dynamics.config import HYDROGEN_MASS
from hff_ase.settings import Duration, Settings, TimeStep, setting

SAMPLING = "Samples"


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
