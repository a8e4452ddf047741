"""A part of a state point's material: the first share of each replica, or one replica alone.

Observables are computed over a `Window`; convergence is the same computation over shorter ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.contacts import Contacts
from hff_ase.dynamics.observables.topology import Topology
from hff_ase.dynamics.observables.trajectory import Trajectory
from hff_ase.dynamics.properties.material import CELL_VOLUME, Material
from hff_ase.dynamics.properties.state import VOLUME

__all__ = ["Window"]

Array = NDArray[np.float64]
Anything = TypeVar("Anything")


@dataclass(frozen=True)
class Window:
    """The data that an observable is computed from.

    Attributes:
        material: of the state point.
        share: of each replica's equilibrated stretch, from its beginning.
        replica: place of the only one that counts; None for all.
        found: quantities computed before over the same window, by name.
    """

    material: Material
    share: float = 1.0
    replica: int | None = None
    found: dict[str, Any] | None = None

    @property
    def temperature(self) -> float:
        """K."""
        return self.material.state.temperature

    @property
    def topology(self) -> Topology:
        """Atoms and molecules."""
        return self.material.topology

    def series(self, held: str, name: str) -> tuple[list[Array], float]:
        """A column of the rows of each replica [n_samples], and the time between rows, ps.

        Args:
            held: what the run holds constant: ``pressure`` or ``volume``.
            name: of the column in statistics.dat.
        """
        rows, interval = self.material.rows(held)
        return [self.cut(one[name]) for one in self.chosen(rows)], interval

    def tensors(self) -> tuple[list[Array], float]:
        """Pressure tensors [n_samples, 6], bar, of each replica; interval, ps."""
        tensors, interval = self.material.tensors()
        return [self.cut(one) for one in self.chosen(tensors)], interval

    def centres(self) -> list[Trajectory]:
        """Centres of molecules at constant volume."""
        runs = self.chosen(self.material.centres)
        return [run.frames(slice(0, self._length(len(run)))) for run in runs]

    def contacts(self, kind: str) -> list[Contacts]:
        """Contacts of the ions of a species."""
        found = []
        for one in self.chosen(self.material.contacts(kind)):
            n = self._length(len(one.times))
            times, pairs, atoms = one.times[:n], one.pairs[:n], one.atoms[:n]
            found.append(replace(one, times=times, pairs=pairs, atoms=atoms))
        return found

    def volume(self) -> float:
        """Volume of the cell at constant volume, averaged over the replicas, Angstrom^3."""
        stretches = self.material.state.held(VOLUME)
        if stretches and stretches[0].statistics is not None:
            return float(np.mean([one.mean() for one in self.series(VOLUME, CELL_VOLUME)[0]]))
        return float(np.mean([run.volumes[0] for run in self.centres()]))

    def length(self, held: str) -> float:
        """Length of the equilibrated parts of all replicas, ps."""
        series, interval = self.series(held, "step")
        return interval * sum(map(len, series))

    def chosen(self, everything: Sequence[Anything]) -> list[Anything]:
        """One replica, or all."""
        if self.replica is None:
            return list(everything)
        return [everything[self.replica]]

    def cut(self, series: Array) -> Array:
        """The beginning of a series."""
        return series[: self._length(len(series))]

    def n_of(self, series: Sequence[Any] | Array) -> int:
        """Samples of a series that are within the share."""
        return self._length(len(series))

    def _length(self, n: int) -> int:
        """Samples of the share."""
        return n if self.share >= 1 else max(int(self.share * n), 1)
