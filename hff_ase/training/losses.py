"""The loss: weighted mean squares of what a potential gets wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.potential import Evaluation
from hff_ase.training.frames import Labels


@dataclass(frozen=True)
class LossWeights:
    """Weights of the mean squared errors, in units in which forces count as they are.

    forces 1/(eV/A)^2, energy 1/(eV/atom)^2, stress 1/(eV/A^3)^2, charges 1/e^2.
    """

    forces: float = 1.0
    energy: float = 2.0
    stress: float = 1e3
    charges: float = 3.0


def differences(batch: AtomsBatch, result: Evaluation, labels: Labels) -> dict[str, Tensor]:
    """Prediction less label for each property, energies per atom; only labels that exist."""
    if result.forces is None or result.stress is None:
        raise ValueError("expected an evaluation with forces and stress")
    errors = {
        "energy": (result.energy - labels.energy) / batch.counts,
        "forces": result.forces - labels.forces,
        "stress": result.stress - labels.stress,
    }
    if "charges" in result.fields:
        errors["charges"] = result.fields["charges"] - labels.charges
    return {name: error[torch.isfinite(error)] for name, error in errors.items()}


def loss(errors: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """Weighted sum of mean squared errors; properties without labels do not count."""
    total = torch.zeros((), dtype=torch.float64)
    for name, error in errors.items():
        if error.numel():
            total = total + getattr(weights, name) * error.square().mean()
    return total
