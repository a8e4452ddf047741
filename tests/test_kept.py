"""Things made of objects, kept until these change."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from hff_ase.kept import Kept


class Thing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.strength, self.shape = 2.0, (1.0, 3.0)
        self.layer = nn.Linear(2, 2)
        self.register_buffer("table", torch.ones(3), persistent=False)


def changes() -> dict[str, object]:
    def replace_layer(thing: Thing) -> None:
        thing.layer = nn.Linear(2, 2)

    def replace_parameter(thing: Thing) -> None:
        thing.layer.weight = nn.Parameter(thing.layer.weight.detach().clone())

    return {
        "number": lambda t: setattr(t, "strength", 2.5),
        "tuple": lambda t: setattr(t, "shape", (1.0, 2.0)),
        "weight in place": lambda t: t.layer.weight.add_(1.0),
        "buffer in place": lambda t: t.table.mul_(2.0),
        "layer": replace_layer,
        "parameter": replace_parameter,
        "precision": lambda t: t.double(),
    }


def asked(kept: Kept[int], thing: Thing, key: object = None) -> bool:
    """Whether it is made anew."""
    made: list[int] = []
    kept.of(thing, lambda: made.append(1) or 1, key)  # type: ignore[func-returns-value]
    return bool(made)


@pytest.mark.parametrize("name", list(changes()))
def test_it_is_made_again_after_a_change(name: str) -> None:
    kept: Kept[int] = Kept()
    thing = Thing().requires_grad_(False)
    assert asked(kept, thing)
    assert not asked(kept, thing.train())
    assert not asked(kept, thing.eval())
    changes()[name](thing)  # type: ignore[operator]
    assert asked(kept, thing)
    assert not asked(kept, thing)


def test_keys_and_objects_are_kept_apart() -> None:
    kept: Kept[int] = Kept()
    one = Thing()
    two = copy.deepcopy(one)
    assert asked(kept, one, "a")
    assert asked(kept, one, "b")
    assert asked(kept, two, "a")
    assert not asked(kept, one, "a")
    for number in range(8):  # the oldest go
        assert asked(kept, one, number)
    assert asked(kept, one, "a")


def test_nothing_outlives_its_object() -> None:
    store: Kept[nn.Module] = Kept()
    thing, made = Thing(), nn.Linear(1, 1)
    gone, given = weakref.ref(made), [made]
    store.of(thing, given.pop)
    del thing, made
    gc.collect()
    assert gone() is None
