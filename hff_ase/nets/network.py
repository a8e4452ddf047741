"""What a short-range network offers beyond `torch.nn.Module`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.kernels import Backend
from hff_ase.neighbors import Rows


@runtime_checkable
class FusedNetwork(Protocol):
    """A network with a fused form.

    `ShortRange` uses it where `Neighborhood.fast` allows; a network without one, and every
    evaluation that needs second derivatives or float64, runs through `forward`.
    """

    def fused(self, species: Tensor, batch: AtomsBatch, rows: Rows, backend: Backend) -> Tensor:
        """Scalar node features [n_atoms, channels], equal to those of ``forward`` to rounding.

        Differentiable once in the positions and the cell of the batch, not in parameters.

        Args:
            species: [n_atoms], index into the embedding.
            batch: positions and cell; pair vectors are float64 differences, cast afterwards.
            rows: a full list of at least the network's cutoff; pairs beyond it count nothing.
            backend: which kernels.
        """
