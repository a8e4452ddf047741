"""Paths in settings hold in any working directory: a run may be resumed from another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["absolute"]


def absolute(text: str, only: Callable[[Path], bool] | None = None) -> str:
    """A path made absolute.

    Args:
        text: a path, or also a name where ``only`` tells them apart.
        only: what a path must be for it, such as ``Path.is_file``; others are left as they are.
    """
    path = Path(text)
    return text if only is not None and not only(path) else str(path.resolve())
