"""Curves of a state point: functions of distance, time and frequency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hff_ase.dynamics.observables.conductivity import MS_PER_CM
from hff_ase.dynamics.observables.diffusion import self_diffusion
from hff_ase.dynamics.observables.msd import squared_displacements
from hff_ase.dynamics.observables.onsager import collective
from hff_ase.dynamics.properties.shells import cations, compositions
from hff_ase.dynamics.properties.window import Window

__all__ = ["Curve"]

Array = NDArray[np.float64]
MOST_POINTS = 300  # of a line
MOST_PAIRS = 6  # of species, whose g(r) are drawn


@dataclass(frozen=True)
class Line:
    """One line of a figure: x, y and, where it is known, the error of y."""

    x: Array
    y: Array
    error: Array | None = None


@dataclass(frozen=True)
class Curve:
    """A figure.

    Attributes:
        title: in words.
        x, y: labels of the axes, with units.
        lines: by label.
        log: axes with a logarithmic scale, such as ``xy``.
        marks: vertical spans by label: from, to.
        bars: shares by label, instead of lines.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, Line] = field(default_factory=dict)
    log: str = ""
    marks: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    bars: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: five digits, and None for what is not finite."""
        lines = {
            name: {"x": _numbers(line.x), "y": _numbers(line.y)}
            | ({} if line.error is None else {"error": _numbers(line.error)})
            for name, line in self.lines.items()
        }
        return {
            "title": self.title,
            "x": self.x,
            "y": self.y,
            "log": self.log,
            "lines": lines,
            "marks": {name: list(span) for name, span in self.marks.items()},
            "bars": dict(self.bars),
        }


def line(x: ArrayLike, y: ArrayLike, error: ArrayLike | None = None, log: bool = False) -> Line:
    """A line of at most `MOST_POINTS` points, evenly spaced or, with ``log``, in the logarithm."""
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    n = len(a)
    if n > MOST_POINTS:
        places = np.geomspace(1, n, MOST_POINTS) if log else np.linspace(1, n, MOST_POINTS)
        kept = np.unique(places.astype(int)) - 1
    else:
        kept = np.arange(n)
    spread = None if error is None else np.asarray(error, dtype=float)[kept]
    return Line(a[kept], b[kept], spread)


def displacements_of(window: Window) -> list[Curve]:
    """Mean squared displacements with the windows that diffusion was read from."""
    runs, lines, marks = window.centres(), {}, {}
    for kind in window.topology.kinds:
        found = self_diffusion(runs, kind)
        lags, msd = found.details["lags"][1:], found.details["msd"][1:]
        lines[kind] = line(lags, msd, log=True)
        if "window" in found.details and not found.refused:
            marks[kind] = found.details["window"]
    title = "Mean squared displacement; shaded: the windows that diffusion is read from"
    return [Curve(title, "time / ps", "MSD / Å²", lines, "xy", marks)]


def spectrum_of(window: Window) -> list[Curve]:
    """The stress spectrum and the fit that gives the viscosity; the running integral."""
    known = window.found or {}
    found = known.get("viscosity")
    if found is None or "frequencies" not in found.details:
        return []
    details = found.details
    frequencies = details["frequencies"]
    lines = {
        "spectrum": line(frequencies, details["spectrum"]),
        "fit": line(frequencies, details["model"]),
    }
    title = "Spectrum of the stress; its limit at frequency zero is the viscosity"
    return [Curve(title, "frequency / THz", "viscosity / mPa s", lines)]


def collective_of(window: Window) -> list[Curve]:
    """Displacement of the charge over time, whose slope is the conductivity; of free ions, too."""
    runs, topology = window.centres(), window.topology
    charges = topology.kind_charges()
    z = np.array([charges[kind] for kind in topology.kinds])
    shortest = min(map(len, runs))
    n_lags = min(max(int(0.3 * shortest), 4), shortest)
    both, alone = [], []
    each = topology.formal_charges()
    for run in runs:
        moment = np.einsum("fkx,k->fx", collective(run), z)
        both.append(squared_displacements(moment[:, None], n_lags)[:, 0])
        own = squared_displacements(run.positions[:, each != 0], n_lags)
        alone.append(own @ each[each != 0] ** 2)
    times = np.arange(n_lags) * float(np.median(np.diff(runs[0].times)))
    factor = MS_PER_CM / (6.0 * window.volume() * _kt(window))
    lines = {
        "all ions together": line(times, factor * np.mean(both, axis=0), _scatter(both, factor)),
        "each ion alone": line(times, factor * np.mean(alone, axis=0), _scatter(alone, factor)),
    }
    title = "Squared displacement of the charge; its slope is the conductivity"
    return [Curve(title, "time / ps", "⟨ΔM²⟩/6VkT / mS cm⁻¹ ps", lines)]


def solvation_of(window: Window) -> list[Curve]:
    """Radial distribution functions around the cations, running numbers, and first shells."""
    found, topology = [], window.topology
    for kind in cations(topology):
        centre = str(topology.symbols[topology.molecule == topology.of_kind(kind)[0]][0])
        donors = list(window.material.cutoffs(kind))
        pairs = window.material.pairs(tuple(f"{centre}-{one}" for one in donors))
        lines = {n: line(pairs.distance, g, pairs.error[n]) for n, g in pairs.g.items()}
        found.append(Curve(f"Radial distribution around {kind}", "r / Å", "g(r)", lines))
        numbers = {n: line(pairs.distance, one) for n, one in pairs.coordination.items()}
        found.append(Curve(f"Atoms around {kind}", "r / Å", "n(r)", numbers))
        shells = compositions(window.contacts(kind))
        found.append(Curve(f"First shells of {kind}", "share", "", bars=shells))
    return found


def structure_of(window: Window) -> list[Curve]:
    """Radial distribution functions of the centres of mass of the species."""
    kinds = window.topology.kinds
    names = [f"{a}-{b}" for a, b in combinations_with_replacement(kinds, 2)][:MOST_PAIRS]
    pairs = window.material.pairs(tuple(names), "centres")
    lines = {name: line(pairs.distance, g, pairs.error[name]) for name, g in pairs.g.items()}
    return [Curve("Radial distribution of centres of mass", "r / Å", "g(r)", lines)]


def _kt(window: Window) -> float:
    """Boltzmann's constant times temperature, eV."""
    from ase import units

    return float(units.kB * window.temperature)


def _scatter(curves: list[Array], factor: float) -> Array | None:
    """Standard error over replicas; None for one."""
    if len(curves) < 2:
        return None
    return np.asarray(factor * np.std(curves, axis=0, ddof=1) / np.sqrt(len(curves)))


def _numbers(values: Array) -> list[float | None]:
    """As a list of JSON."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]
