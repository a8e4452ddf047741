"""Running a compiled loop on several threads.

The kernels release Python's lock, so plain threads do: they need no compiled threading layer, wait
without spinning and may be used from several Python threads at once. (numba's own parallel loops
run on the OpenMP library that torch has loaded and change the number of threads that torch uses.)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import torch

FEWEST = 200  # atoms, or what takes as long, for which waking a thread pays
CHUNKS = 4  # per thread: the last one is not waited for long where a core is busy otherwise

_pool: ThreadPoolExecutor | None = None


def _after_fork() -> None:
    """A child has none of its parent's threads: no pool of ours, and one thread for torch, whose
    OpenMP would wait forever for the others (a process made by "spawn" has its own)."""
    global _pool
    _pool = None
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def share(kernel: Callable[..., None], n: int, *args: Any, fewest: int = FEWEST) -> None:
    """Call kernel(first, last, *args) for the items 0 ... n - 1, on as many threads as torch uses.

    With fewer than ``fewest`` items there is one call on this thread.
    """
    global _pool
    threads = torch.get_num_threads()
    if threads == 1 or n < fewest:
        kernel(0, n, *args)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="hff_ase")
    pieces = CHUNKS * threads
    edges = sorted({n * k // pieces for k in range(pieces + 1)})
    chunks = iter(list(pairwise(edges)))

    def work() -> None:
        for first, last in chunks:  # a free thread takes the next one
            kernel(first, last, *args)

    others = [_pool.submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        other.result()
