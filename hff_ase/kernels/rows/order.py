"""Atoms along a space-filling curve, so that neighbours in space are neighbours in memory.

The curve is Morton's (Z-order; G. M. Morton, IBM technical report, 1966): the bits of the three bin
numbers, interleaved.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.reduce import segment_max

SMALLEST = 2000  # atoms of the largest system; what fits into the caches gains nothing
WIDTH = 4.0  # Angstrom, of a bin
BITS = 10  # per direction
# An order is worn when so many of its steps lead from one block of 4^3 bins (16 Angstrom, some 400
# atoms of a liquid) to another: atoms have then moved by about 4 Angstrom.
WORN, BLOCK = 0.5, 6


def spatial_order(batch: AtomsBatch, last: Tensor | None = None) -> Tensor | None:
    """The atoms of each system along the curve, int64 [n_atoms]; None where it would not help: on
    small systems, and away from the CPU.

    Args:
        batch: atoms as given.
        last: the order so far, which is kept while atoms have not yet diffused far.
    """
    if batch.device.type != "cpu" or batch.max_count < SMALLEST:
        return None
    key = curve(batch)
    if last is not None and last.shape[0] == batch.n_atoms:
        block = key.index_select(0, last) >> BLOCK
        if float((block.diff() != 0).double().mean()) < WORN:
            return last
    return torch.argsort(key, stable=True)


def curve(batch: AtomsBatch) -> Tensor:
    """Place along the curve, system by system, int64 [n_atoms]."""
    system, n_systems = batch.system, batch.n_systems
    periodic = batch.periodic.index_select(0, system)[:, None]
    inverse = torch.linalg.inv(batch.cell).index_select(0, system)
    fractional = (batch.positions[:, None] @ inverse)[:, 0]
    fractional = fractional - torch.floor(fractional)
    vectors = torch.linalg.vector_norm(batch.cell, dim=2).index_select(0, system)
    # without a cell, distances from the lowest coordinates of the system
    low = torch.stack([-largest(-x, system, n_systems) for x in batch.positions.unbind(1)], 1)
    place = torch.where(periodic, fractional * vectors, batch.positions - low)
    bins = (place / WIDTH).long().clamp(0, 2**BITS - 1)
    key = system << (3 * BITS)
    for bit in range(BITS):
        for axis in range(3):
            key = key | (((bins[:, axis] >> bit) & 1) << (3 * bit + axis))
    return key


def largest(values: Tensor, system: Tensor, n_systems: int) -> Tensor:
    """The largest of ``values`` in each system, for each of its atoms."""
    floor = values.min()
    return (segment_max(values - floor, system, n_systems) + floor).index_select(0, system)
