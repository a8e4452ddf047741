"""Data derived from an object, and derived again when the object has changed: the only cache of
derived data (fused weights, tables of functions, rows in segments).

One rule says what counts as a change: another parameter or buffer, or one that was written to, or
another plain number among the object's own attributes. What is made lives as long as the object.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

Made = TypeVar("Made")

PLAIN = (int, float, str, tuple)
MOST = 8  # things kept of one object, under different keys


class _State:
    """A snapshot of an object, to see later whether it has changed.

    Walking through `Module.parameters` takes as long as half a molecule; this looks at the same
    dictionaries of torch's modules in a tenth of that. They are private, as is the counter of
    writes to a tensor, which has no public counterpart: `_modules`, `_parameters`, `_buffers` and
    `_version` are read here and nowhere else. Tested with torch 2.13. Where one is missing,
    the first evaluation with kernels ends in an AttributeError.
    """

    def __init__(self, owner: Any) -> None:
        modules = list(owner.modules()) if isinstance(owner, nn.Module) else []
        self.modules = [(m._modules, *item) for m in modules for item in m._modules.items()]
        # Detached tensors keep the memory: no other parameter can come to lie at its address.
        self.tensors = [
            (tensors, name, tensor, tensor.detach(), tensor._version)
            for m in modules
            for tensors in (m._parameters, m._buffers)
            for name, tensor in tensors.items()
            if tensor is not None
        ]
        self.attributes = vars(owner) if isinstance(owner, nn.Module) else {}
        self.numbers = [(k, v) for k, v in self.attributes.items() if _counts(k, v)]

    def unchanged(self) -> bool:
        """Whether every tensor is the same with the same content, and every number too."""
        for modules, name, module in self.modules:
            if modules.get(name) is not module:
                return False
        for tensors, name, tensor, kept, version in self.tensors:
            if tensors.get(name) is not tensor or not _same(tensor, kept, version):
                return False
        return all(self.attributes.get(name) == value for name, value in self.numbers)


def _counts(name: str, value: Any) -> bool:
    return isinstance(value, PLAIN) and name != "training" and not name.startswith("_")


def _same(tensor: Tensor, kept: Tensor, version: int) -> bool:
    return tensor._version == version and tensor.data_ptr() == kept.data_ptr()


class Kept(Generic[Made]):
    """Values derived from objects, each kept until its object changes."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Any, tuple[_State, dict[Hashable, Made]]] = (
            WeakKeyDictionary()
        )

    def of(self, owner: Any, make: Callable[[], Made], key: Hashable = None) -> Made:
        """The result of ``make`` for an object, computed if missing or if the object has changed.

        Args:
            owner: a module, or anything that is hashed by its identity and does not change.
            make: must not hold on to anything that holds the owner.
            key: what else the result depends on; the last few are kept.
        """
        known = self._known.get(owner)
        if known is None or not known[0].unchanged():
            known = self._known[owner] = (_State(owner), {})
        made = known[1]
        if key not in made:
            if len(made) >= MOST:
                made.pop(next(iter(made)))
            made[key] = make()
        return made[key]


class LiveParameters:
    """The fused weights of networks with their graph, made once in a training step however often
    the networks are evaluated in it."""

    def __init__(self) -> None:
        self._made: dict[nn.Module, Any] = {}

    def of(self, net: nn.Module, make: Callable[[], Any]) -> Any:
        """The weights of a network, made at the first call."""
        if net not in self._made:
            self._made[net] = make()
        return self._made[net]
