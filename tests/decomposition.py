"""A box divided among processes that are threads here: own atoms, ghosts, and the halo between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.ewald import explicit_corrections
from hff_ase.pairs import PairIndex
from hff_ase.terms.coulomb import Coulomb


@dataclass
class Domain:
    """A process's part of a box: own atoms first, then ghosts (images included).

    Attributes:
        batch: own atoms and ghosts, with the box's cell.
        origin: int64 [n_atoms], which atom of the whole box each is.
        n_own: number of own atoms.
        pairs: of the batch, images being atoms of their own.
        reach: up to which they are complete around own atoms.
    """

    batch: AtomsBatch
    origin: Tensor
    n_own: int
    pairs: PairIndex
    reach: float

    @property
    def owned(self) -> Tensor:
        """Whether each atom is an own one, bool [n_atoms]."""
        return torch.arange(len(self.origin)) < self.n_own


def divide(
    atoms: Atoms, n_domains: int, depth: float, reach: float, bonds: np.ndarray | None = None
) -> list[Domain]:
    """Slabs along the third lattice vector.

    Args:
        depth: how far from own atoms ghosts are kept, Angstrom.
        reach: of the pairs.
        bonds: int64 [n_bonds, 2]; molecules (``arrays["molecule"]``, not wrapped) are then kept
            whole, by ghosts from farther away, and batches have their bonds and charges.
    """
    cell = np.asarray(atoms.cell)
    slab = np.minimum((atoms.get_scaled_positions()[:, 2] * n_domains).astype(int), n_domains - 1)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    most = np.ceil(depth / heights).astype(int) + 1
    shifts = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most), indexing="ij"), -1)
    shifts = shifts.reshape(-1, 3)
    images = (atoms.positions[None] + (shifts @ cell)[:, None]).reshape(-1, 3)
    index = np.tile(np.arange(len(atoms)), len(shifts))
    home = np.repeat((shifts == 0).all(1), len(atoms))
    domains = []
    for rank in range(n_domains):
        own = np.flatnonzero(home & (slab[index] == rank))
        others = np.flatnonzero(~(home & (slab[index] == rank)))
        near = _near(images[others], images[own], depth)
        if bonds is not None:
            copy = np.repeat(np.arange(len(shifts)), len(atoms)) * len(atoms)
            copy += atoms.arrays["molecule"][index]
            near = np.isin(copy[others], copy[np.concatenate([own, others[near]])])
        chosen = np.concatenate([own, others[near]])
        part = Atoms(
            atoms.numbers[index[chosen]], images[chosen], cell=cell, pbc=True, info=atoms.info
        )
        pairs = _pairs(images[chosen], reach)
        batch = AtomsBatch.from_atoms(part)
        if bonds is not None:
            place = np.full(len(images), -1)
            place[chosen] = np.arange(len(chosen))
            of_copies = place[(np.arange(len(shifts)) * len(atoms))[:, None, None] + bonds[None]]
            kept = of_copies.reshape(-1, 2)
            charge = batch.charge.new_tensor([atoms.get_initial_charges()[index[chosen]].sum()])
            batch = batch.replace(
                bonds=torch.from_numpy(kept[(kept >= 0).all(1)]).long(), charge=charge
            )
        domains.append(Domain(batch, torch.from_numpy(index[chosen]), len(own), pairs, reach))
    return domains


def _near(points: np.ndarray, own: np.ndarray, depth: float) -> np.ndarray:
    if not len(own):
        return np.zeros(len(points), dtype=bool)
    distance, _ = _tree(own).query(points, distance_upper_bound=depth)
    return np.isfinite(distance)


def _tree(points: np.ndarray) -> Any:
    from scipy.spatial import cKDTree

    return cKDTree(points)


def _pairs(points: np.ndarray, reach: float) -> PairIndex:
    pairs = _tree(points).query_pairs(reach, output_type="ndarray")
    i, j = (torch.from_numpy(np.ascontiguousarray(column)) for column in pairs.T)
    return PairIndex(i.long(), j.long(), torch.zeros((len(i), 3), dtype=torch.float64))


class Exchange:
    """Where threads put down what others pick up."""

    def __init__(self, domains: Sequence[Domain]) -> None:
        self.domains = domains
        self.barrier = threading.Barrier(len(domains), timeout=60)
        self.table: dict[int, Tensor] = {}
        # own rank and place of every atom of the whole box
        n = int(max(domain.origin.max() for domain in domains)) + 1
        self.rank, self.place = torch.empty(n).long(), torch.empty(n).long()
        for rank, domain in enumerate(domains):
            own = domain.origin[: domain.n_own]
            self.rank[own], self.place[own] = rank, torch.arange(domain.n_own)

    def share(self, rank: int, value: Tensor) -> list[Tensor]:
        """Every rank's value."""
        self.table[rank] = value.clone()  # whoever gave it goes on and writes there
        self.barrier.wait()
        found = [self.table[k] for k in range(len(self.domains))]
        self.barrier.wait()
        return found


