"""Whether a run may continue: the settings that decide its result must be the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hff_ase.errors import ConfigError
from hff_ase.training.config import TrainConfig

# What changes no weight, or only where the run ends.
FREE = (
    "output",
    "logging",
    "limits",
    "device",
    "batching.micro_batch",
    "batching.workers",
    "model",
    "data",
)


def settings_text(config: TrainConfig) -> str:
    """The settings that decide the result, as JSON."""
    flat = _flat(config.model_dump(mode="json"))
    kept = {
        key: value
        for key, value in flat.items()
        if not any(key == free or key.startswith(free + ".") for free in FREE)
    }
    return json.dumps(kept, sort_keys=True)


def check_same_settings(saved: str, config: TrainConfig, folder: Path) -> None:
    """Refuse to continue with other settings.

    Raises:
        ConfigError: names the settings that differ.
    """
    before, now = json.loads(saved), json.loads(settings_text(config))
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"expected the settings of the run in {folder}, got {key} = {now.get(key)!r} "
                f"instead of {before.get(key)!r}: use another output"
            )


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
