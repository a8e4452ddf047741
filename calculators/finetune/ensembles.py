"""Ensembles: equilibrated samples of one state, kept for reweighting."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.files import write_whole
from hff_ase.topology import perceive
from hff_ase.units import BAR

__all__ = ["Ensemble"]

Array = NDArray[np.float64]
LEAST = 20  # samples: with fewer the covariance is meaningless
AT_ONCE = 2000  # atoms in a batch


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Samples of a liquid (or of a molecule alone) at one temperature and pressure, or volume.

    Attributes:
        liquid: as targets call it.
        temperature: K.
        pressure: bar; None at constant volume.
        numbers: atomic numbers [n_atoms].
        masses: [n_atoms], amu.
        molecule: of each atom, [n_atoms].
        positions: [n, n_atoms, 3], Angstrom.
        cells: [n, 3, 3]; zero for a molecule in vacuum.
        replica: [n], which run each sample is of, samples in order of time.
        interval: between samples of a run, ps.
        charge: of the system, e.

    Raises:
        ConfigError: arrays that do not fit, or fewer samples than `LEAST`.
    """

    liquid: str
    temperature: float
    pressure: float | None
    numbers: NDArray[np.int64]
    masses: Array
    molecule: NDArray[np.int64]
    positions: Array
    cells: Array
    replica: NDArray[np.int64]
    interval: float = 1.0
    charge: float = 0.0

    def __post_init__(self) -> None:
        """Check the arrays."""
        n = len(self.positions)
        if self.positions.shape != (n, len(self.numbers), 3) or self.cells.shape != (n, 3, 3):
            raise ConfigError(
                f"expected positions [n, n_atoms, 3] and cells [n, 3, 3] of {self.liquid}, got "
                f"{self.positions.shape} and {self.cells.shape}"
            )
        if n < LEAST:
            raise ConfigError(
                f"expected at least {LEAST} samples of {self.liquid} at {self.temperature:g} K, "
                f"got {n}: sample for longer"
            )

    @classmethod
    def of(
        cls,
        runs: Sequence[Sequence[Atoms]],
        liquid: str,
        temperature: float,
        pressure: float | None,
        interval: float = 1.0,
    ) -> Ensemble:
        """From the structures of several runs.

        Args:
            runs: frames of each, of the same atoms in the same order.
            liquid: its name.
            temperature: K.
            pressure: bar; None at constant volume.
            interval: between frames, ps.

        Raises:
            ConfigError: no structures, or others than in the first.
        """
        frames = [atoms for run in runs for atoms in run]
        if not frames:
            raise ConfigError(f"expected samples of {liquid}, got none")
        first = frames[0]
        for atoms in frames:
            if not np.array_equal(atoms.numbers, first.numbers):
                raise ConfigError(f"expected samples of {liquid} with the same atoms, got others")
        molecule = first.arrays.get("molecule")
        return cls(
            liquid,
            float(temperature),
            None if pressure is None else float(pressure),
            first.numbers.copy(),
            first.get_masses(),
            perceive(first).molecule if molecule is None else np.asarray(molecule),
            np.stack([atoms.positions for atoms in frames]),
            np.stack([atoms.cell.array for atoms in frames]),
            np.repeat(np.arange(len(runs)), [len(run) for run in runs]),
            interval,
            float(first.info.get("charge", 0.0)),
        )

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def beta(self) -> float:
        """1/kT, 1/eV."""
        return 1.0 / (units.kB * self.temperature)

    @property
    def periodic(self) -> bool:
        """Whether this is a liquid and not a molecule alone."""
        return bool(np.any(self.cells))

    @cached_property
    def volumes(self) -> Array:
        """[n], Angstrom^3."""
        return np.asarray(np.abs(np.linalg.det(self.cells)))

    @property
    def n_molecules(self) -> int:
        """In the box."""
        return int(self.molecule.max()) + 1

    @property
    def mass(self) -> float:
        """Of the box, amu."""
        return float(self.masses.sum())

    @property
    def length(self) -> float:
        """Of all replicas together, ps."""
        return self.interval * len(self)

    def reduced(
        self, energy: Array, temperature: float | None = None, pressure: float | None = None
    ) -> Array:
        """beta (U + P V) [n] of each ``energy`` [n], eV, at any temperature and pressure."""
        kelvin = self.temperature if temperature is None else temperature
        bar = self.pressure if pressure is None else pressure
        work = 0.0 if self.pressure is None or bar is None else bar * BAR * self.volumes
        return np.asarray((energy + work) / (units.kB * kelvin))

    def atoms(self, sample: int) -> Atoms:
        """One sample."""
        atoms = Atoms(
            self.numbers,
            self.positions[sample],
            cell=self.cells[sample],
            pbc=self.periodic,
            masses=self.masses,
        )
        atoms.set_array("molecule", self.molecule)
        atoms.info["charge"] = self.charge
        return atoms

    def batches(self, samples: Sequence[int] | None = None) -> Iterator[AtomsBatch]:
        """Samples in batches of about `AT_ONCE` atoms."""
        chosen = list(range(len(self)) if samples is None else samples)
        size = max(1, AT_ONCE // len(self.numbers))
        for start in range(0, len(chosen), size):
            yield AtomsBatch.from_atoms([self.atoms(k) for k in chosen[start : start + size]])

    def every(self, stride: int) -> Ensemble:
        """Every n-th sample of every replica."""
        keep = np.concatenate(
            [np.flatnonzero(self.replica == r)[::stride] for r in np.unique(self.replica)]
        )
        return replace(
            self,
            positions=self.positions[keep],
            cells=self.cells[keep],
            replica=self.replica[keep],
            interval=self.interval * stride,
        )

    def joined(self, others: Sequence[Ensemble]) -> Ensemble:
        """These samples and those of other runs of the same box.

        Raises:
            ConfigError: other atoms, or a volume that is fixed in one and not in the other.
        """
        first = 0
        replicas = []
        for one in (self, *others):
            if not np.array_equal(one.numbers, self.numbers) or (
                (one.pressure is None) != (self.pressure is None)
            ):
                raise ConfigError(f"expected ensembles of {self.liquid} of one box, got others")
            replicas.append(one.replica + first)
            first = int(replicas[-1].max()) + 1
        return replace(
            self,
            positions=np.concatenate([one.positions for one in (self, *others)]),
            cells=np.concatenate([one.cells for one in (self, *others)]),
            replica=np.concatenate(replicas),
        )

    def save(self, path: str | Path) -> None:
        """Write a .npz file, whole or not at all."""
        buffer = io.BytesIO()
        arrays = {name: getattr(self, name) for name in ARRAYS}
        numbers = np.array([self.temperature, np.nan if self.pressure is None else self.pressure,
                            self.interval, self.charge])  # fmt: skip
        np.savez_compressed(buffer, **arrays, numbers_of=numbers, liquid=np.array(self.liquid))
        write_whole(Path(path), buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> Ensemble:
        """Read what `save` wrote.

        Raises:
            ConfigError: no such file, or another one.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ARRAYS}
                kelvin, bar, interval, charge = file["numbers_of"].tolist()
                liquid = str(file["liquid"])
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ConfigError(f"expected an ensemble in {path}, got: {error}") from None
        pressure = None if np.isnan(bar) else bar
        return cls(liquid, kelvin, pressure, interval=interval, charge=charge, **arrays)


ARRAYS = ("numbers", "masses", "molecule", "positions", "cells", "replica")
