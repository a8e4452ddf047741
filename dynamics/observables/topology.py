"""Molecules of a system: their atoms, names, masses and charges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from hff_ase.errors import ConfigError, HFFError
from hff_ase.labels.molecules import find_molecules, formal_charge

__all__ = ["Topology", "topology_of"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Topology:
    """Atoms and molecules of a trajectory.

    Attributes:
        symbols: [n_atoms], element of each atom (for centres of molecules, their species).
        masses: [n_atoms], amu.
        molecule: [n_atoms], molecule of each atom, counted from 0 without gaps.
        species: [n_molecules], name of each molecule's kind.
        charges: [n_molecules], formal charges, e; None where they are not known.
    """

    symbols: NDArray[np.str_]
    masses: Array
    molecule: Integers
    species: NDArray[np.str_]
    charges: Array | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together."""
        n_atoms, n_molecules = len(self.symbols), len(self.species)
        if self.masses.shape != (n_atoms,) or self.molecule.shape != (n_atoms,):
            raise ConfigError(
                f"expected masses and molecules of {n_atoms} atoms, got {self.masses.shape} and "
                f"{self.molecule.shape}"
            )
        if n_atoms == 0 or not np.array_equal(np.unique(self.molecule), np.arange(n_molecules)):
            raise ConfigError(
                f"expected every one of {n_molecules} molecules to have atoms, got ids "
                f"{self.molecule.min(initial=0)} to {self.molecule.max(initial=-1)}"
            )
        if self.charges is not None and self.charges.shape != (n_molecules,):
            raise ConfigError(
                f"expected a charge for each of {n_molecules} molecules, got {self.charges.shape}"
            )

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.symbols)

    @property
    def n_molecules(self) -> int:
        """Number of molecules and ions."""
        return len(self.species)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the species, in the order of their first molecules."""
        return tuple(dict.fromkeys(self.species.tolist()))

    @cached_property
    def molecule_masses(self) -> Array:
        """[n_molecules], amu."""
        return np.asarray(np.bincount(self.molecule, self.masses), dtype=float)

    def of_kind(self, kind: str) -> Integers:
        """Ids of the molecules of a species.

        Raises:
            ConfigError: there is none.
        """
        found = np.flatnonzero(self.species == kind)
        if len(found) == 0:
            raise ConfigError(f"expected one of {', '.join(self.kinds)}, got {kind!r}")
        return found

    def formal_charges(self) -> Array:
        """[n_molecules], e.

        Raises:
            ConfigError: they are not known.
        """
        if self.charges is None:
            raise ConfigError(
                f"expected formal charges of {', '.join(self.kinds)}, got none: give charges="
                "{'Li': 1, ...}"
            )
        return self.charges

    def kind_charges(self) -> dict[str, float]:
        """Formal charge of each species, e.

        Raises:
            ConfigError: not known, or molecules of one species with different charges.
        """
        charges, found = self.formal_charges(), {}
        for kind in self.kinds:
            own = np.unique(charges[self.of_kind(kind)])
            if len(own) > 1:
                raise ConfigError(f"expected one charge for all {kind}, got {own.tolist()}")
            found[kind] = float(own[0])
        return found

    def of_centres(self) -> Topology:
        """That of molecules as single sites."""
        everyone = np.arange(self.n_molecules)
        return Topology(self.species, self.molecule_masses, everyone, self.species, self.charges)


def topology_of(atoms: Atoms, charges: Mapping[str, float] | None = None) -> Topology:
    """Molecules of a structure: those that it declares, otherwise those that its bonds make.

    Boxes of ``hff build`` declare ``arrays["molecule"]`` and ``info["molecules"]``; elsewhere a
    species is named by its Hill formula. Charges are those of ``charges``, of the package's library
    of molecules, or of the table of common ions by formula.

    Args:
        atoms: the structure; a periodic one may be wrapped.
        charges: formal charges by species, e; species that are left out are looked up.

    Raises:
        StructureError: a molecule without end.
        ConfigError: a charge for a species that is not present, or molecules that do not add up.
    """
    found = find_molecules(atoms)
    names = atoms.info.get("molecules")
    if names is not None and len(names) == len(found.members):
        species = [str(name) for name in names]
    else:
        species = [str(formula) for formula in found.formulas]
    unknown = set(charges or {}) - set(species)
    if unknown:
        raise ConfigError(
            f"expected charges of {', '.join(sorted(set(species)))}, got one of {min(unknown)!r}"
        )
    known = {
        name: look_up_charge(name, formula)
        for name, formula in zip(species, found.formulas, strict=True)
    }
    known |= {name: float(value) for name, value in (charges or {}).items()}
    return make_topology(
        atoms.get_chemical_symbols(),
        found.index,
        species,
        atoms.get_masses(),
        [known[name] for name in species],
    )


def make_topology(
    symbols: ArrayLike,
    molecule: ArrayLike,
    species: ArrayLike,
    masses: ArrayLike,
    charges: ArrayLike | None = None,
) -> Topology:
    """A topology from array-like arguments; ids of molecules may have gaps (see `Topology`)."""
    index = np.unique(np.asarray(molecule), return_inverse=True)[1].astype(np.int64)
    return Topology(
        np.asarray(symbols, dtype=str),
        np.asarray(masses, dtype=float),
        index,
        np.asarray(species, dtype=str),
        None if charges is None else np.asarray(charges, dtype=float),
    )


def look_up_charge(name: str, formula: str) -> float:
    """Formal charge of a molecule by its name in the library, otherwise by its formula."""
    from hff_ase.dynamics.build.library import ions, solvents

    if name in ions():
        return float(ions()[name].charge)
    if name in solvents():
        return 0.0
    try:
        return float(formal_charge(formula))
    except HFFError:
        return 0.0
