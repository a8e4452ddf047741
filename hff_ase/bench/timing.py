"""Wall times of calls, in blocks long enough to be measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch

BLOCK = 0.25  # s that a block of calls lasts unless another length is asked for
MOST_CALLS = 200


def device_ready(device: torch.device) -> None:
    """Wait for work launched on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(function: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Mean wall time of a call over several calls."""
    device_ready(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    device_ready(device)
    return (time.perf_counter() - start) / calls


def calls_per_block(
    function: Callable[[], object], device: torch.device, block: float = BLOCK
) -> int:
    """Number of calls in a block of so many seconds; its own calls compile and warm up."""
    seconds(function, device)
    once = seconds(function, device)
    return min(max(math.ceil(block / once), 1), MOST_CALLS)


def blocks(
    function: Callable[[], object], device: torch.device, repeats: int, block: float = BLOCK
) -> list[float]:
    """Seconds per call of repeated blocks, after warm-up calls."""
    return interleaved({"": function}, device, repeats, block)[""]


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    device: torch.device,
    repeats: int,
    block: float = BLOCK,
) -> dict[str, list[float]]:
    """Seconds per call of repeated blocks of several functions in turn.

    Taking turns, they see the same machine: what disturbs one disturbs the others.

    Args:
        functions: by name.
        device: on which they run.
        repeats: number of blocks of each.
        block: length of a block, s.
    """
    calls = {name: calls_per_block(function, device, block) for name, function in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(seconds(function, device, calls[name]))
    return times
