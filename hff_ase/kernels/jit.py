"""How the CPU kernels of this package are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

OPTIONS: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile at the first call and keep the result on disk for later processes.

    The file lies beside the source, or in the user's cache folder where that cannot be written;
    where neither can, every process compiles anew. Functions made inside another one may use its
    numbers as constants (each set of numbers has its own file), but no other compiled function: a
    file with one is never found again. ``options`` are numba's, besides ours.
    """
    try:
        return njit(**{**OPTIONS, **options}, cache=True)(function)
    except RuntimeError:  # numba's "cannot cache function: no locator available"
        return njit(**{**OPTIONS, **options})(function)
