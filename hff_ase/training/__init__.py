"""Training: losses, gradients, the trainer, and the pipeline from a configuration to a potential.

`hff_ase.calculators.finetune.train` makes a calculator of a configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hff_ase.training.config import TrainConfig
    from hff_ase.training.loop.trainer import Trainer

__all__ = ["TrainConfig", "Trainer"]


def __getattr__(name: str) -> Any:
    # Late, so that importing the losses does not import the whole trainer.
    if name == "TrainConfig":
        from hff_ase.training.config import TrainConfig

        return TrainConfig
    if name == "Trainer":
        from hff_ase.training.loop.trainer import Trainer

        return Trainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
