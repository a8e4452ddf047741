"""What fused networks read, made from parameters and kept until a parameter changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

Made = TypeVar("Made")


class _State:
    """The modules and parameters of a network at one moment, to see later whether one changed.

    Walking through `Module.parameters` takes as long as half a molecule; this looks at the same
    dictionaries in a tenth of that.
    """

    def __init__(self, net: nn.Module) -> None:
        modules = list(net.modules())
        self.modules = [(m._modules, *item) for m in modules for item in m._modules.items()]
        # Detached tensors keep the memory: no other parameter can come to lie at its address.
        self.parameters = [
            (m._parameters, name, p, p.detach(), p._version)
            for m in modules
            for name, p in m._parameters.items()
            if p is not None
        ]

    def unchanged(self) -> bool:
        """Whether every parameter is the same tensor with the same content."""
        for modules, name, module in self.modules:
            if modules.get(name) is not module:
                return False
        for parameters, name, parameter, kept, version in self.parameters:
            if parameters.get(name) is not parameter:
                return False
            if parameter._version != version or parameter.data_ptr() != kept.data_ptr():
                return False
        return True


class Kept(Generic[Made]):
    """What ``make`` makes of a network, made again when one of its parameters changed."""

    def __init__(self, make: Callable[..., Made]) -> None:
        self._make = make
        self._known: WeakKeyDictionary[nn.Module, tuple[_State, Made]] = WeakKeyDictionary()

    def of(self, net: nn.Module) -> Made:
        """What was made for a network."""
        known = self._known.get(net)
        if known is None or not known[0].unchanged():
            known = self._known[net] = (_State(net), self._make(net))
        return known[1]
