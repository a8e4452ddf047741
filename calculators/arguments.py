"""What a calculator is given by name: precision, device, terms to leave out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hff_ase.checkpoint import ModelInfo
from hff_ase.errors import ConfigError, HFFWarning
from hff_ase.potential import PRECISIONS, HybridPotential
from hff_ase.structures import CHARGES


def precision_of(name: str) -> torch.dtype:
    """A precision by name.

    Raises:
        ConfigError: another name.
    """
    if not isinstance(name, str) or name not in PRECISIONS:
        raise ConfigError(f"expected dtype 'float32' or 'float64', got {name!r}")
    return PRECISIONS[name]


def device_of(name: str) -> torch.device:
    """A device by name.

    Raises:
        ConfigError: no such device, or one that this machine lacks.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ConfigError(f"expected device 'cpu' or 'cuda', got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"expected device 'cpu' or 'cuda', got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"expected a CUDA device for device={name!r}, got a machine without one")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"expected a CUDA device below {torch.cuda.device_count()}, got {name!r}")
    return device


def without_terms(
    potential: HybridPotential, without: Sequence[str], info: ModelInfo
) -> HybridPotential:
    """A potential without some of its terms; warns where it was trained with them.

    Raises:
        ConfigError: no such term, or one that another needs.
    """
    names = [name for name, _ in potential.named_terms()]
    without = [without] if isinstance(without, str) else list(without)
    unknown = [name for name in without if name not in names]
    if unknown:
        raise ConfigError(f"expected terms to leave out among {names}, got {unknown[0]!r}")
    trained = [name for name in without if name in info.trained_with]
    if trained:
        warnings.warn(
            f"{info.name}: left out {', '.join(trained)}, which the model was trained with; "
            "what remains is not a complete force field",
            HFFWarning,
            stacklevel=3,
        )
    return potential.subset([name for name in names if name not in without])


def refuse_settings(settings: Mapping[str, Any]) -> None:
    """Refuse what ``calc.set(...)`` was given: ASE would keep it, and nothing would come of it.

    Raises:
        ConfigError: any setting.
    """
    for name in settings:
        remedy = "give it to HybridFF.load"
        if name in CHARGES:
            remedy = "the total charge is atoms.info['charge']"
        raise ConfigError(f"expected no settings of a loaded calculator, got {name}: {remedy}")
