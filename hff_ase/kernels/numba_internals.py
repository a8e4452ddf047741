"""The parts of numba's internals (`numba.core`) that the kernels need; used only here.

Tested with numba 0.68. What breaks where a version has changed them:

- `FunctionCache` (its methods `load_overload` and `save_overload`, its attributes `_cache_file`,
  `_cache_path` and `_impl`), `dumps` and a dispatcher's `_cache`: kernels would be compiled in
  every process, or not at all;
- `cgutils` (access to array elements and declarations of LLVM intrinsics): the kernels of networks
  do not compile; `kernels=None` and torch's own operations remain.

Types, intrinsics and lowering come from `numba` and `numba.extending`, LLVM instructions from
`llvmlite.ir`, all of them public.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

__all__ = ["FunctionCache", "cache_place", "dumps", "element_pointer", "intrinsic_of", "set_cache"]


def set_cache(compiled: Any, cache: FunctionCache) -> None:
    """Set the cache of a compiled function, as ``cache=True`` sets numba's own."""
    compiled._cache = cache


def cache_place(cache: FunctionCache) -> tuple[Path, str, tuple[Any, ...]]:
    """Numba's cache of a function: folder, prefix of its files, stamp of the source."""
    locator = cache._impl.locator
    return Path(cache._cache_path), cache._impl.filename_base, tuple(locator.get_source_stamp())


def element_pointer(context: Any, builder: Any, array: Any, data: Any, indices: list[Any]) -> Any:
    """Pointer to an element of an array; indices are not negative."""
    return cgutils.get_item_pointer(context, builder, array, data, indices, wraparound=False)


def intrinsic_of(builder: Any, kind: Any, name: str) -> Callable[..., Any]:
    """An LLVM intrinsic, declared in the module that is being built."""
    function: Callable[..., Any] = cgutils.get_or_insert_function(builder.module, kind, name)
    return function
