"""A step of the dynamics recorded once as a CUDA graph and replayed: one launch for all kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

from hff_ase.errors import HFFWarning

Result = TypeVar("Result")

WARM_UP = 3  # runs before recording: kernels are compiled and memory is claimed
SHORT_LIFE = 50  # replays; a recording that serves for fewer costs more than it saves
PATIENCE = 3  # short lives before giving up


class CapturedStep(Generic[Result]):
    """Calls a function by replaying a recording of it.

    The function must read and write the same memory at every call, never look at the host, and may
    be called a few times more than asked for (the loop's step leaves the state alone once it is
    told to stop, which `idle` does).

    Args:
        function: what to record.
        layout: the recording is rebuilt when this changes.
        idle: makes calls of the function harmless; returns what undoes it.
    """

    def __init__(
        self,
        function: Callable[[], Result],
        layout: Callable[[], Hashable],
        idle: Callable[[], Callable[[], None]],
    ) -> None:
        self._function, self._layout, self._idle = function, layout, idle
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Result | None = None
        self._recorded: Hashable = None
        self._replays = self._short_lives = 0
        self._enabled = True

    def __call__(self) -> Result:
        """Run the function once."""
        if self._enabled and (self._graph is None or self._recorded != self._layout()):
            self._record()
        if self._graph is None or self._result is None:
            return self._function()
        self._graph.replay()
        self._replays += 1
        return self._result

    def _record(self) -> None:
        if self._graph is not None and self._replays < SHORT_LIFE:
            self._short_lives += 1
            if self._short_lives == PATIENCE:
                self._give_up("what it was recorded with does not last")
                return
        self._graph, self._result, self._replays = None, None, 0
        resume = self._idle()
        try:
            self._graph, self._result = record(self._function)
            self._recorded = self._layout()
        except RuntimeError as error:
            self._give_up(str(error).strip().split("\n")[0])
        finally:
            resume()

    def _give_up(self, reason: str) -> None:
        self._graph, self._result, self._enabled = None, None, False
        warnings.warn(
            f"molecular dynamics runs without a CUDA graph, slower: {reason}",
            HFFWarning,
            stacklevel=5,
        )


def record(function: Callable[[], Result]) -> tuple[torch.cuda.CUDAGraph, Result]:
    """A graph of one call, and the call's result, whose tensors every replay overwrites.

    Raises:
        RuntimeError: the function does something that cannot be recorded.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    return graph, result
