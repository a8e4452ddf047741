"""Wall times of calls, in blocks long enough to be measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch

BLOCK = 0.25  # s that a block of calls should last
MOST_CALLS = 200


def device_ready(device: torch.device) -> None:
    """Wait for what was launched on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(function: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Mean wall time of a call over some calls in a row."""
    device_ready(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    device_ready(device)
    return (time.perf_counter() - start) / calls


def calls_per_block(function: Callable[[], object], device: torch.device) -> int:
    """How many calls make a block; also the calls that compile and warm up."""
    seconds(function, device)
    once = seconds(function, device)
    return min(max(math.ceil(BLOCK / once), 1), MOST_CALLS)


def blocks(function: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Seconds per call of repeated blocks, after calls that do not count."""
    return interleaved({"": function}, device, repeats)[""]


def interleaved(
    functions: Mapping[str, Callable[[], object]], device: torch.device, repeats: int
) -> dict[str, list[float]]:
    """Seconds per call of repeated blocks of several functions in turn.

    Taking turns, they see the same machine: what disturbs one disturbs the others.
    """
    calls = {name: calls_per_block(function, device) for name, function in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(seconds(function, device, calls[name]))
    return times
