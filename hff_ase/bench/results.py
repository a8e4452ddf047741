"""The numbers of a benchmark, and derived ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

DAY = 86400.0  # s


@dataclass(frozen=True)
class BlockTimes:
    """A time in ms over repeated blocks: each block is the mean of its calls."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> BlockTimes:
        """From the seconds per call of each block."""
        ms = 1e3 * np.asarray(seconds)
        return cls(float(np.median(ms)), float(ms.min()), float(ms.max()))


@dataclass(frozen=True)
class RebuildCount:
    """How often molecular dynamics searched its neighbours again.

    Attributes:
        atoms: of the system that was run.
        steps: that were counted.
        rebuilds: in those steps.
        temperature: of the Langevin dynamics, K.
    """

    atoms: int
    steps: int
    rebuilds: int
    temperature: float

    @property
    def interval(self) -> float:
        """Steps per search; all the steps where none was needed."""
        return self.steps / max(self.rebuilds, 1)


@dataclass(frozen=True)
class AseMD:
    """ASE's velocity Verlet with `HybridFF` against bare force calls at the same positions, ms."""

    md: BlockTimes
    bare: BlockTimes

    @property
    def ratio(self) -> float:
        """What a step of ASE costs in units of the force call."""
        return self.md.median / self.bare.median


@dataclass(frozen=True)
class LoopTimes:
    """Molecular dynamics of the batched engine.

    Attributes:
        step: ms per step, neighbour searches included.
        steps: that were timed.
        rebuilds: neighbour searches in them.
    """

    step: BlockTimes
    steps: int
    rebuilds: int

    def ns_per_day(self, timestep: float) -> float:
        """Simulated time per day and system at a time step in fs."""
        return ns_per_day(self.step.median, timestep)


def ns_per_day(step_ms: float, timestep: float) -> float:
    """Simulated time per day at a time step in fs."""
    return DAY / (1e-3 * step_ms) * 1e-6 * timestep


@dataclass(frozen=True)
class Row:
    """One batch that was measured.

    Attributes:
        name: of the structure.
        atoms: per system.
        systems: copies in the batch.
        step: energy, forces (and stress) with the neighbours of the last step.
        terms: ms that each term adds to the fastest block of steps, in the order of evaluation.
        rebuild_ms: what a step costs more when it searches its neighbours again.
        steps_per_rebuild: of molecular dynamics; None where that was not counted.
        memory: bytes by which memory grew at its peak over a search and some steps; None where
            the system does not tell.
        timestep: fs.
        ase: ASE's overhead, None where it was not asked for.
        dynamics: whole molecular dynamics by ensemble, where it was asked for.
    """

    name: str
    atoms: int
    systems: int
    step: BlockTimes
    terms: dict[str, float]
    rebuild_ms: float
    steps_per_rebuild: float | None
    memory: int | None
    timestep: float
    ase: AseMD | None = None
    dynamics: dict[str, LoopTimes] = field(default_factory=dict)

    @property
    def n_atoms(self) -> int:
        """Atoms of the whole batch."""
        return self.atoms * self.systems

    @property
    def neighbors_ms(self) -> float:
        """Share of a search in each step of molecular dynamics; 0 where it was not counted."""
        return 0.0 if self.steps_per_rebuild is None else self.rebuild_ms / self.steps_per_rebuild

    @property
    def md_step_ms(self) -> float:
        """A step of molecular dynamics: the force call and its share of neighbour searches."""
        return self.step.median + self.neighbors_ms

    @property
    def ns_per_day(self) -> float:
        """Simulated time per day and system at the time step."""
        return ns_per_day(self.md_step_ms, self.timestep)

    @property
    def us_per_atom(self) -> float:
        """Microseconds per atom and step of molecular dynamics."""
        return 1e3 * self.md_step_ms / self.n_atoms

    @property
    def bytes_per_atom(self) -> float | None:
        """Memory per atom of the batch."""
        return None if self.memory is None else self.memory / self.n_atoms

    def as_dict(self) -> dict[str, Any]:
        """As a dict for JSON, with the derived numbers."""
        derived = ("n_atoms", "neighbors_ms", "md_step_ms", "ns_per_day", "us_per_atom")
        out = asdict(self) | {name: getattr(self, name) for name in (*derived, "bytes_per_atom")}
        if self.ase is not None:
            out["ase"]["ratio"] = self.ase.ratio
        for name, times in self.dynamics.items():
            out["dynamics"][name]["ns_per_day"] = times.ns_per_day(self.timestep)
        return out


@dataclass(frozen=True)
class BenchResult:
    """Everything that a benchmark found.

    Attributes:
        settings: model, terms, kernels, threads, device, precision, skin and so on.
        hardware: processor, cores, memory, GPU.
        versions: of packages.
        yardsticks: what the machine does: matrix products (GFLOP/s) and copies (GB/s).
        rebuilds: how often molecular dynamics searched neighbours, None where not counted.
        rows: one per batch.
    """

    settings: dict[str, Any]
    hardware: dict[str, Any]
    versions: dict[str, str | None]
    yardsticks: dict[str, float]
    rebuilds: RebuildCount | None
    rows: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """As a dict for JSON."""
        rebuilds = None
        if self.rebuilds is not None:
            rebuilds = asdict(self.rebuilds) | {"interval": self.rebuilds.interval}
        return {
            "settings": self.settings,
            "hardware": self.hardware,
            "versions": self.versions,
            "yardsticks": self.yardsticks,
            "rebuilds": rebuilds,
            "rows": [row.as_dict() for row in self.rows],
        }
