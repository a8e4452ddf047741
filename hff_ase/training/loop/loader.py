"""The frames of each step in order, without end, from any point of any epoch."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler

from hff_ase.data.dataset import Dataset
from hff_ase.data.labels import Frame
from hff_ase.training.config import BatchingSection
from hff_ase.training.loop.batching import deal, edge_counts, epoch_batches
from hff_ase.training.loop.distributed import Processes


@dataclass(frozen=True)
class Place:
    """Position in a run: the next batch of an epoch."""

    epoch: int = 0
    index: int = 0


class Batches:
    """The batches of every epoch: a function of the seed alone, the same in all processes."""

    def __init__(
        self, dataset: Dataset, section: BatchingSection, seed: int, cutoff: float
    ) -> None:
        self._section, self._seed = section, seed
        self.costs = dataset.n_atoms
        if section.max_edges is not None:
            self.costs = edge_counts(dataset, cutoff)
        self._epochs: dict[int, list[list[int]]] = {}

    def of(self, epoch: int) -> list[list[int]]:
        """The frames of each batch of an epoch."""
        if epoch not in self._epochs:
            while len(self._epochs) > 1:  # who reads ahead is in the next epoch already
                del self._epochs[min(self._epochs)]
            section = self._section
            self._epochs[epoch] = epoch_batches(
                self.costs, self._seed, epoch, section.batch_size, section.max_edges
            )
        return self._epochs[epoch]

    def walk(self, place: Place) -> Iterator[list[int]]:
        """The frames of every batch from a place on, without end."""
        while True:
            yield self.at(place)
            place = self.after(place)

    def at(self, place: Place) -> list[int]:
        """The frames of a batch."""
        return self.of(place.epoch)[place.index]

    def after(self, place: Place) -> Place:
        """The place of the next batch."""
        last = place.index + 1 >= len(self.of(place.epoch))
        return Place(place.epoch + 1) if last else Place(place.epoch, place.index + 1)


def share_of(batch: Sequence[int], costs: np.ndarray, processes: Processes) -> list[int]:
    """This process's frames of a batch: similar work for every process."""
    if processes.count == 1:
        return list(batch)
    return deal(batch, costs, processes.count)[processes.rank]


class _Shares(Sampler[list[int]]):
    def __init__(self, batches: Batches, place: Place, processes: Processes) -> None:
        self._batches, self._place, self._processes = batches, place, processes

    def __iter__(self) -> Iterator[list[int]]:
        for frames in self._batches.walk(self._place):
            yield share_of(frames, self._batches.costs, self._processes)


def frames_from(
    dataset: Dataset, batches: Batches, place: Place, processes: Processes, workers: int
) -> Iterator[list[Frame]]:
    """This process's frames of every batch from a place on, read by ``workers`` processes."""
    shares = _Shares(batches, place, processes)
    if workers == 0:
        for share in shares:
            yield [dataset[k] for k in share]
        return
    loader: DataLoader[Any] = DataLoader(
        dataset,  # type: ignore[arg-type]  # a map-style dataset is anything with these methods
        batch_sampler=shares,
        collate_fn=pickle.dumps,  # one message instead of a shared file for each small tensor
        num_workers=workers,
        multiprocessing_context="spawn",
    )
    for packed in loader:
        yield pickle.loads(packed)
