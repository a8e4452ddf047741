"""The interface of short-range networks to the terms that use them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from hff_ase.halo import Halo


class Network(nn.Module, ABC):
    """Species and edge vectors to scalar node features.

    A subclass takes ``n_species`` and its options as keyword arguments, calls `Network.__init__`
    with them, and is entered by name in `hff_ase.nets.NETWORKS`.

    Attributes:
        cutoff: Angstrom; edges at or beyond it have no influence.
        channels: width of the features.
        options: JSON-able constructor arguments less ``n_species``, all of them written out: a file
            keeps its meaning when a default changes.
        embedding: one row per species.
    """

    cutoff: float
    channels: int
    options: dict[str, Any]
    embedding: nn.Embedding

    def __init__(self, n_species: int, options: dict[str, Any]) -> None:
        super().__init__()
        self.options = options
        self.cutoff, self.channels = options["cutoff"], options["channels"]
        self.embedding = nn.Embedding(n_species, self.channels)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights, and of the vectors that ``forward`` takes."""
        return self.embedding.weight.dtype

    @property
    @abstractmethod
    def irreps_hidden(self) -> str:
        """The node features between layers in e3nn's notation, e.g. 64x0e+64x1o."""

    @property
    @abstractmethod
    def reach(self) -> float:
        """How far away atoms have an influence on an atom's features, Angstrom."""

    @abstractmethod
    def forward(
        self, species: Tensor, i: Tensor, j: Tensor, vector: Tensor, halo: Halo | None = None
    ) -> Tensor:
        """Scalar node features [n_atoms, channels].

        Args:
            species: int64 [n_atoms], index into the embedding.
            i, j: int64 [n_edges], receiver and sender, every pair in both directions, any order.
            vector: [n_edges, 3] from i to j, Angstrom, in the network's dtype.
            halo: through which ghosts get their owners' features between layers: features of
                ghosts at the end are not needed, and may be wrong.
        """
