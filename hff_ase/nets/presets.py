"""Sizes of networks by name.

"small" and "smaller" are meant to be distilled from a large model: two layers reach 10 Angstrom at
a cutoff of 5. Sixteen heads fill a vector register of the fused CPU kernels. Names without a prefix
are sizes of GET, those that start with "e3-" of E3Net.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hff_ase.errors import ConfigError

PRESETS: dict[str, dict[str, Any]] = {
    "bamboo": {"channels": 64, "heads": 16, "layers": 3, "cutoff": 5.0},
    "small": {"channels": 48, "heads": 16, "layers": 2, "cutoff": 5.0},
    "smaller": {"channels": 32, "heads": 16, "layers": 2, "cutoff": 5.0},
    "e3-small": {"channels": 32, "l_max": 1, "layers": 2, "cutoff": 5.0},
    "e3-medium": {"channels": 32, "l_max": 1, "layers": 3, "cutoff": 5.0},
    "e3-large": {"channels": 32, "l_max": 2, "layers": 3, "cutoff": 5.0},
}


def with_preset(options: Mapping[str, Any]) -> dict[str, Any]:
    """Network options with the entry ``preset``, if there is one, replaced by what it stands for;
    other entries take precedence.

    Raises:
        ConfigError: no such preset.
    """
    options = dict(options)
    name = options.pop("preset", None)
    if name is None:
        return options
    if name not in PRESETS:
        raise ConfigError(f"expected a preset among {sorted(PRESETS)}, got {name!r}")
    return {**PRESETS[name], **options}
