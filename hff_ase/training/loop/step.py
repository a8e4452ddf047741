"""One step of training: gradient of a batch over micro-batches and processes, and the update."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.data.labels import Frame, collate, to_device
from hff_ase.errors import ConfigError, HFFWarning
from hff_ase.neighbors import NeighborList
from hff_ase.pair_source import PairSource
from hff_ase.potential import HybridPotential
from hff_ase.training.displaced import JoinedList
from hff_ase.training.gradients import SKIN, accumulate_gradients, has_directional
from hff_ase.training.loop.distributed import Processes
from hff_ase.training.loop.foreach import zero_all
from hff_ase.training.loop.optim import trainable
from hff_ase.training.losses import PROPERTIES, LossWeights, label_counts

Squares = dict[str, tuple[float, float]]  # sum of squared errors and their number, per property
KEPT_ATOMS = 2_000_000  # atoms whose neighbours are remembered, about 1.5 kB each


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "allocate mem" in text)


def add_squares(total: Squares, part: Mapping[str, tuple[float, float]]) -> None:
    """Add up sums of squares in place."""
    for name, (value, count) in part.items():
        before = total.get(name, (0.0, 0.0))
        total[name] = before[0] + value, before[1] + count


def summed(squares: Squares, processes: Processes) -> Squares:
    """Sums of squares over all processes."""
    if processes.count == 1:
        return squares
    flat = [value for name in PROPERTIES for value in squares.get(name, (0.0, 0.0))]
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    both = processes.sum(torch.tensor(flat, dtype=torch.float64, device=device)).tolist()
    pairs = zip(PROPERTIES, both[::2], both[1::2], strict=True)
    return {name: (value, count) for name, value, count in pairs if count}


@dataclass
class StepResult:
    """The result of a step.

    Attributes:
        squares: of this process's frames.
        finite: whether loss and gradient were, over all processes.
        extra: the sums over processes of the extra numbers.
    """

    squares: Squares
    finite: bool
    extra: list[float]


@dataclass
class Stepper:
    """Takes steps.

    Attributes:
        micro_batch: the most frames that are evaluated at once; halved where memory runs out, which
            changes nothing but speed: means are taken over the whole batch.
        same_frames: the frames of every epoch are the same objects, so that their neighbours need
            to be searched once only.
    """

    potential: HybridPotential
    optimizer: torch.optim.Optimizer
    device: torch.device
    processes: Processes
    method: str = "auto"
    clip: float | None = None
    micro_batch: int | None = None
    same_frames: bool = False
    parameters: list[Tensor] = field(init=False)
    _lists: dict[AtomsBatch, NeighborList] = field(init=False, default_factory=dict)
    _kept_atoms: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.parameters = trainable(self.potential)
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    def step(
        self,
        frames: Sequence[Frame],
        weights: LossWeights,
        rate: float,
        extra: Sequence[float] = (),
    ) -> StepResult:
        """Update the parameters from this process's share of a batch (which may be empty).

        Args:
            extra: numbers to sum over all processes along with the gradients.

        Raises:
            ConfigError: one frame alone does not fit into memory.
        """
        squares = self._gradient(frames, weights)
        finite = all(math.isfinite(value) for value, _ in squares.values())
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        n_bad, *sums = self.processes.sum_all(gradients, (float(not finite), *extra))
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip or math.inf)
        if n_bad or not math.isfinite(float(norm)):
            return StepResult(squares, finite=False, extra=sums)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return StepResult(squares, finite=True, extra=sums)

    def _gradient(self, frames: Sequence[Frame], weights: LossWeights) -> Squares:
        counts = self._counts(frames)  # every process once, however often memory runs out
        sync = None
        if weights.remove_energy_mean and self.processes.count > 1:
            sync = self.processes.sum
            if not any(bool(torch.isfinite(labels.energy).any()) for _, labels in frames):
                raise ConfigError(
                    "expected energies in the share of every process with loss.remove_energy_mean, "
                    "got none: use a larger batching.batch_size"
                )
        while True:
            squares: Squares = {}
            zero_all([p.grad for p in self.parameters if p.grad is not None])
            try:
                for part_frames in self.parts(frames):
                    batch, labels = self.joined(part_frames)
                    part = accumulate_gradients(
                        self.potential,
                        batch,
                        labels,
                        weights,
                        counts=counts,
                        method=self.method,
                        sync=sync,
                        neighbors=self._neighbors(part_frames, weights),
                    )
                    add_squares(squares, part)
                return squares
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._smaller(frames, weights)  # here the failed evaluation's memory is free again
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def parts(self, frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
        """The frames in micro-batches, one after the other."""
        size = self.micro_batch or max(len(frames), 1)
        for start in range(0, len(frames), size):
            yield frames[start : start + size]

    def joined(self, frames: Sequence[Frame]) -> Frame:
        """Several frames as one batch on the device."""
        batch = collate(frames)
        return batch if self.device.type == "cpu" else to_device(batch, self.device)

    def _neighbors(self, frames: Sequence[Frame], weights: LossWeights) -> PairSource | None:
        """The neighbours of several frames, found when each was first used."""
        if not self.same_frames or not has_directional(self.potential, weights, self.device):
            return None
        return JoinedList([self._list_of(batch) for batch, _ in frames], self.potential)

    def _list_of(self, batch: AtomsBatch) -> NeighborList:
        known = self._lists.get(batch)
        if known is not None:
            return known
        neighbors = self.potential.neighbor_list(SKIN)
        neighbors.update(batch)
        if self._kept_atoms + batch.n_atoms <= KEPT_ATOMS:
            self._kept_atoms += batch.n_atoms
            self._lists[batch] = neighbors
        return neighbors

    def _counts(self, frames: Sequence[Frame]) -> dict[str, float]:
        """Labelled numbers per property in the whole batch, over all processes."""
        total = dict.fromkeys(PROPERTIES, 0.0)
        for _, labels in frames:
            for name, count in label_counts(labels).items():
                total[name] += count
        if self.processes.count > 1:
            flat = torch.tensor(list(total.values()), dtype=torch.float64, device=self.device)
            total = dict(zip(total, self.processes.sum(flat).tolist(), strict=True))
        return total

    def _smaller(self, frames: Sequence[Frame], weights: LossWeights) -> None:
        size = min(self.micro_batch or len(frames), len(frames))
        if size <= 1:
            raise ConfigError(
                "expected single frames that fit into memory, got "
                f"{max(batch.n_atoms for batch, _ in frames)} atoms: use smaller frames or a "
                "smaller network"
            )
        if weights.remove_energy_mean:
            raise ConfigError(
                "expected a batch that fits into memory with loss.remove_energy_mean, whose mean "
                f"is over the whole batch, got {len(frames)} frames per process: use a smaller "
                "batching.batch_size"
            )
        self.micro_batch = size // 2
        warnings.warn(
            f"out of memory with {size} frames at once: continuing with {self.micro_batch} "
            "(the gradient is still that of the whole batch)",
            HFFWarning,
            stacklevel=4,
        )
