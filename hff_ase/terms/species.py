"""From atomic numbers to rows of per-element tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from hff_ase.errors import ConfigError


class SpeciesIndex(nn.Module):
    """The row of each atom in tables that hold one row per known element, in the given order.

    Raises:
        ConfigError: no elements, an unknown symbol or one given twice.
    """

    row: Tensor

    def __init__(self, elements: Sequence[str]) -> None:
        super().__init__()
        unknown = [symbol for symbol in elements if symbol not in atomic_numbers]
        if not elements or unknown or len(set(elements)) != len(elements):
            raise ConfigError(f"expected distinct chemical symbols, got {list(elements)}")
        self.elements = tuple(elements)
        row = torch.zeros(len(chemical_symbols), dtype=torch.int64)
        for index, symbol in enumerate(elements):
            row[atomic_numbers[symbol]] = index
        self.register_buffer("row", row, persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Rows [n_atoms] for atomic numbers [n_atoms]."""
        return self.row[numbers]
