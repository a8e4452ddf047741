"""Templates: the molecules that a molecular force field has parameters for.

Parameters belong to sites, the atoms of all templates one after the other. Atoms that no
relabelling of a molecule tells apart are of one class and share their parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hff_ase.errors import ConfigError
from hff_ase.molecule_graph import MoleculeGraph, refined

FAR = 99  # bonds apart: no path


@dataclass(frozen=True)
class Template:
    """A molecule or ion by its graph.

    Attributes:
        name: as messages call it.
        numbers: atomic numbers.
        bonds: pairs of its atoms, i < j.
    """

    name: str
    numbers: tuple[int, ...]
    bonds: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Template:
        """From ``{name, numbers, bonds}`` as configurations hold it.

        Raises:
            ConfigError: entries are missing, or a bond names an atom that does not exist.
        """
        try:
            numbers = tuple(int(z) for z in entry["numbers"])
            bonds = tuple(sorted((min(i, j), max(i, j)) for i, j in entry["bonds"]))
            name = str(entry["name"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"expected a molecule with name, numbers and bonds, got {error!r}"
            ) from None
        if not numbers or any(not 0 <= i < j < len(numbers) for i, j in bonds):
            raise ConfigError(f"expected bonds between the {len(numbers)} atoms of {name!r}")
        return cls(name, numbers, bonds)

    def config(self) -> dict[str, Any]:
        """What `of` takes."""
        bonds = [list(bond) for bond in self.bonds]
        return {"name": self.name, "numbers": list(self.numbers), "bonds": bonds}

    @cached_property
    def graph(self) -> MoleculeGraph:
        """The molecule as a graph."""
        return MoleculeGraph(self.numbers, self.bonds)

    @cached_property
    def bond_pairs(self) -> np.ndarray:
        """The bonds, int64 [n_bonds, 2]."""
        return np.array(self.bonds, dtype=np.int64).reshape(-1, 2)

    @cached_property
    def apart(self) -> np.ndarray:
        """Number of bonds on the shortest path between two atoms, int64 [n, n]; `FAR` without."""
        n = len(self.numbers)
        apart = np.full((n, n), FAR, dtype=np.int64)
        np.fill_diagonal(apart, 0)
        for i, j in self.bonds:
            apart[i, j] = apart[j, i] = 1
        for k in range(n):  # Floyd and Warshall
            apart = np.minimum(apart, apart[:, k : k + 1] + apart[k : k + 1])
        return np.minimum(apart, FAR)

    def pairs(self, fewest: int, most: int) -> np.ndarray:
        """Pairs i < j of atoms that are this many bonds apart, int64 [n_pairs, 2]."""
        i, j = np.nonzero(np.triu((self.apart >= fewest) & (self.apart <= most), 1))
        return np.stack([i, j], axis=1)

    @cached_property
    def classes(self) -> np.ndarray:
        """Class of each atom, int64 [n], from 0: equal where the graph is the same from there."""
        colors = refined(np.array(self.numbers), self.bond_pairs)
        return np.unique(colors, return_inverse=True)[1].reshape(-1)


class Templates:
    """The molecules of a force field.

    Args:
        molecules: with different graphs.

    Attributes:
        first: first site of each template.
        n_sites: of all templates together.

    Raises:
        ConfigError: no molecules, or two that are the same.
    """

    def __init__(self, molecules: Iterable[Template]) -> None:
        self.molecules = tuple(molecules)
        if not self.molecules:
            raise ConfigError("expected at least one molecule, got none")
        self._by_key: dict[str, int] = {}
        for index, template in enumerate(self.molecules):
            key = template.graph.key
            if key in self._by_key:
                twin = self.molecules[self._by_key[key]].name
                raise ConfigError(f"expected each molecule once, got {twin} and {template.name}")
            self._by_key[key] = index
        sizes = [len(template.numbers) for template in self.molecules]
        self.first = [int(k) for k in np.cumsum([0, *sizes[:-1]])]
        self.n_sites = sum(sizes)

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, Any]]) -> Templates:
        """From configurations.

        Raises:
            ConfigError: as `Template.of` and the constructor.
        """
        return cls(Template.of(entry) for entry in entries)

    def config(self) -> list[dict[str, Any]]:
        """What `of` takes."""
        return [template.config() for template in self.molecules]

    @property
    def names(self) -> list[str]:
        """Names of the molecules."""
        return [template.name for template in self.molecules]

    def find(self, graph: MoleculeGraph) -> int | None:
        """Which template a molecule is; None where it is none."""
        index = self._by_key.get(graph.key)
        if index is None or not graph.is_same(self.molecules[index].graph):
            return None
        return index

    @cached_property
    def site_classes(self) -> np.ndarray:
        """Class of each site, int64 [n_sites], counted through all templates."""
        found, before = [], 0
        for template in self.molecules:
            found.append(template.classes + before)
            before += int(template.classes.max()) + 1
        return np.concatenate(found)
