"""Where neighbours were last searched, as arrays of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from hff_ase.arrays import ALWAYS, ARRAYS
from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.pair_source import PairSource


def place_of(neighbors: PairSource) -> dict[str, np.ndarray]:
    """The batch that a list was last built for, as arrays of a checkpoint."""
    reference = neighbors.reference
    if reference is None:
        return {}
    state = {name: array.cpu().numpy().copy() for name, array in reference.arrays.items()}
    if reference.order is not None:
        state["order"] = reference.order.cpu().numpy().copy()
    return state


def check_state(state: Mapping[str, np.ndarray]) -> None:
    """Refuse a state without the places where neighbours were searched.

    Raises:
        ConfigError: names what is missing.
    """
    missing = [name for name in ALWAYS if state and name not in state]
    if missing:
        raise ConfigError(f"expected a state with {', '.join(ALWAYS)}, got none of {missing[0]}")


def build_at(neighbors: PairSource, state: Mapping[str, np.ndarray], device: torch.device) -> None:
    """Search where `place_of` found a list."""
    arrays = {
        name: torch.tensor(value, dtype=ARRAYS[name].dtype, device=device)
        for name, value in state.items()
        if name in ARRAYS
    }
    order = torch.tensor(state["order"], device=device) if "order" in state else None
    neighbors.build(AtomsBatch.of(arrays, order))
