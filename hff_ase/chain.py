"""Terms in their order: which can follow each other, and which a request needs."""

from __future__ import annotations

from collections.abc import Mapping

from hff_ase.errors import ConfigError
from hff_ase.fields import check_fields
from hff_ase.neighborhood import Neighborhood
from hff_ase.terms.term import Term


def parts_of(terms: Mapping[str, Term]) -> list[str]:
    """What can be asked for apart: terms, and parts of those that have some."""
    return [part for name, t in terms.items() for part in (name, *(f"{name}.{p}" for p in t.parts))]


def choose(
    terms: Mapping[str, Term], parts: frozenset[str] | None
) -> tuple[dict[str, bool], frozenset[tuple[Term, str]]]:
    """The terms to evaluate, in order, and whether the energy of each counts; and the parts of
    terms to leave out.

    Raises:
        ConfigError: a name that is not a part.
    """
    if parts is None:
        return dict.fromkeys(terms, True), frozenset()
    known = parts_of(terms)
    if not parts:
        raise ConfigError(f"expected parts among {known}, got none")
    for part in parts:
        if part not in known:
            raise ConfigError(f"expected parts among {known}, got {part!r}")
    counts = {
        name: name in parts or any(f"{name}.{p}" in parts for p in term.parts)
        for name, term in terms.items()
    }
    needed: set[str] = set()
    evaluated = []
    for name, term in reversed(list(terms.items())):
        if counts[name] or needed & set(term.gives):
            needed = (needed - set(term.gives)) | set(term.needs)
            evaluated.append(name)
    left_out = frozenset(
        (term, part)
        for name, term in terms.items()
        for part in term.parts
        if name not in parts and f"{name}.{part}" not in parts
    )
    return {name: counts[name] for name in reversed(evaluated)}, left_out


def refuse_whole_system_terms(terms: Mapping[str, Term], neighbors: Neighborhood) -> None:
    """Refuse terms that cannot give the energies of some atoms only.

    Raises:
        ConfigError: names the first, with the reason.
    """
    for name, term in terms.items():
        reason = term.refuses_owned(neighbors)
        if reason is not None:
            raise ConfigError(
                f"expected parts that can give the energies of some atoms only, got the term "
                f"{name!r} ({term.kind}): {reason}"
            )


def check_chain(terms: Mapping[str, Term]) -> None:
    """Refuse terms that cannot be evaluated in this order or that count Coulomb twice."""
    if not terms:
        raise ConfigError("expected at least one energy term, got none")
    given: dict[str, str] = {}
    for name, term in terms.items():
        check_fields((*term.needs, *term.gives), name)
        for needed in term.needs:
            if needed not in given:
                raise ConfigError(
                    f"term {name!r} ({term.kind}) needs the field {needed!r} before any term gives "
                    f"it; the terms before it give {sorted(given) or 'nothing'}"
                )
        source = terms.get(given.get("charges", ""))
        if term.kind == "coulomb" and source is not None and source.owns_coulomb:
            raise ConfigError(
                f"term {name!r} (coulomb) would count the Coulomb energy twice: it is part of "
                f"{given['charges']!r} ({source.kind}), which gives the charges"
            )
        given.update(dict.fromkeys(term.gives, name))
