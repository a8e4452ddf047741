"""Records of a run: rows of numbers, frames and averages."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from hff_ase.dynamics.engine.interface import Sample
from hff_ase.dynamics.observables.equilibration import drifts
from hff_ase.dynamics.observables.statistics import mean_with_error
from hff_ase.units import BAR, GRAM_PER_CM3

AVERAGED = ("temperature[K]", "pressure[bar]", "density[g/cm^3]", "potential[eV]")
FLOW = "flow[A/ps]"
FRAME_RESULTS = ("energy", "stress", "charges")
PLANES = ("xx", "yy", "zz", "yz", "xz", "xy")  # Voigt's order, that of `Sample.tensor`


@dataclass(frozen=True)
class Moment:
    """Progress of a run: step and stage (counted from 1), and time in ps."""

    step: int
    stage: int
    time: float


def columns(atoms: Atoms, sample: Sample) -> list[str]:
    """Names of the columns of the statistics file, with units."""
    names = ["step", "stage", "time[ps]", "potential[eV]", "kinetic[eV]", "total[eV]"]
    names += ["conserved[eV]", "temperature[K]"]
    if atoms.pbc.all():
        names += ["pressure[bar]", "volume[A^3]", "density[g/cm^3]"]
    if np.isfinite(sample.flow):
        names.append(FLOW)
    return names + [f"{term}[eV]" for term in sample.terms]


def pressure_columns() -> list[str]:
    """Names of the columns of the file of pressure tensors."""
    return ["step", "stage", "time[ps]", *(f"P{plane}[bar]" for plane in PLANES)]


def header(names: Sequence[str], width: int = 20) -> str:
    """First line of a file of numbers."""
    return "# " + " ".join(f"{name:>{width}}" for name in names) + "\n"


def row(moment: Moment, sample: Sample, mass: float) -> list[float]:
    """One row of statistics; ``mass`` in amu, for the density."""
    potential, kinetic = sample.potential, sample.kinetic
    values = [moment.step, moment.stage, moment.time, potential, kinetic, potential + kinetic]
    values += [sample.conserved, sample.temperature]
    if np.isfinite(sample.volume):
        density = mass / sample.volume / GRAM_PER_CM3
        values += [sample.pressure / BAR, sample.volume, density]
    if np.isfinite(sample.flow):
        values.append(sample.flow * 1000 * units.fs)
    return [*values, *sample.terms.values()]


def pressure_row(moment: Moment, sample: Sample) -> list[float]:
    """One row of pressure tensors."""
    return [moment.step, moment.stage, moment.time, *(value / BAR for value in sample.tensor)]


def format_row(values: Sequence[float], width: int = 20, digits: int = 12) -> str:
    """A row as a line of a file of numbers; the first two are counts."""
    counts = [f"{int(value):{width}d}" for value in values[:2]]
    return "  " + " ".join(counts + [f"{value:{width}.{digits}g}" for value in values[2:]]) + "\n"


def frame(
    atoms: Atoms, moment: Moment, results: Mapping[str, Any], with_forces: bool = False
) -> str:
    """A frame as extended xyz: positions as integrated (not wrapped), momenta, charges."""
    copy = atoms.copy()
    copy.set_constraint()
    copy.info.update(step=moment.step, time_ps=moment.time)
    names = (*FRAME_RESULTS, "forces") if with_forces else FRAME_RESULTS
    kept = {name: results[name] for name in names if name in results}
    copy.calc = SinglePointCalculator(copy, **kept)
    text = io.StringIO()
    write(text, copy, format="extxyz")
    return text.getvalue()


def read_input(path: Path) -> Atoms | None:
    """The starting structure that `frame` wrote; None where it cannot be read."""
    try:
        atoms = read(path, format="extxyz")
    except (OSError, ValueError, KeyError):
        return None
    return atoms if isinstance(atoms, Atoms) else None


def read_statistics(path: Path) -> dict[str, np.ndarray]:
    """The columns of a file of statistics or pressure tensors by name (units included)."""
    with open(path, encoding="utf-8") as file:
        names = file.readline().lstrip("#").split()
        values = np.loadtxt(file, ndmin=2)
    values = values.reshape(-1, len(names))
    return {name: values[:, index] for index, name in enumerate(names)}


def stage_averages(statistics: Mapping[str, np.ndarray], stage: int) -> dict[str, Any]:
    """Means with errors over the second half of a stage (`average`), and the drift of the
    conserved energy over all of it."""
    inside = statistics["stage"] == stage
    time = statistics["time[ps]"][inside]
    averages = {name: average(late) for name, late in second_half(statistics, stage).items()}
    return {"averages": averages, "drift[eV/ps]": drift(time, statistics["conserved[eV]"][inside])}


def second_half(statistics: Mapping[str, np.ndarray], stage: int) -> dict[str, np.ndarray]:
    """The rows of a stage's second half, which are averaged, by column."""
    inside = np.flatnonzero(statistics["stage"] == stage)
    late = inside[len(inside) // 2 :]
    return {name: statistics[name][late] for name in AVERAGED if name in statistics}


def average(series: np.ndarray) -> dict[str, Any]:
    """``mean`` and ``error`` of a correlated series [n_samples].

    The error is None where it would be too small: the series drifts, or is too short to know its
    correlation time (`mean_with_error`); ``doubt`` then says so. Without a finite sample both are
    None.
    """
    if not len(series) or not np.isfinite(series).all():
        return {"mean": None, "error": None}
    found = mean_with_error(series)
    doubt = "still drifting" if drifts(series) else found.reason if found.refused else ""
    entry: dict[str, Any] = {"mean": found.value, "error": None if doubt else found.error}
    return entry | ({"doubt": doubt} if doubt else {})


def finite_or_none(value: float) -> float | None:
    """None for nan: yaml readers agree on null, not on .nan."""
    return value if np.isfinite(value) else None


def drift(time: np.ndarray, conserved: np.ndarray) -> float | None:
    """Slope of the conserved energy, eV/ps; None if there is none or less than two points."""
    if len(time) < 2 or not np.isfinite(conserved).all():
        return None
    return float(np.polyfit(time, conserved, 1)[0])


def ns_per_day(n_steps: int, timestep: float, seconds: float) -> float:
    """Speed from steps, fs per step and wall time."""
    return n_steps * timestep * 1e-6 / seconds * 86400 if seconds > 0 else float("nan")
