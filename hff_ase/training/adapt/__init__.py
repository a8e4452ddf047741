"""Fine-tuning: preparing a trained model for training on something else."""

from __future__ import annotations

import copy

import torch
from torch import nn

from hff_ase.potential import HybridPotential
from hff_ase.training.adapt.dispersion import complete_labels, dispersion_terms
from hff_ase.training.adapt.elements import add_elements
from hff_ase.training.adapt.fixed import split_fixed
from hff_ase.training.adapt.freeze import count_trainable, set_trainable
from hff_ase.training.adapt.heads import add_heads
from hff_ase.training.adapt.lora import LoRALinear, add_lora, merge
from hff_ase.training.adapt.references import adapt_references, refit_references
from hff_ase.training.adapt.replay import training_frames
from hff_ase.training.adapt_config import (
    AdaptConfig,
    LoRAConfig,
    NewElement,
    ReplayConfig,
)

__all__ = [
    "AdaptConfig",
    "LoRAConfig",
    "LoRALinear",
    "NewElement",
    "ReplayConfig",
    "adapt_references",
    "add_elements",
    "add_heads",
    "add_lora",
    "apply",
    "complete_labels",
    "count_trainable",
    "dispersion_terms",
    "merge",
    "refit_references",
    "set_trainable",
    "split_fixed",
    "training_frames",
]


def apply(potential: HybridPotential, adapt: AdaptConfig, seed: int = 0) -> HybridPotential:
    """A copy of a potential with new elements, new heads and low-rank updates, in training mode.

    What is trainable follows from ``freeze`` and ``unfreeze``; the potential that is given stays as
    it is. Then `training_frames` gives what to train on, `split_fixed` the part to train,
    `adapt_references` its reference energies, and after the training `merge` plain layers.

    Args:
        seed: of everything that starts at random.

    Raises:
        ConfigError: elements, heads or patterns that do not fit the potential.
    """
    potential = copy.deepcopy(potential)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if adapt.add_elements:
            potential = add_elements(potential, adapt.add_elements)
        if adapt.new_heads:
            potential = add_heads(potential, adapt.new_heads)
        if adapt.lora is not None:
            add_lora(potential, adapt.lora.rank, adapt.lora.alpha, adapt.lora.patterns)
    freeze, unfreeze = adapt.freeze, list(adapt.unfreeze)
    if freeze is None:
        freeze = () if adapt.lora is None else ("nothing",)
        if adapt.lora is not None:
            unfreeze += ["*.lora_up", "*.lora_down", *_heads(potential, adapt)]
    set_trainable(potential, freeze, unfreeze)
    return potential.train()


def _heads(potential: HybridPotential, adapt: AdaptConfig) -> list[str]:
    """Patterns of the parameters of new heads (those that have some)."""
    heads: dict[str, nn.Module] = {name: potential.terms[name] for name in adapt.new_heads}
    return [
        f"terms.{name}.*" for name, head in heads.items() if any(True for _ in head.parameters())
    ]
