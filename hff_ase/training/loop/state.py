"""The state of a training on disk: written whole, read back exactly."""

from __future__ import annotations

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from hff_ase.errors import CheckpointError, in_one_line
from hff_ase.files import write_whole

VERSION = 1
STATE = "state.pt"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Replace the saved state in one step.

    Raises:
        CheckpointError: it cannot be written.
    """
    buffer = BytesIO()
    torch.save({"version": VERSION, **state}, buffer)
    try:
        write_whole(path, buffer.getvalue())
    except OSError as error:
        raise CheckpointError(f"expected to write {path}, got: {error.strerror or error}") from None


def load_state(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a saved state; only tensors and plain values are accepted.

    Raises:
        CheckpointError: damaged, or of another version.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = in_one_line(error)
        raise CheckpointError(
            f"expected the state of a training in {path}, got a damaged or foreign file "
            f"({reason}); remove it to start again"
        ) from None
    if not isinstance(state, dict) or state.get("version") != VERSION:
        found = state.get("version") if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"expected a state of version {VERSION} in {path}, got {found}")
    return state
