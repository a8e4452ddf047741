"""New heads: terms that a trained model did not have."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential
from hff_ase.terms import TERMS
from hff_ase.terms.qeq_parameters import rappe_goddard
from hff_ase.terms.term import Term


def add_heads(
    potential: HybridPotential, heads: Mapping[str, Mapping[str, Any]]
) -> HybridPotential:
    """A potential with more terms, after those it has, with fresh parameters.

    Args:
        heads: name -> {kind, constructor arguments}. ``elements`` and ``channels`` are those of the
            model where they are not given, the tables of charge equilibration the published ones.

    Raises:
        ConfigError: a name that is taken, an unknown kind, arguments that the term refuses, or a
            term that needs what no earlier one gives.
    """
    terms = dict(potential.named_terms())
    for name, entry in heads.items():
        if name in terms:
            raise ConfigError(f"expected a name for a new head beside {list(terms)}, got {name!r}")
        terms[name] = make_term(name, entry, potential)
    return potential.with_terms(terms).train(potential.training)


def make_term(name: str, entry: Mapping[str, Any], potential: HybridPotential) -> Term:
    """A term of a kind, its arguments completed from a model.

    Raises:
        ConfigError: as `add_heads`.
    """
    arguments = copy.deepcopy(dict(entry))
    kind = arguments.pop("kind", None)
    if kind not in TERMS:
        near = difflib.get_close_matches(str(kind), list(TERMS), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"expected a kind of term among {sorted(TERMS)} for {name!r}, got {kind!r}{hint}"
        )
    accepted = {p for c in TERMS[kind].__mro__ for p in _arguments(c)}
    channels = [c for _, t in potential.named_terms() if (c := _channels(t)) is not None]
    if "channels" in accepted and channels:
        arguments.setdefault("channels", channels[0])
    if "elements" in accepted and potential.elements is not None:
        arguments.setdefault("elements", list(potential.elements))
    if "electronegativity" in accepted and potential.elements is not None:
        arguments = {**rappe_goddard(potential.elements), **arguments}
    try:
        return TERMS[kind](**arguments)
    except TypeError as error:
        raise ConfigError(f"expected arguments of {kind!r} for {name!r}, got {error}") from None


def _arguments(kind: type) -> set[str]:
    own = kind.__dict__.get("__init__")
    return set() if own is None else set(inspect.signature(own).parameters)


def _channels(term: Term) -> int | None:
    """The width of the node features that a term gives."""
    return getattr(getattr(term, "net", None), "channels", None)
