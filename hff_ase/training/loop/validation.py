"""Errors of a potential over a dataset, in batches, without a graph."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from hff_ase.data.dataset import Dataset
from hff_ase.data.labels import collate, to_device
from hff_ase.potential import HybridPotential
from hff_ase.training.loop.distributed import Processes
from hff_ase.training.loop.step import Squares, add_squares, is_out_of_memory, summed
from hff_ase.training.losses import differences, squares

ATOMS_AT_ONCE = 2000  # enough to fill both cores of a laptop, little enough for its memory


def evaluate(
    potential: HybridPotential,
    dataset: Dataset,
    processes: Processes | None = None,
    device: torch.device | None = None,
) -> Squares:
    """Sum of squared errors and their number per property, over all processes."""
    processes = processes or Processes()
    device = device or torch.device("cpu")
    total: Squares = {}
    for chunk in _chunks(dataset.n_atoms, processes):
        add_squares(total, _errors(potential, dataset, chunk, device))
    return summed(total, processes)


def rmse(sums: Squares) -> dict[str, float]:
    """Root mean squares by property."""
    return {f"{name}_rmse": math.sqrt(value / n) for name, (value, n) in sums.items() if n}


def _errors(
    potential: HybridPotential, dataset: Dataset, chunk: list[int], device: torch.device
) -> Squares:
    frame = collate([dataset[k] for k in chunk])
    batch, labels = frame if device.type == "cpu" else to_device(frame, device)
    try:
        return squares(differences(batch, potential(batch), labels))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or len(chunk) == 1:
            raise
    total = _errors(potential, dataset, chunk[: len(chunk) // 2], device)
    add_squares(total, _errors(potential, dataset, chunk[len(chunk) // 2 :], device))
    return total


def _chunks(n_atoms: np.ndarray, processes: Processes) -> Iterator[list[int]]:
    """This process's frames in runs of about so many atoms."""
    chunk: list[int] = []
    total = 0
    for index in range(processes.rank, len(n_atoms), processes.count):
        if chunk and total + n_atoms[index] > ATOMS_AT_ONCE:
            yield chunk
            chunk, total = [], 0
        chunk.append(index)
        total += int(n_atoms[index])
    if chunk:
        yield chunk
