"""Short-range networks with a fused form."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from hff_ase.backends import Backend
from hff_ase.batch import AtomsBatch
from hff_ase.halo import Halo
from hff_ase.kept import LiveParameters
from hff_ase.nets.e3 import E3Net
from hff_ase.nets.get import GET
from hff_ase.pairs import Rows

ABLATED = ("attention", "vectors")  # options of GET without which it has no fused form


class FusedNetwork(Protocol):
    """A network's fused form, called with the network as first argument.

    A network without one, and every evaluation that needs second derivatives or float64, runs
    through the network's own ``forward``, which is the reference.
    """

    def __call__(
        self,
        net: Any,
        species: Tensor,
        batch: AtomsBatch,
        rows: Rows,
        backend: Backend,
        parameters: LiveParameters | None = None,
        halo: Halo | None = None,
    ) -> Tensor:
        """Scalar node features [n_atoms, channels], equal to those of ``net`` to rounding.

        Differentiable once: in the positions and the cell of the batch or, with ``parameters`` and
        where positions and cell want no gradient, in the network's parameters.

        Args:
            net: the network, in float32.
            species: [n_atoms], index into the embedding.
            batch: positions and cell; pair vectors are float64 differences, cast afterwards.
            rows: a full list of at least the network's cutoff; pairs beyond it count nothing.
            backend: which kernels.
            parameters: of this training step; only for backends of `differentiable_parameters`.
            halo: to the owners of the ghosts, whose rows hold their own-atom neighbours.
        """


def fused_form(
    net: nn.Module, backend: Backend | None, halo: Halo | None = None
) -> FusedNetwork | None:
    """The fused form of a network; None if it has none, or none for the requested exchange."""
    if backend is None or (halo is not None and (backend != "numba" or not isinstance(net, GET))):
        return None
    if isinstance(net, GET) and all(net.options.get(part, True) for part in ABLATED):
        from hff_ase.kernels.get.network import fused_get  # numba takes a while to import

        return fused_get
    if isinstance(net, E3Net) and net.fast and backend == "numba":
        from hff_ase.kernels.e3.network import fused_e3

        return fused_e3
    return None


def differentiable_parameters(net: nn.Module, backend: Backend) -> bool:
    """Whether a network's fused form gives gradients of its parameters."""
    return backend == "numba" and fused_form(net, backend) is not None
