"""Fused weights that gradients flow through, in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class LiveParameters:
    """The fused weights of networks with their graph, made once in a training step however often
    the networks are evaluated in it."""

    def __init__(self) -> None:
        self._made: dict[nn.Module, Any] = {}

    def of(self, net: nn.Module, make: Callable[[], Any]) -> Any:
        """What was made for a network, made now if this is the first time."""
        if net not in self._made:
            self._made[net] = make()
        return self._made[net]
