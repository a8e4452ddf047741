"""Checks before a run: whether its models know the molecules and the conditions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from ase import Atoms

from hff_ase.domain import Domain, Outside, not_trained_on
from hff_ase.dynamics.build.naming import name_of
from hff_ase.errors import OutsideDomainError, OutsideDomainWarning
from hff_ase.stated import charge_doubt, other_doubts


def domain_of_calculator(calc: Any) -> tuple[str, Domain | None]:
    """Name and domain of a HybridFF's model; no domain for any other calculator."""
    info = getattr(calc, "info", None)
    domain = getattr(info, "domain", None)
    return str(getattr(info, "name", type(calc).__name__)), (
        domain if isinstance(domain, Domain) else None
    )


def check_calculators(
    calculators: Iterable[Any],
    structures: Sequence[Atoms],
    temperatures: Iterable[float],
    allowed: bool,
) -> None:
    """`check_domains` for calculators, which then do not repeat the warning."""
    calculators = list(calculators)
    domains = dict(domain_of_calculator(calc) for calc in calculators)
    check_domains(domains, structures, temperatures, allowed)
    for calc in calculators:
        if (watch := getattr(calc, "domain_watch", None)) is not None:
            for atoms in structures:
                watch.first_time(atoms)


def check_domains(
    domains: dict[str, Domain | None],
    structures: Sequence[Atoms],
    temperatures: Iterable[float],
    allowed: bool,
) -> None:
    """Refuse molecules that a model was not trained on; name each once.

    With ``allowed`` they are only said, as unusual shares of molecules and temperatures (K) are in
    any case. A model without a domain is taken to know everything; a total charge that is not that
    of the molecules is refused in the same way with any.

    Raises:
        OutsideDomainError: a molecule outside a domain or another charge, and not ``allowed``.
    """
    for atoms in structures:
        _check_charge(atoms, list(domains.values()), allowed)
    for name, domain in domains.items():
        if domain is None:
            continue
        found = [outside for atoms in structures for outside in domain.check(atoms, name_of)]
        unknown = _once([outside for outside in found if outside.kind == "molecule"])
        if unknown:
            said = not_trained_on(name, unknown, allowed)
            if not allowed:
                raise OutsideDomainError(said)
            _warn(said)
        unusual = _once([outside for outside in found if outside.kind != "molecule"])
        for temperature in sorted(set(temperatures)):
            unusual += domain.check_conditions(temperature=temperature)
        for outside in unusual:
            _warn(f"{name}: {outside}")


def _check_charge(atoms: Atoms, domains: Sequence[Domain | None], allowed: bool) -> None:
    known = next((domain for domain in domains if domain is not None), None)
    doubt = charge_doubt(atoms, known)
    if doubt and not allowed:
        raise OutsideDomainError(f"{doubt}; or run at your own risk with --outside-domain")
    for message in (*([doubt] if doubt else []), *other_doubts(atoms)):
        _warn(message)


def _once(found: list[Outside]) -> list[Outside]:
    """Each molecule once, from the structure that holds most of it."""
    most: dict[tuple[str, str], Outside] = {}
    for outside in found:
        key = (outside.name, outside.formula)
        if key not in most or most[key].count < outside.count:
            most[key] = outside
    return list(most.values())


def _warn(message: str) -> None:
    warnings.warn(message, OutsideDomainWarning, stacklevel=4)
