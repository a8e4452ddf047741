"""How the atoms of a batch are divided among its systems and molecules."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor


class Layout:
    """Counts and offsets of systems, computed when first asked for and shared by all batches of the
    same systems, wherever their atoms are.

    What is given as a number is known on the host: asked of a device, it would make the host wait.

    Args:
        system: int64 [n_atoms], ascending.
        periodic: bool [n_systems].
        molecule: int64 [n_atoms] or None.
        counts: int64 [n_systems], atoms per system.
        max_count: of the largest system; any_periodic, all_periodic, n_molecules: as named.
    """

    def __init__(
        self,
        system: Tensor,
        periodic: Tensor,
        molecule: Tensor | None = None,
        *,
        counts: Tensor | None = None,
        max_count: int | None = None,
        any_periodic: bool | None = None,
        all_periodic: bool | None = None,
        n_molecules: int | None = None,
    ) -> None:
        self._system, self._periodic, self._molecule = system, periodic, molecule
        given = {
            "counts": counts,
            "max_count": max_count,
            "any_periodic": any_periodic,
            "all_periodic": all_periodic,
            "n_molecules": n_molecules,
        }
        self.__dict__.update({name: value for name, value in given.items() if value is not None})

    @cached_property
    def counts(self) -> Tensor:
        """Atoms per system, int64 [n_systems]."""
        return torch.bincount(self._system, minlength=self._periodic.shape[0])

    @cached_property
    def max_count(self) -> int:
        """Atoms in the largest system."""
        return int(self.counts.max())

    @cached_property
    def any_periodic(self) -> bool:
        """Whether a system is periodic."""
        return bool(self._periodic.any())

    @cached_property
    def all_periodic(self) -> bool:
        """Whether every system is periodic."""
        return bool(self._periodic.all())

    @cached_property
    def n_molecules(self) -> int:
        """Molecules of the whole batch; 0 where none are given."""
        if self._molecule is None or not len(self._molecule):
            return 0
        return int(self._molecule.max()) + 1

    @cached_property
    def first_atom(self) -> Tensor:
        """Index of the first atom of each system, int64 [n_systems]."""
        return torch.cumsum(self.counts, 0) - self.counts

    @cached_property
    def index_in_system(self) -> Tensor:
        """Index of each atom within its own system, int64 [n_atoms]."""
        index = torch.arange(self._system.shape[0], device=self._system.device)
        return index - self.first_atom[self._system]

    @classmethod
    def join(
        cls,
        parts: Sequence[Layout],
        system: Tensor,
        periodic: Tensor,
        molecule: Tensor | None,
    ) -> Layout:
        """The layout of several batches put together, from what is known of each."""
        return cls(
            system,
            periodic,
            molecule,
            counts=torch.cat([part.counts for part in parts]),
            max_count=max(part.max_count for part in parts),
            any_periodic=any(part.any_periodic for part in parts),
            all_periodic=all(part.all_periodic for part in parts),
            n_molecules=None if molecule is None else sum(part.n_molecules for part in parts),
        )

    def to(self, system: Tensor, periodic: Tensor, molecule: Tensor | None) -> Layout:
        """The same layout for the same arrays on another device."""
        return Layout(
            system,
            periodic,
            molecule,
            counts=self.counts.to(system.device),
            max_count=self.max_count,
            any_periodic=self.any_periodic,
            all_periodic=self.all_periodic,
            n_molecules=self.n_molecules,
        )
