"""A short trainer: Adam with warm-up and cosine decay, averaged weights, exact resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import cast

import torch
from ase import Atoms
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hff_ase.batch import AtomsBatch
from hff_ase.files import write_whole
from hff_ase.potential import HybridPotential
from hff_ase.training.frames import Labels, stack_labels
from hff_ase.training.losses import LossWeights, differences, loss


@dataclass(frozen=True)
class TrainSettings:
    """How to train; everything a rerun needs beside the frames and the potential.

    All but the last `final_fraction` of the steps minimise `weights`, mostly forces; the rest
    `final_weights`, in which energies and stress count for more. One box has one stress: while the
    learning rate is high its noise would drown the forces.
    """

    steps: int = 54_000
    batch_size: int = 1
    learning_rate: float = 2e-3
    final_learning_rate: float = 1e-5
    warmup: int = 500
    ema_decay: float = 0.999
    clip: float = 10.0
    seed: int = 0
    validate_every: int = 2000
    weights: LossWeights = field(default_factory=LossWeights)
    final_weights: LossWeights = field(
        default_factory=lambda: LossWeights(energy=10.0, stress=5e3, charges=10.0)
    )
    final_fraction: float = 0.15


@dataclass(frozen=True)
class Dataset:
    """Frames with labels from which the contribution of fixed terms has been taken off."""

    batches: list[AtomsBatch]
    labels: list[Labels]

    def __len__(self) -> int:
        return len(self.batches)

    def merged(self, indices: Sequence[int]) -> tuple[AtomsBatch, Labels]:
        """Some frames as one batch."""
        return merge_batches([self.batches[k] for k in indices]), Labels(
            *(
                torch.cat([getattr(self.labels[k], name) for k in indices])
                for name in ("energy", "forces", "stress", "charges")
            )
        )


def merge_batches(batches: Sequence[AtomsBatch]) -> AtomsBatch:
    """One batch of all systems, in order (molecule ids are left out)."""
    if len(batches) == 1:
        return batches[0]
    n_before = torch.cumsum(torch.tensor([0, *(b.n_systems for b in batches[:-1])]), 0).tolist()
    return AtomsBatch(
        positions=torch.cat([b.positions for b in batches]),
        numbers=torch.cat([b.numbers for b in batches]),
        system=torch.cat([b.system + n for b, n in zip(batches, n_before, strict=True)]),
        cell=torch.cat([b.cell for b in batches]),
        periodic=torch.cat([b.periodic for b in batches]),
        charge=torch.cat([b.charge for b in batches]),
    )


def prepare(frames: Sequence[Atoms], fixed: HybridPotential | None) -> Dataset:
    """Tensors of the frames, less what terms without trainable parameters contribute."""
    batches, labels = [], []
    for atoms in frames:
        batch, label = AtomsBatch.from_atoms(atoms), stack_labels([atoms])
        if fixed is not None:
            part = fixed(batch)
            if part.forces is None or part.stress is None:
                raise ValueError("expected an evaluation with forces and stress")
            label = Labels(
                label.energy - part.energy,
                label.forces - part.forces,
                label.stress - part.stress,
                label.charges,
            )
        batches.append(batch)
        labels.append(label)
    return Dataset(batches, labels)


def fit_reference_energies(dataset: Dataset, numbers: Sequence[int]) -> Tensor:
    """Least-squares energy per element [len(numbers)], eV."""
    counts = torch.stack(
        [
            torch.bincount(b.numbers, minlength=max(numbers) + 1)[list(numbers)]
            for b in dataset.batches
        ]
    ).double()
    energies = torch.cat([label.energy for label in dataset.labels])
    # Compositions can be collinear: the minimum-norm solution of a pseudo-inverse always exists.
    return torch.linalg.pinv(counts, rtol=1e-8) @ energies


def evaluate(potential: HybridPotential, dataset: Dataset) -> dict[str, float]:
    """Root mean square and mean absolute errors per property over a dataset."""
    squares: dict[str, float] = {}
    absolute: dict[str, float] = {}
    counts: dict[str, int] = {}
    for batch, label in zip(dataset.batches, dataset.labels, strict=True):
        for name, error in differences(batch, potential(batch), label).items():
            squares[name] = squares.get(name, 0.0) + float(error.square().sum())
            absolute[name] = absolute.get(name, 0.0) + float(error.abs().sum())
            counts[name] = counts.get(name, 0) + error.numel()
    out = {f"{name}_rmse": math.sqrt(squares[name] / n) for name, n in counts.items() if n}
    return out | {f"{name}_mae": absolute[name] / n for name, n in counts.items() if n}


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, then cosine decay to the final rate."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
    span = settings.learning_rate - settings.final_learning_rate
    return settings.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def train(
    potential: HybridPotential,
    dataset: Dataset,
    validation: Dataset,
    settings: TrainSettings,
    folder: Path,
    report: Callable[[dict[str, float]], None] = lambda row: None,
) -> HybridPotential:
    """Train in place and return the potential with averaged weights.

    A run killed at any moment goes on from ``folder/state.pt`` when started again with the same
    settings; ``folder/curve.jsonl`` holds the learning curve.
    """
    optimizer = torch.optim.Adam(
        [p for p in potential.parameters() if p.requires_grad], amsgrad=True
    )
    average = AveragedModel(
        potential, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay), use_buffers=False
    )
    averaged = cast(HybridPotential, average.module)
    state, first = folder / "state.pt", 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        potential.load_state_dict(saved["potential"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    start, recent = time.monotonic(), 0.0
    for step in range(first, settings.steps):
        batch, labels = dataset.merged(_draw(step, len(dataset), settings))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        optimizer.zero_grad(set_to_none=True)
        errors = differences(batch, potential(batch, create_graph=True), labels)
        late = step >= (1.0 - settings.final_fraction) * settings.steps
        loss(errors, settings.final_weights if late else settings.weights).backward()
        torch.nn.utils.clip_grad_norm_(potential.parameters(), settings.clip)
        optimizer.step()
        average.update_parameters(potential)
        recent += float(errors["forces"].detach().square().mean())
        if (step + 1) % settings.validate_every == 0 or step + 1 == settings.steps:
            n_recent = (step % settings.validate_every) + 1
            row = {"step": step + 1, "seconds": time.monotonic() - start}
            row |= {"train_forces_rmse": math.sqrt(recent / n_recent)}
            row |= evaluate(averaged, validation)
            recent = 0.0
            _save(state, potential, average, optimizer, step + 1)
            with (folder / "curve.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            report(row)
    (folder / "settings.json").write_text(json.dumps(asdict(settings), indent=1))
    return averaged


def _draw(step: int, n_frames: int, settings: TrainSettings) -> list[int]:
    """The frames of a step: a fresh permutation per epoch, a function of seed and step alone."""
    chosen = []
    for count in range(step * settings.batch_size, (step + 1) * settings.batch_size):
        epoch, index = divmod(count, n_frames)
        generator = torch.Generator().manual_seed(settings.seed * 100_003 + epoch)
        chosen.append(int(torch.randperm(n_frames, generator=generator)[index]))
    return chosen


def _save(
    path: Path,
    potential: HybridPotential,
    average: AveragedModel,
    optimizer: torch.optim.Optimizer,
    step: int,
) -> None:
    state = {
        "potential": potential.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
    }
    buffer = BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())
