"""Settings of glibc's allocator that keep the memory of a step for the next step."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys

# mallopt(3) parameters
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_memory() -> bool:
    """Stop glibc from returning freed memory to the system; returns whether that worked.

    torch on a CPU frees and takes hundreds of megabytes in every step. By default glibc gives
    large blocks back at once and the kernel clears them again: a step then takes 1.2 times as long
    for 200 atoms and twice as long for 4,000. Programs (the command line, benchmarks) call this;
    importing the package does not. The price is that the process keeps its peak memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(ctypes.util.find_library("c")), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28))
    return all(mallopt(name, value) == 1 for name, value in settings)
