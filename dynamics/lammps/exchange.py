"""The halo between processes by MPI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hff_ase.dynamics.lammps.long_range import LongRange


class Link:
    """Which values go where.

    Args:
        world: an mpi4py communicator.
        theirs: for each process the indices of own atoms that it has as ghosts.
        mine: for each process the indices (among all atoms here) of ghosts that it owns.
    """

    def __init__(
        self, world: Any, theirs: Sequence[np.ndarray], mine: Sequence[np.ndarray]
    ) -> None:
        self.world = world
        self.counts = [len(part) for part in theirs], [len(part) for part in mine]
        self.sent = _joined(theirs)
        self.received = _joined(mine)

    def to_ghosts(self, own: Tensor) -> Tensor:
        """Values [n_own, ...] of own atoms to those of ghosts here, in the order of `received`."""
        return self._over(own.index_select(0, self.sent), *self.counts)

    def to_owners(self, everything: Tensor) -> Tensor:
        """Values of ghosts here to those that others have of own atoms, in the order of `sent`."""
        return self._over(everything.index_select(0, self.received), *reversed(self.counts))

    def _over(self, values: Tensor, gone: list[int], come: list[int]) -> Tensor:
        tail = values.shape[1:]
        width = int(np.prod(tail, dtype=np.int64))
        result = torch.empty((sum(come), *tail), dtype=values.dtype)
        self.world.Alltoallv(
            [values.contiguous().numpy(), [n * width for n in gone]],
            [result.numpy(), [n * width for n in come]],
        )
        return result


def _joined(parts: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *parts]))


class MPIHalo:
    """`hff_ase.halo.Halo` among the processes of an MPI communicator.

    Args:
        world: an mpi4py communicator.
        n_own, n_atoms, n_total: own atoms, own atoms and ghosts, atoms of the whole system.
        share: see `hff_ase.halo.Halo`.
        links: the exchange with all ghosts, and with those that may lie within a shorter distance;
            the latter are the first ``n_near`` atoms.
        near: that distance, Angstrom.
        long_range: what sums the smooth part of 1/r over all processes; None where there is none.
    """

    def __init__(
        self,
        world: Any,
        n_own: int,
        n_atoms: int,
        n_total: int,
        share: float,
        links: tuple[Link, Link],
        near: tuple[float, int],
        long_range: LongRange | None,
    ) -> None:
        self.world = world
        self.n_own, self.n_atoms, self.n_total, self.share = n_own, n_atoms, n_total, share
        self.links, self.near, self.long_range = links, near, long_range

    def within(self, cutoff: float) -> MPIHalo:
        """The exchange with near ghosts, if these are all within the cutoff; else this one. All
        processes choose alike."""
        distance, n_near = self.near
        if cutoff > distance:
            return self
        counts = self.n_own, n_near, self.n_total, self.share
        link = self.links[1]
        return MPIHalo(self.world, *counts, (link, link), (distance, n_near), None)

    def forward(self, own: Tensor) -> Tensor:
        """Values of own atoms [n_own, ...] to own atoms and ghosts [n_atoms, ...]."""
        everything = own.new_zeros((self.n_atoms, *own.shape[1:]))
        everything[: self.n_own] = own
        if self.world.size > 1:
            link = self.links[0]
            everything[link.received] = link.to_ghosts(own.cpu()).to(own.device)
        return everything

    def reverse(self, everything: Tensor) -> Tensor:
        """Values of own atoms, those of ghosts elsewhere added: [n_own, ...]."""
        own = everything[: self.n_own].clone()
        if self.world.size > 1:
            link = self.links[0]
            back = link.to_owners(everything.cpu()).to(own.device)
            own.index_add_(0, link.sent.to(own.device), back)
        return own

    def allreduce(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world.size == 1:
            return values
        total = values.detach().cpu().contiguous().clone()
        self.world.Allreduce(self._in_place(), total.numpy())
        return total.to(values.device)

    def _in_place(self) -> Any:
        from mpi4py import MPI

        return MPI.IN_PLACE

    def reciprocal(
        self, positions: Tensor, cell: Tensor, charges: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The smooth part of 1/r, over the charges of all processes."""
        if self.long_range is None:
            raise RuntimeError("expected a Coulomb term behind the long range, got none")
        return self.long_range.reciprocal(positions, cell, charges, self)