class ThreadHalo:
    """`hff_ase.halo.Halo` between threads."""

    def __init__(self, exchange: Exchange, rank: int, coulomb: Coulomb | None) -> None:
        self.exchange, self.rank, self.coulomb = exchange, rank, coulomb
        self.domain = exchange.domains[rank]
        self.n_own, self.n_total = self.domain.n_own, len(exchange.rank)
        self.n_atoms, self.share = len(self.domain.origin), 1.0 / len(exchange.domains)

    def within(self, cutoff: float) -> ThreadHalo:
        return self

    def forward(self, own: Tensor) -> Tensor:
        values = self.exchange.share(self.rank, own)
        return self._in_order(values)[self.domain.origin]

    def reverse(self, everything: Tensor) -> Tensor:
        total = everything.new_zeros((self.n_total, *everything.shape[1:]))
        shared = self.exchange.share(self.rank, everything)
        for domain, values in zip(self.exchange.domains, shared, strict=True):
            total = total.index_add(0, domain.origin, values)
        return total[self.domain.origin[: self.n_own]]

    def allreduce(self, values: Tensor) -> Tensor:
        return torch.stack(self.exchange.share(self.rank, values)).sum(0)

    def reciprocal(
        self, positions: Tensor, cell: Tensor, charges: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Everybody computes the whole; rank 0 has all of dE/dcell."""
        assert self.coulomb is not None
        x = self._in_order(self.exchange.share(self.rank, positions.detach()))
        q = self._in_order(self.exchange.share(self.rank, charges.detach()))
        batch = AtomsBatch.of(
            {
                "positions": x,
                "numbers": torch.ones(len(x)).long(),
                "system": torch.zeros(len(x)).long(),
                "cell": cell.detach(),
                "periodic": torch.tensor([True]),
                "charge": q.sum()[None],
            }
        )
        method = self.coulomb.reciprocal
        found = method.explicit(batch, q, method.prepare(batch))
        found = found + explicit_corrections(batch, q, self.coulomb.alpha)
        own = self.domain.origin[: self.n_own]
        d_cell = found.d_cell if self.rank == 0 else torch.zeros_like(found.d_cell)
        return found.phi[own], found.d_positions[own], d_cell

    def _in_order(self, values: Sequence[Tensor]) -> Tensor:
        """Own values of all ranks, in the order of the whole box."""
        whole = values[0].new_empty((self.n_total, *values[0].shape[1:]))
        for domain, mine in zip(self.exchange.domains, values, strict=True):
            whole[domain.origin[: domain.n_own]] = mine
        return whole


def in_threads(work: Callable[[int], Any], n: int) -> list[Any]:
    """work(0), work(1), ... at the same time."""
    results: list[Any] = [None] * n
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = work(rank)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
