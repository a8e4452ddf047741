"""Checks of the structures given to a calculator: unknown molecules and doubtful charges."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from ase import Atoms

from hff_ase.domain import Domain, Outside, names_in, not_trained_on
from hff_ase.errors import HFFWarning, OutsideDomainWarning
from hff_ase.stated import charge_doubt, other_doubts
from hff_ase.structures import total_charge
from hff_ase.topology import Connectivity, perceive


class DomainWatch:
    """Warns of molecules that a model was not trained on, and of charges that do not fit them.

    Each set of molecules, and each doubt, is reported once. Structures with the same elements in
    the same order and the same charge as one that was checked are not checked again: a trajectory
    costs one check.
    """

    def __init__(self, name: str, domain: Domain | None) -> None:
        self.name, self.domain = name, domain
        self._seen: set[tuple[bytes, float]] = set()
        self._said: set[frozenset[str] | str] = set()

    def look(self, structures: Iterable[Atoms]) -> None:
        """Warn (`OutsideDomainWarning`, `HFFWarning`) of what is new in some structures."""
        for atoms in structures:
            if self.first_time(atoms):
                topology = perceive(atoms)
                if self.domain is not None:
                    self._molecules(atoms, topology, self.domain)
                doubt = charge_doubt(atoms, self.domain, topology)
                for message in (*([doubt] if doubt else []), *other_doubts(atoms)):
                    if message not in self._said:
                        self._said.add(message)
                        warnings.warn(message, HFFWarning, stacklevel=4)

    def _molecules(self, atoms: Atoms, topology: Connectivity, domain: Domain) -> None:
        unknown = unknown_molecules(domain, atoms, topology)
        kinds = frozenset(outside.formula for outside in unknown)
        if unknown and kinds not in self._said:
            self._said.add(kinds)
            message = not_trained_on(self.name, unknown)
            warnings.warn(message, OutsideDomainWarning, stacklevel=5)

    def first_time(self, atoms: Atoms) -> bool:
        """Whether these elements and charge are new; remembers them."""
        key = (atoms.numbers.tobytes(), total_charge(atoms))
        new = key not in self._seen
        self._seen.add(key)
        return new


def unknown_molecules(domain: Domain, atoms: Atoms, topology: Connectivity) -> list[Outside]:
    """Molecules of a structure that a domain does not hold, each kind once."""
    found = domain.check(topology, names_in(atoms))
    return [outside for outside in found if outside.kind == "molecule"]
