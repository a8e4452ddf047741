"""Datasets: labelled frames as tensors, in memory or on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms

from hff_ase.batch import AtomsBatch
from hff_ase.data.database import frame_sizes, open_database, read_row
from hff_ase.data.frames import in_own_names
from hff_ase.data.labels import Frame, labels_of
from hff_ase.errors import StructureError
from hff_ase.potential import HybridPotential


class Dataset(Protocol):
    """The data of a trainer: frames by index, and their sizes without reading them."""

    n_atoms: np.ndarray  # [n_frames]

    def __len__(self) -> int:
        """Number of frames."""

    def __getitem__(self, k: int, /) -> Frame:
        """One frame as a batch of one system and its labels."""

    def source(self, k: int, /) -> str:
        """Name of a frame in messages (file and index)."""


class MemoryDataset:
    """Frames that are all in memory.

    Args:
        frames: batches, of one system each as a rule, with their labels.
        sources: what messages call them (file and index).
    """

    def __init__(self, frames: list[Frame], sources: Sequence[str] | None = None) -> None:
        self.frames = frames
        self.sources = list(sources or (f"frame {k}" for k in range(len(frames))))
        self.n_atoms = np.array([batch.n_atoms for batch, _ in frames], dtype=np.int64)

    def source(self, k: int) -> str:
        """Name of a frame in messages."""
        return self.sources[k]

    @classmethod
    def from_atoms(
        cls, frames: Sequence[Atoms], fixed: HybridPotential | None = None
    ) -> MemoryDataset:
        """Tensors of the frames, with the contribution of fixed terms subtracted.

        Raises:
            StructureError: a frame or its labels cannot be used; names the frame.
        """
        made = [frame_of(atoms, fixed) for atoms in frames]
        return cls(made, [str(a.info.get("source", f"frame {k}")) for k, a in enumerate(frames)])

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, k: int) -> Frame:
        return self.frames[k]


class DatabaseDataset:
    """Frames in an ASE database (.db: SQLite, .aselmdb: LMDB), read one at a time.

    Nothing but their sizes and ids is kept in memory. Copies in other processes open the file
    anew.

    Args:
        path: the database; see `hff_ase.data.database.write_database`.
        fixed: a potential without trainable parameters, subtracted from the labels when read.

    Raises:
        StructureError: the database does not exist or is empty.
    """

    def __init__(self, path: Path | str, fixed: HybridPotential | None = None) -> None:
        self.path, self.fixed = Path(path), fixed
        self.ids, self.n_atoms = frame_sizes(self.path)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, k: int) -> Frame:
        return frame_of(self.atoms(k), self.fixed)

    def atoms(self, k: int) -> Atoms:
        """A frame of the database, as `hff_ase.data.frames.read_frames` would give it."""
        row = read_row(open_database(self.path), int(self.ids[k]), self.source(k))
        return in_own_names([row], self.path)[0]

    def source(self, k: int) -> str:
        """Name of a frame in messages: the file's name and the index."""
        return f"{self.path.stem}:{k}"


def frame_of(atoms: Atoms, fixed: HybridPotential | None = None) -> Frame:
    """One frame as tensors, with the contribution of `fixed` subtracted.

    Raises:
        StructureError: the structure or its labels cannot be used; names the frame.
    """
    try:
        batch = AtomsBatch.from_atoms(atoms)
    except StructureError as error:
        source = atoms.info.get("source", "?") if isinstance(atoms, Atoms) else "?"
        raise StructureError(f"{error} in frame {source}") from None
    frame = batch, labels_of([atoms])
    return frame if fixed is None else less_fixed(frame, fixed)


def less_fixed(frame: Frame, fixed: HybridPotential) -> Frame:
    """The frame with the energy, forces and stress of `fixed` subtracted from its labels."""
    batch, labels = frame
    part = fixed(batch)
    if part.forces is None or part.stress is None:
        raise ValueError("expected an evaluation with forces and stress")
    return batch, replace(
        labels,
        energy=labels.energy - part.energy.detach(),
        forces=labels.forces - part.forces.detach(),
        stress=labels.stress - part.stress.detach(),
    )
