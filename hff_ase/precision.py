"""This package's torch settings, independent of the surrounding program.

`torch.set_float32_matmul_precision` and autocast are settings of the whole process; with them a
network's forces are off by up to some 0.04 eV/Angstrom on processors with bfloat16 units. With
`torch.set_default_device`, what is made without a device lands on another one than the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")
CPU = torch.device("cpu")
FULL = "highest"
IEEE = "ieee"  # the same in torch's newer, per-backend settings


class _Products:
    """The setting for products of matrices: held while anybody is inside, in whatever thread."""

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0
        self._restore: list[Callable[[], None]] = []

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._restore = held()
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for restore in self._restore:
                    restore()


_PRODUCTS = _Products()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Products of float32 matrices in float32, no autocast; the caller's settings come back, with
    several threads when the last one leaves."""
    with ExitStack() as stack:
        if torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        _PRODUCTS.enter()
        stack.callback(_PRODUCTS.leave)
        yield


def held() -> list[Callable[[], None]]:
    """Set products to full precision; what puts the settings back."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by backend, so that torch knows no common value
        return [_held_backend(library) for library in (torch.backends.mkldnn, torch.backends.cuda)]
    if before == FULL:
        return []
    torch.set_float32_matmul_precision(FULL)
    return [lambda: torch.set_float32_matmul_precision(before)]


def _held_backend(library: Any) -> Callable[[], None]:
    before = library.matmul.fp32_precision
    library.matmul.fp32_precision = IEEE
    return lambda: setattr(library.matmul, "fp32_precision", before)


def usual_device() -> AbstractContextManager[Any]:
    """Tensors made without a device are on the CPU, as they are unless a program asks otherwise."""
    return nullcontext() if torch.get_default_device() == CPU else CPU


def on_usual_device(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function inside `usual_device`."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with usual_device():
            return function(*args, **kwargs)

    return call
