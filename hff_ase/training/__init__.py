"""Training: losses, gradients, the trainer, and `train`, which makes a calculator of a config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hff_ase.calculators import HybridFF
    from hff_ase.training.config import TrainConfig
    from hff_ase.training.loop.trainer import StopSource, Trainer

__all__ = ["TrainConfig", "Trainer", "train"]


def train(
    config: TrainConfig | Mapping[str, Any] | str | Path,
    *,
    resume: bool = False,
    stop: StopSource | None = None,
) -> HybridFF:
    """Train a model as a configuration says and return it as a calculator.

    ``<output>/model.hff`` holds the model, ``log.csv`` and ``log.jsonl`` the learning curve.

    Args:
        config: a `TrainConfig`, its sections as a mapping, or a yaml file.
        resume: go on with the run in the output folder.
        stop: asked after every step whether a signal wants the run to stop.

    Raises:
        ConfigError: a setting makes no sense, or the output folder holds a run already.
        StructureError: a frame cannot be used; names file and frame.
        StoppedError: a signal stopped the run; its state is saved.
    """
    from hff_ase.training.run import train_from_config

    return train_from_config(config, resume=resume, stop=stop)


def __getattr__(name: str) -> Any:
    # Late, so that importing the losses does not import the whole trainer.
    if name == "TrainConfig":
        from hff_ase.training.config import TrainConfig

        return TrainConfig
    if name == "Trainer":
        from hff_ase.training.loop.trainer import Trainer

        return Trainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
