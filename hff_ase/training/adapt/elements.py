"""New elements: longer tables, in which the rows of the old elements stay bit for bit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from ase.data import atomic_numbers
from torch import Tensor

from hff_ase.errors import ConfigError, HFFWarning
from hff_ase.potential import HybridPotential
from hff_ase.terms import TERMS
from hff_ase.terms.qeq_parameters import RAPPE_GODDARD, rappe_goddard
from hff_ase.terms.term import Term
from hff_ase.training.adapt_config import NewElement


def add_elements(potential: HybridPotential, new: Mapping[str, NewElement]) -> HybridPotential:
    """A potential that knows more elements; results for the old ones do not change.

    A parameter's rows for a new element are those of the element it is ``like``, or the mean over
    the old ones. Physical tables in a term's configuration (C6, radii, QEq parameters) take the
    given entry, else that of the element it is like, else (QEq) the published one.

    Raises:
        ConfigError: no element, one that is known already, or a table that nothing fills.
    """
    old = potential.elements
    if old is None:
        raise ConfigError("expected a model with a list of elements, got one for any element")
    for symbol, how in new.items():
        if symbol not in atomic_numbers:
            raise ConfigError(f"expected chemical symbols of new elements, got {symbol!r}")
        if symbol in old:
            raise ConfigError(f"expected new elements beside {' '.join(old)}, got {symbol!r}")
        if how.like is not None and how.like not in old:
            raise ConfigError(
                f"expected {symbol} to be like one of {' '.join(old)}, got {how.like!r}"
            )
    terms = {name: _grown(name, term, new) for name, term in potential.named_terms()}
    return potential.with_terms(terms, elements=(*old, *new)).train(potential.training)


def _grown(name: str, term: Term, new: Mapping[str, NewElement]) -> Term:
    """A term with more elements; itself where it keeps no list of them."""
    known = _elements(term)
    added = {symbol: how for symbol, how in new.items() if symbol not in known}
    if not known or not added:
        return term
    config, unlike = _config(name, term, known, added)
    grown = TERMS[term.kind](**config)
    # What has another shape now has a row per element: along that axis.
    before, after = term.state_dict(), grown.state_dict()
    # Files hold weights of the networks' precision; the new term must not round them.
    grown.set_dtype(torch.float64)
    order = _elements(grown)
    rows = {symbol: order.index(symbol) for symbol in order}
    values = {
        key: _with_rows(f"{name}.{key}", before[key], value, known, added, rows, key in unlike)
        for key, value in after.items()
    }
    grown.load_state_dict(values)
    return grown


def _elements(term: Term) -> tuple[str, ...]:
    """The elements of a term's tables; none where it has no such tables."""
    index: Any = getattr(term, "species", None)
    return () if index is None else tuple(index.elements)


def _config(
    name: str, term: Term, known: tuple[str, ...], added: Mapping[str, NewElement]
) -> tuple[dict[str, Any], set[str]]:
    """Constructor arguments with the new elements, and the tables that were not copied."""
    config = term.config()
    own: set[str] = set()
    for key, value in config.items():
        if key == "elements":
            config[key] = [*value, *added]
        elif isinstance(value, dict) and set(value) == set(known):
            found = {symbol: _entry(name, key, value, symbol, how) for symbol, how in added.items()}
            config[key] = {**value, **{symbol: entry for symbol, (entry, _) in found.items()}}
            own |= {key for _, copied in found.values() if not copied}
    return config, own


def _entry(
    name: str, key: str, table: Mapping[str, float], symbol: str, how: NewElement
) -> tuple[float, bool]:
    """The entry of a physical table for a new element, and whether it is another element's."""
    if key in how.tables:
        return how.tables[key], False
    if how.like is not None:
        return table[how.like], True
    if symbol in RAPPE_GODDARD and key in ("electronegativity", "hardness", "width"):
        return rappe_goddard([symbol])[key][symbol], False
    raise ConfigError(
        f"expected a value of {key!r} of the term {name!r} for the new element {symbol} (in its "
        "tables), or a similar element, got neither"
    )


def _with_rows(
    name: str,
    before: Tensor,
    fresh: Tensor,
    known: tuple[str, ...],
    added: Mapping[str, NewElement],
    rows: Mapping[str, int],
    keep_fresh: bool,
) -> Tensor:
    """A parameter with rows for all elements, from that with rows for the old ones."""
    if before.shape == fresh.shape:
        return before
    axes = [
        axis
        for axis, (short, long) in enumerate(zip(before.shape, fresh.shape, strict=False))
        if short != long
    ]
    one = before.ndim == fresh.ndim and len(axes) == 1
    if not one or before.shape[axes[0]] != len(known) or fresh.shape[axes[0]] != len(rows):
        raise ConfigError(
            f"expected one axis with a row per element in the parameter {name}, got shapes "
            f"{tuple(before.shape)} for {len(known)} and {tuple(fresh.shape)} for {len(rows)}: "
            "its network cannot take new elements"
        )
    axis = axes[0]
    out = fresh.detach().to(before.dtype).clone()
    old = before.movedim(axis, 0)
    target = out.movedim(axis, 0)
    for index, symbol in enumerate(known):
        target[rows[symbol]] = old[index]
    if not keep_fresh:
        for symbol, how in added.items():
            like = old.mean(0) if how.like is None else old[known.index(how.like)]
            target[rows[symbol]] = like
    return out


def warn_unseen(new: Mapping[str, NewElement], numbers: set[int]) -> None:
    """Report new elements that occur in no frame: nothing will be learned about them."""
    unseen = [symbol for symbol in new if atomic_numbers[symbol] not in numbers]
    if unseen:
        warnings.warn(
            f"no frame contains {' '.join(unseen)}: the new element keeps its initial parameters",
            HFFWarning,
            stacklevel=3,
        )
