"""Whether boxes have settled at constant pressure, why not, and how much longer it will take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hff_ase.dynamics.observables.equilibration import ENOUGH, Equilibration, detect_equilibration
from hff_ase.dynamics.observables.observable import Observable
from hff_ase.dynamics.observables.statistics import mean_with_error

DENSITY, POTENTIAL = "density[g/cm^3]", "potential[eV]"
SHELL = "first shell: "
FORGOTTEN = 0.5  # share of the packed first shells that may be left
LEAST_LONGER = 1.3  # times as long, where a run that is not settled has samples enough


@dataclass(frozen=True)
class Verdict:
    """What was found of the boxes of one state.

    Attributes:
        found: the detector's answer by quantity.
        interval: between samples, ps.
        length: of constant pressure so far, ps, each box.
        density: mean over what has settled, g/cm^3; refused where there is no reliable error.
        means: of the density, of each box, from its own start on.
        packed: share of the cations' neighbours that is still that of the packed box, the largest
            of all boxes.
        least: how long a settled stretch must be, ps.
    """

    found: Mapping[str, Equilibration]
    interval: float
    length: float
    density: Observable
    means: tuple[float, ...]
    packed: float = 0.0
    least: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether everything has."""
        found = all(one.settled for one in self.found.values())
        return found and self.packed <= FORGOTTEN and not self._is_short

    @property
    def start(self) -> float:
        """When everything had settled, ps of constant pressure."""
        return max(one.start for one in self.found.values()) * self.interval

    @property
    def _is_short(self) -> bool:
        return self.length - self.start < self.least - 1e-9

    @property
    def reasons(self) -> list[str]:
        """Why not, a line for each quantity."""
        why = [f"{name}: {one.reason}" for name, one in self.found.items() if not one.settled]
        if not why and self._is_short:
            stretch = self.length - self.start
            why.append(f"settled for {stretch:.1f} ps only, {self.least:g} ps are asked for")
        if self.packed > FORGOTTEN:
            why.append(
                f"{100 * self.packed:.0f} % of the cations' neighbours are still those packed"
            )
        return why

    @property
    def needs(self) -> float:
        """Likely length of constant pressure until all has settled, ps; 0 if it has.

        A run that drifts, or whose boxes differ, may need any time: as long again as it took is
        the least that can tell. One with too few samples needs as many more as are missing. Of
        infinity for a series that does not change.
        """
        if self.settled:
            return 0.0
        factors = [1.0 if one.settled else self._factor(one) for one in self.found.values()]
        factors.append((self.start + self.least) / self.length)
        if self.packed >= 1.0:
            factors.append(math.inf)
        elif self.packed > FORGOTTEN:  # as if it fell exponentially
            factors.append(math.log(FORGOTTEN) / math.log(self.packed))
        return self.length * max(factors)

    def _factor(self, one: Equilibration) -> float:
        if one.reason.startswith("constant"):
            return math.inf
        wanted = ENOUGH * math.sqrt(len(one.starts))
        if one.samples >= wanted:
            return 2.0
        share = 1.0 - one.start * self.interval / self.length
        missing = min(wanted / max(one.samples, 1.0), 10.0)
        return max(LEAST_LONGER, 1.0 - share + share * missing)

    def as_dict(self) -> dict[str, Any]:
        """For summary.yaml."""
        details = {
            name: {
                "settled": one.settled,
                "after[ps]": round(one.start * self.interval, 6),
                "independent_samples": round(float(one.samples), 2),
                "reason": one.reason,
            }
            for name, one in self.found.items()
        }
        return {
            "settled": self.settled,
            "after[ps]": round(self.start, 6),
            "constant_pressure[ps]": round(self.length, 6),
            "density[g/cm^3]": self.density.as_dict(0.005),
            "densities_of_boxes[g/cm^3]": [round(mean, 6) for mean in self.means],
            "quantities": details,
            "packed_neighbours_kept": round(self.packed, 4),
            "needs[ps]": round(self.needs, 1) if math.isfinite(self.needs) else None,
        }


def judge(
    series: Mapping[str, Sequence[np.ndarray]],
    interval: float,
    packed: float = 0.0,
    least: float = 0.0,
) -> Verdict:
    """Look at what boxes of one state did since constant pressure began.

    Args:
        series: by quantity, [n_samples] of each box, sampled together; with `DENSITY`. Those of
            one quantity may be sampled less often than the others: their interval is then longer.
        interval: between samples of the density, ps.
        packed, least: as in `Verdict`.
    """
    n_samples = min(len(one) for one in series[DENSITY])
    found = {}
    for name, boxes in series.items():
        length = min(len(one) for one in boxes)
        one = detect_equilibration([box[:length] for box in boxes])
        stretch = n_samples / length
        start = round(one.start * stretch)
        starts = tuple(round(own * stretch) for own in one.starts)
        found[name] = Equilibration(start, starts, one.samples, one.settled, one.reason)
    start = max(one.start for one in found.values())
    boxes = [box[start:n_samples] for box in series[DENSITY]]
    density = mean_with_error(boxes, interval, "g/cm^3", "mean at constant pressure")
    own = found[DENSITY].starts
    means = [float(box[k:].mean()) for box, k in zip(series[DENSITY], own, strict=True)]
    return Verdict(found, interval, n_samples * interval, density, tuple(means), packed, least)


def why_not(verdicts: Mapping[str, Verdict]) -> tuple[str, str, str]:
    """Why not all states have settled, how long it likely takes, and that as a time to ask for."""
    waiting = {name: one for name, one in verdicts.items() if not one.settled}
    if not waiting:  # at the last look, for the first time
        return "settled at the last look only", "look again", "TIME"
    told = "; ".join(f"{name}: {', '.join(one.reasons)}" for name, one in waiting.items())
    needs = max(one.needs for one in waiting.values())
    if not math.isfinite(needs):
        return (
            told,
            "the time needed cannot be estimated from a series that does not change",
            "TIME",
        )
    return told, f"likely needs {needs:.0f} ps", f"{needs:.0f}ps"
