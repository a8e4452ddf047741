"""Which short-range networks have a fused form."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from hff_ase.batch import AtomsBatch
from hff_ase.kernels import Backend
from hff_ase.neighbors import Rows
from hff_ase.nets.get import GET


class FusedNetwork(Protocol):
    """A network's fused form, called with the network itself first.

    A network without one, and every evaluation that needs second derivatives or float64, runs
    through the network's own ``forward``, which is the reference.
    """

    def __call__(
        self, net: Any, species: Tensor, batch: AtomsBatch, rows: Rows, backend: Backend
    ) -> Tensor:
        """Scalar node features [n_atoms, channels], equal to those of ``net`` to rounding.

        Differentiable once in the positions and the cell of the batch, not in parameters.

        Args:
            net: the network, in float32.
            species: [n_atoms], index into the embedding.
            batch: positions and cell; pair vectors are float64 differences, cast afterwards.
            rows: a full list of at least the network's cutoff; pairs beyond it count nothing.
            backend: which kernels.
        """


def fused_form(net: nn.Module) -> FusedNetwork | None:
    """The fused form of a network; None where it has none."""
    if isinstance(net, GET):
        from hff_ase.kernels.get.network import fused_get  # numba takes a while to import

        return fused_get
    return None
