"""The arrays of a state point that observables take, each read once and only when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from hff_ase.dynamics.observables.contacts import Contacts, find_contacts
from hff_ase.dynamics.observables.equilibration import detect_equilibration, equilibration_time
from hff_ase.dynamics.observables.rdf import PairDistributions, first_minimum, pair_distributions
from hff_ase.dynamics.observables.topology import Topology
from hff_ase.dynamics.observables.trajectory import Trajectory, centres, centres_of
from hff_ase.dynamics.properties.frames import KEPT, Frames, Progress
from hff_ase.dynamics.properties.state import GAS, PRESSURE, VOLUME, StatePoint, Stretch
from hff_ase.dynamics.reporters.statistics import PLANES, read_statistics
from hff_ase.errors import ConfigError

Array = NDArray[np.float64]
DENSITY, POTENTIAL, CELL_VOLUME = "density[g/cm^3]", "potential[eV]", "volume[A^3]"
LATEST = 0.5  # of a stretch at constant volume: no later start is taken
PAIRS_COUNTED = 2e6  # frames times atoms that distances are counted in
CONTACTS_COUNTED = 2e7  # the same for contacts, of which there are few
CHARGES_KEPT = 2e7  # frames times atoms of one replica
DONORS = ("N", "O", "F", "S", "Cl", "Br", "I", "P")
WIDTH, WIDE = 0.02, 0.1  # Angstrom, shells of g(r) of atoms, and of the fewer centres
BINDING, FALLBACK = ("N", "O", "F"), 2.8  # Angstrom: where g(r) has no first minimum yet


class Material:
    """The data that the runs of a state point hold.

    Args:
        state: the state point.
        progress: called with numbers of frames as they are read.
    """

    def __init__(self, state: StatePoint, progress: Progress | None = None) -> None:
        self.state, self._progress = state, progress
        self._frames: dict[Stretch, Frames] = {}

    # --- rows of numbers ----------------------------------------------------------------------

    @cache  # noqa: B019  (as long-lived as the material)
    def rows(self, held: str) -> tuple[list[dict[str, Array]], float]:
        """Columns of the equilibrated rows of each replica, and the time between rows, ps.

        Raises:
            ConfigError: no stretch of that kind, or none with rows.
        """
        if any(one.statistics is None for one in self.stretches(held)):
            raise ConfigError("expected rows of volume and energy, got a trajectory alone")
        found = [table for _, table in self._begun(held)]
        interval = float(np.median(np.diff(found[0]["time[ps]"])))
        start = self._start(held, found)
        return [{name: one[start:] for name, one in rows.items()} for rows in found], interval

    @cache  # noqa: B019
    def _begun(self, held: str) -> list[tuple[Stretch, dict[str, Array]]]:
        """The stretches of our own runs that have rows, with them.

        Raises:
            ConfigError: none has.
        """
        found = []
        for stretch in self.state.held(held):
            if stretch.statistics is None:
                continue
            table = read_statistics(stretch.statistics)
            inside = np.isin(table["stage"], stretch.stages)
            inside &= table["time[ps]"] >= _begin(table, inside) + stretch.skip
            if inside.sum() > 1:
                found.append((stretch, {name: column[inside] for name, column in table.items()}))
        if not found:
            raise ConfigError(f"expected a run at constant {held} that has begun, got no rows yet")
        return found

    def _start(self, held: str, rows: list[dict[str, Array]]) -> int:
        """First row from which everything is equilibrated, by its own series."""
        if held == PRESSURE:
            starts = []
            for name in (DENSITY, POTENTIAL):
                found = detect_equilibration([one[name] for one in rows])
                starts.append(found.start)
                if not found.settled:
                    self.doubts[name] = found.reason
            return max(starts)
        latest = int(LATEST * min(len(one["step"]) for one in rows))
        return min(max(equilibration_time(one[POTENTIAL]) for one in rows), latest)

    @cached_property
    def doubts(self) -> dict[str, str]:
        """Why constant pressure has not settled, by quantity; filled when its rows are read."""
        return {}

    @cache  # noqa: B019
    def tensors(self) -> tuple[list[Array], float]:
        """Pressure tensors [n_samples, 6] of each replica at constant volume, bar; interval, ps.

        Raises:
            ConfigError: none were written.
        """
        kept = []
        times = self._times(VOLUME)
        for stretch, (first, last) in zip(self.stretches(VOLUME), times, strict=True):
            if stretch.tensor is None:
                raise ConfigError(
                    "expected pressure tensors every 5 to 10 fs (--pressure-interval), got none"
                )
            table = read_statistics(stretch.tensor)
            inside = (table["time[ps]"] >= first - 1e-9) & (table["time[ps]"] <= last + 1e-9)
            kept.append({name: column[inside] for name, column in table.items()})
        if min(len(one["step"]) for one in kept) < 2:
            raise ConfigError("expected a run that has begun, got no pressure tensors yet")
        interval = float(np.median(np.diff(kept[0]["time[ps]"])))
        return [np.stack([one[f"P{p}[bar]"] for p in PLANES], axis=1) for one in kept], interval

    def _times(self, held: str) -> list[tuple[float, float]]:
        """First and last time of the equilibrated part of each replica, ps."""
        rows, _ = self.rows(held)
        return [(float(one["time[ps]"][0]), float(one["time[ps]"][-1])) for one in rows]

    def stretches(self, held: str) -> list[Stretch]:
        """The stretches at constant pressure or volume.

        Raises:
            ConfigError: none; says what to run.
        """
        found = list(self.state.held(held))
        if found and found[0].statistics is not None:
            return [stretch for stretch, _ in self._begun(held)]
        if found:
            return found
        if held == VOLUME:
            raise ConfigError(
                "expected a run at constant volume, got a barostat only, which moves the "
                "molecules: add a stage (nvt-nhc or nve)"
            )
        if held == GAS:
            raise ConfigError(
                "expected single molecules in the gas, got none: hff properties runs them where "
                "--property heat_of_vaporisation asks for it"
            )
        raise ConfigError("expected a run at constant pressure, got none: add a stage (npt)")

    # --- frames -------------------------------------------------------------------------------

    def frames(self, held: str) -> list[Frames]:
        """The equilibrated frames of each replica."""
        stretches = self.stretches(held)
        own = all(one.statistics is not None for one in stretches)
        times: list[tuple[float, float] | None] = list(self._times(held)) if own else []
        for k, stretch in enumerate(stretches):
            if stretch not in self._frames:
                window = times[k] if own else None
                room = KEPT / len(stretches)
                self._frames[stretch] = Frames(stretch, window, self._progress, room)
        return [self._frames[stretch] for stretch in stretches]

    @cached_property
    def centres(self) -> list[Trajectory]:
        """Centres of molecules at constant volume, of each replica."""
        return [centres_of(frames) for frames in self.frames(VOLUME)]

    @cached_property
    def topology(self) -> Topology:
        """Atoms and molecules."""
        for stretch in self.state.stretches:
            if isinstance(stretch.topology, Topology):
                return stretch.topology
        return next(iter(self.frames(self.sampled)[0])).topology

    @property
    def sampled(self) -> str:
        """Stretches from which structure is computed: at constant volume where available."""
        volume = [one for one in self.state.held(VOLUME) if one.trajectory is not None]
        return VOLUME if volume else PRESSURE

    @cached_property
    def n_frames(self) -> int:
        """Number of frames for structure, over all replicas."""
        return sum(len(part) for frames in self.frames(self.sampled) for part in frames)

    def _every(self, most: float) -> int:
        """Every how many frames to read, so that frames times atoms stay below a limit."""
        return max(round(self.n_frames * self.topology.n_atoms / most), 1)

    # --- structure ----------------------------------------------------------------------------

    @cache  # noqa: B019
    def pairs(
        self, names: tuple[str, ...], sites: str = "atoms", most: float = 10.0
    ) -> PairDistributions:
        """Radial distribution functions of pairs of elements, or of ``centres`` of species, up to
        half the cell, at ``most`` so far (Angstrom)."""
        parts: Iterator[Trajectory] = chain.from_iterable(self.frames(self.sampled))
        if sites == "centres":
            parts = (centres(part) for part in parts)
        reach = min(most, 0.5 * float(self.edge))
        width = WIDTH if sites == "atoms" else WIDE
        every = self._every(PAIRS_COUNTED)
        return pair_distributions(parts, list(names), reach, width, every)

    @cached_property
    def edge(self) -> float:
        """Shortest edge of the first cell, Angstrom."""
        cell = next(iter(self.frames(self.sampled)[0])).cells[0]
        return float(np.linalg.norm(cell, axis=1).min())

    @cache  # noqa: B019
    def cutoffs(self, kind: str) -> dict[str, float]:
        """First minimum of g(r) between a cation and each donor element, Angstrom."""
        topology = self.topology
        centre = topology.symbols[topology.molecule == topology.of_kind(kind)[0]][0]
        donors = [one for one in DONORS if one in topology.symbols]
        found = self.pairs(tuple(f"{centre}-{one}" for one in donors))
        reach = {}
        for donor in donors:
            g = found.g.get(f"{centre}-{donor}")
            if g is None:
                continue
            try:
                reach[donor] = first_minimum(found.distance, g, (1.4, 2.9))
            except ConfigError:  # no first shell, or too few contacts to see one
                if donor in BINDING:
                    reach[donor] = FALLBACK
        return reach

    @cache  # noqa: B019
    def contacts(self, kind: str) -> list[Contacts]:
        """What touches the ions of a species, of each replica."""
        reach, every = self.cutoffs(kind), self.every_of_contacts
        return [find_contacts(one, kind, reach, every) for one in self.frames(self.sampled)]

    @property
    def every_of_contacts(self) -> int:
        """Contacts are computed for every n-th frame, with this n."""
        return self._every(CONTACTS_COUNTED)

    def n_replicas(self, held: str) -> int:
        """Number of replicas with data at constant ``pressure`` or ``volume``."""
        try:
            return len(self.stretches(held))
        except ConfigError:
            return 0

    @property
    def last(self) -> Trajectory | None:
        """The last chunk of the first replica's frames; None if there are none."""
        own = self.state.held(self.sampled)
        if not self.n_replicas(self.sampled) or all(one.trajectory is None for one in own):
            return None
        part = None
        for part in self.frames(self.sampled)[0]:  # noqa: B007  (the last is wanted)
            pass
        return part


def _begin(table: dict[str, Array], inside: NDArray[np.bool_]) -> float:
    """Time of the first row of a stretch, ps."""
    return float(table["time[ps]"][inside].min(initial=np.inf))
