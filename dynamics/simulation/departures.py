"""What a stage ended far from: a run that is cold, under pressure or boiling must not pass for the
liquid that was asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from ase import Atoms

from hff_ase.dynamics.build.expected import recipe_density
from hff_ase.dynamics.config import DEFAULT_PRESSURE, DENSITIES, MDConfig
from hff_ase.dynamics.reporters.statistics import average, second_half

ERRORS = 3.0  # of the mean that do not count as far
KELVIN = 0.02  # of the temperature, that do not either
BAR = 100.0  # no more does this much pressure


def departures(
    statistics: Mapping[str, np.ndarray], stage: int, config: MDConfig, atoms: Atoms
) -> list[str]:
    """Lines such as ``temperature 185.6 +- 2.5 K, 300 K asked for (nvt, second half)``.

    A thermostat's temperature is far from the mean over the second half of the stage if they differ
    by more than 3 standard errors and 2 %, a barostat's pressure by 3 standard errors and 100 bar;
    where the half is too short for an honest error, as if it had two independent samples. The
    density at constant pressure is compared with what the recipe adds up to, where the box has one.

    Args:
        statistics: columns of the statistics file.
        stage: from 1.
        config: of the run.
        atoms: of the run, with the ``info`` of their box.
    """
    ensemble = config.plan[stage - 1].ensemble
    late, found = second_half(statistics, stage), list[str]()
    asked = {}
    if ensemble != "nve":
        asked["temperature[K]"] = (config.temperature, KELVIN * config.temperature, "K", 1)
    if ensemble.startswith("npt"):
        pressure = DEFAULT_PRESSURE if config.pressure is None else config.pressure
        asked["pressure[bar]"] = (pressure, BAR, "bar", 0)
    where = f"({ensemble}, second half of the stage)"
    for name, (target, least, unit, digits) in asked.items():
        entry = average(late.get(name, np.empty(0)))
        if entry["mean"] is None:
            continue
        error = entry["error"]
        spread = float(late[name].std()) / math.sqrt(2.0) if error is None else error
        if abs(entry["mean"] - target) > max(ERRORS * spread, least):
            mean = f"{entry['mean']:.{digits}f}"
            mean += "" if error is None else f" +- {error:.{digits}f}"
            what = name.partition("[")[0]
            found.append(f"{what} {mean} {unit}, {target:g} {unit} asked for {where}")
    expected = recipe_density(atoms) if ensemble.startswith("npt") else None
    density = late.get("density[g/cm^3]", np.empty(0))
    if expected is not None and len(density):
        value = float(density.mean())
        if not DENSITIES[0] <= value / expected <= DENSITIES[1]:
            found.append(f"density {value:.3f} g/cm3, the recipe adds up to {expected:.3f} {where}")
    return found
