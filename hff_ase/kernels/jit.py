"""Compilation of the package's CPU kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from hff_ase.kernels.cache import SafeCache, say_once
from hff_ase.kernels.numba_internals import set_cache

OPTIONS: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile at the first call and keep the result on disk for later processes.

    The file is next to the source, or in the user's cache folder where that cannot be written;
    where neither can, every process compiles again, which is said (`hff_ase.kernels.cache`).
    Functions made inside another one may use its
    numbers as constants (each set of numbers has its own file), but no other compiled function: a
    file with one is never found again. ``options`` are numba's, besides ours.
    """
    compiled = njit(**{**OPTIONS, **options})(function)
    try:
        set_cache(compiled, SafeCache(function))
    except RuntimeError:  # numba's "cannot cache function: no locator available"
        say_once(
            "compiled kernels are not cached, every process compiles for half a minute: no folder "
            "that can be written; set NUMBA_CACHE_DIR to one"
        )
    return compiled
