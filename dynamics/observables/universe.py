"""Molecules, elements, masses and charges of a system that MDAnalysis has read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from ase.formula import Formula
from numpy.typing import NDArray

from hff_ase.dynamics.observables.topology import Topology, look_up_charge, make_topology
from hff_ase.errors import ConfigError

WHOLE = 0.02  # e: sums of atomic charges this near to a whole number are meant to be one
MASS_TOLERANCE = 0.6  # amu, of an element guessed by its mass


def open_universe(topology: Any, trajectory: Any) -> Any:
    """The MDAnalysis universe of two files.

    What it warns of while it opens them is about its own index of frames beside the trajectory,
    which it makes anew where the file has grown since.
    """
    library: Any = import_module("MDAnalysis")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"MDAnalysis\.coordinates\.XDR")
        return library.Universe(str(topology), str(trajectory))


def topology_of_universe(universe: Any, charges: Mapping[str, float] | None = None) -> Topology:
    """Molecules of an MDAnalysis universe: by bonds (fragments) where there are, else residues.

    A species is a residue name, or a Hill formula where residues have none. Charges are those of
    ``charges``, otherwise sums of atomic charges where the topology has them (rounded if within
    0.02 e of a whole number), otherwise looked up by name and formula.

    Raises:
        ConfigError: unknown elements, or a charge for a species that is not present.
    """
    atoms = universe.atoms
    symbols = _symbols(atoms)
    masses = np.asarray(getattr(atoms, "masses", np.zeros(len(atoms))), dtype=float)
    missing = masses <= 0
    masses[missing] = [atomic_masses[atomic_numbers[s]] for s in symbols[missing]]
    if hasattr(atoms, "bonds") and len(atoms.bonds) > 0:
        raw = np.asarray(atoms.fragindices)
    else:
        raw = np.asarray(atoms.resindices)
    molecule = np.unique(raw, return_inverse=True)[1]
    first = np.unique(molecule, return_index=True)[1]
    formulas = _formulas(symbols, molecule)
    names = np.asarray(atoms.resnames)[first] if hasattr(atoms, "resnames") else formulas
    species = [str(name) or formula for name, formula in zip(names, formulas, strict=True)]
    unknown = set(charges or {}) - set(species)
    if unknown:
        raise ConfigError(
            f"expected charges of {', '.join(sorted(set(species)))}, got one of {min(unknown)!r}"
        )
    known = dict(charges or {})
    if hasattr(atoms, "charges") and np.any(atoms.charges):
        summed = np.bincount(molecule, np.asarray(atoms.charges, dtype=float))
        near = np.abs(summed - np.round(summed)) < WHOLE
        own = np.where(near, np.round(summed), summed)
    else:
        pairs = zip(species, formulas, strict=True)
        own = np.array([look_up_charge(name, formula) for name, formula in pairs])
    found = [float(known.get(name, q)) for name, q in zip(species, own, strict=True)]
    return make_topology(symbols, molecule, species, masses, found)


def _symbols(atoms: Any) -> NDArray[np.str_]:
    """Elements: as declared, by mass, or by the letters that names begin with."""
    declared = getattr(atoms, "elements", None)
    if declared is not None and all(str(one).capitalize() in atomic_numbers for one in declared):
        return np.array([str(one).capitalize() for one in declared])
    masses = getattr(atoms, "masses", None)
    if masses is not None and (np.asarray(masses) > 0.5).all():
        table = np.array(atomic_masses)
        nearest = np.abs(np.asarray(masses)[:, None] - table[None, 1:]).argmin(axis=1) + 1
        if (np.abs(table[nearest] - masses) < MASS_TOLERANCE).all():
            return np.array([chemical_symbols[z] for z in nearest])
    raise ConfigError(
        "expected elements or masses in the topology, got neither: give a file that has them (pdb "
        "with elements, tpr, LAMMPS data)"
    )


def _formulas(symbols: NDArray[np.str_], molecule: NDArray[np.int64]) -> list[str]:
    """Hill formula of each molecule."""
    order = np.argsort(molecule, kind="stable")
    cuts = np.flatnonzero(np.diff(molecule[order])) + 1
    return [
        str(Formula.from_list(part.tolist()).format("hill"))
        for part in np.split(symbols[order], cuts)
    ]


def atomic_charges(topology: Any, trajectory: Any) -> NDArray[np.float64]:
    """Fixed atomic charges [n_atoms] of a topology file, e.

    Raises:
        ConfigError: a topology without charges.
    """
    atoms = open_universe(topology, trajectory).atoms
    if not hasattr(atoms, "charges") or not np.any(atoms.charges):
        raise ConfigError(
            f"expected atomic charges in {topology}, got none: a topology that has them is needed "
            "(tpr, psf, prmtop, LAMMPS data)"
        )
    return np.asarray(atoms.charges, dtype=float)
