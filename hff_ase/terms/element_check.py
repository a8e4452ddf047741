"""Refusing elements that a term has no parameters for."""

from __future__ import annotations

import torch
from ase.data import chemical_symbols
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import StructureError


def refuse_unknown(known: Tensor, batch: AtomsBatch, expected: str) -> None:
    """Refuse a batch with an atom whose element is not marked in ``known``.

    Meant for `Term.prepare`: it waits for the device, which no step should.

    Args:
        known: bool, one entry per atomic number from 0 on.
        batch: the systems.
        expected: the known elements, in words.

    Raises:
        StructureError: names the element and the atom.
    """
    number = batch.numbers.clamp(0, known.shape[0] - 1)
    unknown = ~known[number] | (number != batch.numbers)
    if not bool(unknown.any()):
        return
    atom = int(torch.nonzero(unknown)[0, 0])
    number_there = int(batch.numbers[atom])
    in_table = 0 <= number_there < len(chemical_symbols)
    symbol = chemical_symbols[number_there] if in_table else f"atomic number {number_there}"
    raise StructureError(f"expected {expected}, got {symbol} (atom {batch.place(atom)})")
