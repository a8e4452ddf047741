"""The training of an alignment: changed pressures, everything else restrained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.errors import ConfigError
from hff_ase.evaluator import Evaluator
from hff_ase.files import write_whole
from hff_ase.neighbors import NeighborList
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential
from hff_ase.training.displaced import JoinedList
from hff_ase.training.fit_config import AlignSettings
from hff_ase.training.gradients import SKIN, backward_of
from hff_ase.units import BAR


class Stop(Protocol):
    """Asked between two steps whether to stop."""

    def check(self) -> None:
        """Raises what ends the training."""


@dataclass(frozen=True, eq=False)
class Held:
    """A frame with the results of the original model and the pressure change of its liquid.

    Attributes:
        batch: one system.
        neighbors: of it, kept.
        before: energy, forces, stress, molecular stress.
        change: wanted, bar; spread: its error.
        rise: wanted of the energy, eV: -p (V - <V>), of which that pressure is the slope.
    """

    batch: AtomsBatch
    neighbors: NeighborList
    before: Evaluation
    change: float
    spread: float
    rise: float


def held_frames(
    potential: HybridPotential,
    ensembles: Sequence[Ensemble],
    changes: Sequence[tuple[float, float]],
    settings: AlignSettings,
) -> tuple[list[list[Held]], list[Held]]:
    """Frames to train on, by liquid, and those to validate on.

    Args:
        potential: before.
        ensembles: of the liquids.
        changes: of the pressure of each, and its error, bar.
        settings: of the alignment.
    """
    evaluator = Evaluator(potential, trajectory=False)
    rng = np.random.default_rng(settings.seed)
    training, validation = [], list[Held]()
    for ensemble, (change, spread) in zip(ensembles, changes, strict=True):
        n = min(settings.frames, len(ensemble))
        chosen = np.linspace(0, len(ensemble) - 1, n).astype(int)
        apart = set(rng.permutation(chosen)[: int(settings.validation * n)].tolist())
        mean = float(ensemble.volumes.mean())
        own: list[Held] = []
        for sample in chosen.tolist():
            (batch,) = ensemble.batches([sample])
            batch = batch.to(potential.known.device)
            neighbors = potential.neighbor_list(SKIN)
            neighbors.update(batch)
            before = evaluator.evaluate(batch, derivatives=["positions", "cell", "molecules"])
            rise = -change * BAR * (float(ensemble.volumes[sample]) - mean)
            frame = Held(batch, neighbors, before, change, spread, rise)
            (validation if sample in apart else own).append(frame)
        training.append(own)
    return training, validation


def objective(result: Evaluation, frames: Sequence[Held], settings: AlignSettings) -> Tensor:
    """The mean over frames of squared deviations over their scales, a scalar."""
    found = deviations(result, frames)
    # a change that is not known well counts less
    spread = found["pressure"].new_tensor([frame.spread for frame in frames])
    scales: dict[str, Tensor | float] = {
        "pressure": (settings.pressure**2 + spread**2).sqrt(),
        "internal": settings.internal,
        "deviatoric": settings.internal,
        "energy": settings.energy,
        "forces": settings.forces,
    }
    parts = [(value / scales[name]).square().mean() for name, value in found.items()]
    return torch.stack(parts).sum()


def deviations(result: Evaluation, frames: Sequence[Held]) -> dict[str, Tensor]:
    """From what is wanted: pressure, internal and deviatoric (bar), energy (eV/atom), forces."""
    forces, stress, molecular = result.forces, result.stress, result.molecular_stress
    if forces is None or stress is None or molecular is None:
        raise ConfigError("expected forces and both stresses of an alignment")
    device = stress.device
    before = {
        name: torch.cat([getattr(frame.before, name) for frame in frames])
        for name in ("energy", "forces", "stress", "molecular_stress")
    }
    change = torch.tensor([frame.change for frame in frames], device=device)
    rise = torch.tensor([frame.rise for frame in frames], dtype=torch.float64, device=device)
    counts = torch.tensor([frame.batch.n_atoms for frame in frames], device=device)
    moved = (molecular - before["molecular_stress"]) / BAR
    mean = moved.diagonal(dim1=1, dim2=2).mean(1)
    inside = (stress - molecular - before["stress"] + before["molecular_stress"]) / BAR
    return {
        "pressure": -mean - change,
        "deviatoric": moved - mean[:, None, None] * torch.eye(3, dtype=moved.dtype, device=device),
        "internal": inside,
        "energy": (result.energy - before["energy"] - rise) / counts,
        "forces": forces - before["forces"],
    }


def rms(potential: HybridPotential, frames: Sequence[Held]) -> dict[str, float]:
    """Root mean square of each deviation over frames."""
    squares: dict[str, list[Tensor]] = {}
    evaluator = Evaluator(potential, trajectory=False)
    for frame in frames:
        wanted = ["positions", "cell", "molecules"]
        result = evaluator.evaluate(frame.batch, derivatives=wanted)
        for name, value in deviations(result, [frame]).items():
            squares.setdefault(name, []).append(value.square().reshape(-1))
    return {name: float(torch.cat(parts).mean().sqrt()) for name, parts in squares.items()}


@dataclass
class Training:
    """Steps of Adam over a few parameters, that can be stopped and resumed.

    Attributes:
        potential: trained in place.
        parameters: by name, which are trained.
        settings: of the alignment.
        file: where its state is kept; None keeps none.
        key: says which training the file is of.
    """

    potential: HybridPotential
    parameters: Mapping[str, Tensor]
    settings: AlignSettings
    file: Path | None = None
    key: str = ""
    history: list[float] = field(default_factory=list)

    def run(self, frames: Sequence[Sequence[Held]], stop: Stop | None = None) -> None:
        """Train to the end, from the state in the file if there is one.

        Raises:
            ConfigError: the file holds another training, or the loss is not finite.
        """
        settings = self.settings
        self.potential.requires_grad_(False)
        chosen = list(self.parameters.values())
        for parameter in chosen:
            parameter.requires_grad_(True)
        optimizer = torch.optim.Adam(chosen, lr=settings.learning_rate)
        done = self._restore(optimizer)
        try:
            for step in range(done, settings.steps):
                if stop is not None:
                    stop.check()
                self._step(optimizer, frames, step)
                if (step + 1) % settings.save_every == 0 or step + 1 == settings.steps:
                    self._save(optimizer, step + 1)
        finally:
            for parameter in chosen:
                parameter.requires_grad_(False)
                parameter.grad = None

    def _step(
        self, optimizer: torch.optim.Optimizer, frames: Sequence[Sequence[Held]], step: int
    ) -> None:
        settings = self.settings
        rng = np.random.default_rng((settings.seed, step))
        chosen = [
            own[k]
            for own in frames
            for k in rng.choice(len(own), min(settings.batch, len(own)), replace=False)
        ]
        batch = AtomsBatch.join([frame.batch for frame in chosen])
        neighbors = JoinedList([frame.neighbors for frame in chosen], self.potential)
        optimizer.zero_grad(set_to_none=True)
        value = backward_of(
            self.potential,
            batch,
            lambda result: objective(result, chosen, settings),
            neighbors=neighbors,
        )
        if not np.isfinite(value):
            raise ConfigError(f"expected a finite loss of the alignment, got {value} at {step}")
        self.history.append(value)
        rate = 0.5 * settings.learning_rate * (1.0 + np.cos(np.pi * step / settings.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()

    def _save(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        if self.file is None:
            return
        tensors = {"step": torch.tensor(step), "history": torch.tensor(self.history).double()}
        for name, tensor in self.parameters.items():
            state = optimizer.state[tensor]
            tensors[f"value {name}"] = tensor.detach().cpu().contiguous()
            for key in ("exp_avg", "exp_avg_sq", "step"):
                tensors[f"{key} {name}"] = state[key].detach().cpu().contiguous()
        write_whole(self.file, save(tensors, metadata={"key": self.key}))

    def _restore(self, optimizer: torch.optim.Optimizer) -> int:
        """The step that was reached."""
        if self.file is None or not self.file.exists():
            return 0
        try:
            with safe_open(self.file, framework="pt") as file:
                key = (file.metadata() or {}).get("key")
            if key != self.key:
                raise KeyError("its model, densities, parameters or settings are others")
            tensors = load_file(self.file)
            values = {name: tensors[f"value {name}"] for name in self.parameters}
        except (SafetensorError, OSError, KeyError) as error:
            raise ConfigError(
                f"expected the state of this alignment in {self.file}, got another: {error}"
            ) from None
        with torch.no_grad():
            for name, tensor in self.parameters.items():
                tensor.copy_(values[name])
                optimizer.state[tensor] = {
                    key: tensors[f"{key} {name}"].to(tensor.device if key != "step" else "cpu")
                    for key in ("exp_avg", "exp_avg_sq", "step")
                }
        self.history = tensors["history"].tolist()
        return int(tensors["step"])
