"""A calculator trained from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hff_ase.calculators.hybrid import HybridFF
from hff_ase.training.config import TrainConfig
from hff_ase.training.loop.trainer import StopSource
from hff_ase.training.pipeline import Trained, run


def train(
    config: TrainConfig | Mapping[str, Any] | str | Path,
    *,
    resume: bool = False,
    stop: StopSource | None = None,
) -> HybridFF:
    """Train a model from a configuration and return it as a calculator.

    ``<output>/model.hff`` holds the model, ``log.csv`` and ``log.jsonl`` the learning curve.

    Args:
        config: a `TrainConfig`, its sections as a mapping, or a yaml file.
        resume: continue the run in the output folder.
        stop: asked after every step whether a signal wants the run to stop.

    Raises:
        ConfigError: a setting makes no sense, or the output folder holds a run already.
        StructureError: a frame cannot be used; names file and frame.
        StoppedError: a signal stopped the run; its state is saved.
    """
    config = TrainConfig.load(config)
    trained = run(config, resume=resume, stop=stop)
    return calculator_of(trained, config.output, config.device, config.dtype)


def calculator_of(
    trained: Trained,
    output: str | Path | None,
    device: str,
    dtype: str,
    skin: float = 1.0,
    kernels: str = "auto",
) -> HybridFF:
    """The calculator of a trained model, saved as ``<output>/model.hff`` by the first process.

    Args:
        output: folder; None saves nothing.
        device, dtype, skin, kernels: of the calculator.
    """
    options: dict[str, Any] = {"dtype": dtype, "skin": skin, "kernels": kernels}
    calc = HybridFF(trained.potential, trained.info, device="cpu", **options)
    if trained.first and output is not None:
        calc.save(Path(output) / "model.hff", [trained.reference])
    if device == "cpu":
        return calc
    return HybridFF(trained.potential, trained.info, device=device, **options)
