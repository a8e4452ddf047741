"""Physical constants that a term keeps as plain numbers or tables: read, written, differentiated.

A term that computes with floats has no graph to give a gradient in them. Its reference operations
accept a tensor instead of a float: while `live` puts tensors there, the energy is a
function of these. A place is a path among the term's attributes: ``s6``, an entry of a tuple
``damping.0``, a field of a frozen dataclass ``damping.s8``, or a buffer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Place = tuple[nn.Module, str]


def read(term: nn.Module, path: str) -> Tensor:
    """The value at a path, float64, detached; a float as a tensor without dimensions."""
    name, _, inside = path.partition(".")
    value = getattr(term, name)
    if isinstance(value, tuple):
        value = value[int(inside)]
    elif inside:
        value = getattr(value, inside)
    return torch.as_tensor(value).detach().double().clone()


def write(term: nn.Module, path: str, value: Tensor) -> None:
    """Set the value at a path; a buffer is written to in place."""
    name, _, _ = path.partition(".")
    held = getattr(term, name)
    if isinstance(held, Tensor):
        with torch.no_grad():
            held.copy_(value)
    else:
        setattr(term, name, _with(held, path, float(value)))


@contextmanager
def live(places: Sequence[Place], values: Sequence[Tensor]) -> Iterator[None]:
    """Temporarily replace constants by tensors."""
    before = [(term, path.partition(".")[0]) for term, path in places]
    kept = [(term, name, getattr(term, name)) for term, name in before]
    try:
        for (term, path), value in zip(places, values, strict=True):
            name = path.partition(".")[0]
            setattr(term, name, _with(getattr(term, name), path, value))
        yield
    finally:
        for term, name, value in kept:
            setattr(term, name, value)


def is_live(*values: Any) -> bool:
    """Whether any of some constants is a tensor now, or a tuple that holds one."""
    flat = [x for value in values for x in (value if isinstance(value, tuple) else (value,))]
    return any(isinstance(x, Tensor) for x in flat)


def _with(held: Any, path: str, value: Any) -> Any:
    """The object at the first name of a path, with its last entry replaced."""
    inside = path.partition(".")[2]
    if not inside:
        return value
    if isinstance(held, tuple):
        place = int(inside)
        return (*held[:place], value, *held[place + 1 :])
    return dataclasses.replace(held, **{inside: value})
