"""States of TorchSim as batches: what is read of them, and what is refused.

A state is a SimState or anything with its attributes: positions [n_atoms, 3], Angstrom; cell
[n_systems, 3, 3], lattice vectors as columns; system_idx and atomic_numbers [n_atoms]; pbc.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import StructureError
from hff_ase.structures import check_cell

CHARGE = ("total_charge", "charge")  # what a state may call it


@dataclass(frozen=True)
class Systems:
    """A state's contents besides positions and cells, copied: integrators write in place."""

    numbers: Tensor
    system: Tensor
    pbc: Tensor
    charge: Tensor | None
    batch: AtomsBatch

    def are(self, state: Any, pbc: Tensor, charge: Tensor | None) -> bool:
        """Whether a state holds the same systems."""
        ours = (self.numbers, self.system, self.pbc)
        if not all(map(_equal, ours, (state.atomic_numbers, state.system_idx, pbc))):
            return False
        if not _equal(self.batch.periodic, _periodic(pbc, state.cell)):
            return False
        if self.charge is None or charge is None:
            return self.charge is charge
        return _equal(self.charge, charge)

    @classmethod
    def of(cls, state: Any, pbc: Tensor, charge: Tensor | None, batch: AtomsBatch) -> Systems:
        """The systems of a state, and the batch that was made from it."""
        return cls(
            numbers=state.atomic_numbers.clone(),
            system=state.system_idx.clone(),
            pbc=pbc.clone(),
            charge=None if charge is None else charge.clone(),
            batch=batch,
        )


def total_charges(state: Any) -> Tensor | None:
    """Total charges of a state's systems [n_systems], e; None where it has none."""
    given = (getattr(state, name, None) for name in CHARGE)
    return next((value for value in given if value is not None), None)


def batch_of(state: Any, pbc: Tensor, charge: Tensor | None) -> AtomsBatch:
    """The systems of a state.

    Args:
        state: see above.
        pbc: bool, one flag, one per axis, or one per system and axis.
        charge: [n_systems], e; None for neutral systems.

    Raises:
        StructureError: charges that are not finite or of another number, boundaries that are
            periodic in some directions only, or atoms of a system that do not stand together.
    """
    cell = state.cell.detach()
    n_systems = cell.shape[0]
    periodic = _periodic(pbc, cell)
    total = torch.zeros(n_systems, dtype=torch.float64, device=cell.device)
    if charge is not None:
        if charge.numel() != n_systems or not bool(torch.isfinite(charge).all()):
            raise StructureError(
                f"expected a finite charge for each of {n_systems} systems, got "
                f"{charge.tolist()!s:.60}"
            )
        total = charge.detach().double().reshape(n_systems)
    batch = AtomsBatch(
        positions=state.positions.detach().double(),
        numbers=state.atomic_numbers.long(),
        system=state.system_idx.long(),
        cell=rows_of(cell, periodic),
        periodic=periodic,
        charge=total.clone(),
    )
    if bool((batch.system.diff() < 0).any()) or not bool((batch.counts > 0).all()):
        raise StructureError("expected the atoms of each system together, in order, got others")
    return batch


def check_cells(batch: AtomsBatch) -> None:
    """Refuse cells that are flat, left-handed or not finite.

    Raises:
        StructureError: the first of them.
    """
    for index in torch.nonzero(_odd(batch)).flatten().tolist():
        check_cell(batch.cell[index].cpu().numpy(), f" (system {index})")


def structures_of(batch: AtomsBatch) -> Iterator[Atoms]:
    """The systems of a batch, one after the other."""
    numbers, positions, cells = (
        x.cpu().numpy() for x in (batch.numbers, batch.positions, batch.cell)
    )
    ends = batch.counts.cumsum(0).tolist()
    for index, (start, end) in enumerate(pairwise([0, *ends])):
        pbc = bool(batch.periodic[index])
        cell = cells[index] if pbc else None
        atoms = Atoms(numbers[start:end], positions[start:end], cell=cell, pbc=pbc)
        atoms.info["charge"] = float(batch.charge[index])
        yield atoms


def rows_of(cell: Tensor, periodic: Tensor) -> Tensor:
    """Cells [n_systems, 3, 3] with lattice vectors as rows, the identity for molecules."""
    rows = cell.detach().double().mT
    return torch.where(periodic[:, None, None], rows, torch.eye(3, device=cell.device).double())


def _periodic(pbc: Tensor, cell: Tensor) -> Tensor:
    """Which systems are periodic, bool [n_systems], from one flag, one per axis or one per system
    and axis."""
    axes = pbc.expand(cell.shape[0], 3)
    if bool((axes.any(1) != axes.all(1)).any()):
        raise StructureError(
            "expected periodic boundaries in all three directions or in none, got "
            f"pbc={pbc.tolist()!s:.60}"
        )
    return axes.all(1) & (cell != 0).flatten(1).any(1)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.device == b.device and torch.equal(a, b)


def _odd(batch: AtomsBatch) -> Tensor:
    """Systems whose cell is flat, left-handed or not finite, bool [n_systems]."""
    size = torch.linalg.vector_norm(batch.cell, dim=-1).prod(-1).clamp(min=1.0)
    return ~(torch.linalg.det(batch.cell) > 1e-6 * size)
