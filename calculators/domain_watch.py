"""A calculator's look at its model's domain: each set of unknown molecules is said once."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from ase import Atoms

from hff_ase.domain import Domain, Outside, names_in, not_trained_on
from hff_ase.errors import OutsideDomainWarning


class DomainWatch:
    """Warns of molecules that a model was not trained on, once for each set of them.

    Structures with the elements of one that was looked at, in the same order, are taken for the
    same molecules: a trajectory costs one look.
    """

    def __init__(self, name: str, domain: Domain | None) -> None:
        self.name, self.domain = name, domain
        self._seen: set[bytes] = set()
        self._said: set[frozenset[str]] = set()

    def look(self, structures: Iterable[Atoms]) -> None:
        """Warn (`OutsideDomainWarning`) of what is new in some structures."""
        if self.domain is None:
            return
        for atoms in structures:
            if self.first_time(atoms):
                unknown = unknown_molecules(self.domain, atoms)
                kinds = frozenset(outside.formula for outside in unknown)
                if unknown and kinds not in self._said:
                    self._said.add(kinds)
                    message = not_trained_on(self.name, unknown)
                    warnings.warn(message, OutsideDomainWarning, stacklevel=4)

    def first_time(self, atoms: Atoms) -> bool:
        """Whether these elements, in this order, were not looked at before; they are now."""
        key = atoms.numbers.tobytes()
        new = key not in self._seen
        self._seen.add(key)
        return new


def unknown_molecules(domain: Domain, atoms: Atoms) -> list[Outside]:
    """Molecules of a structure that a domain does not hold, each kind once."""
    found = domain.check(atoms, names_in(atoms))
    return [outside for outside in found if outside.kind == "molecule"]
