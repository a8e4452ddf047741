"""E3Net, an equivariant network on e3nn's algebra with features of any degree.

Message passing as in NequIP (Batzner et al., Nat. Commun. 2022, 13, 2453): radial weights times the
channel-wise product of sender features and spherical harmonics, summed over neighbours, mixed and
gated. With ``correlation`` above 1 the sum is multiplied with itself first, as in MACE (Batatia et
al., arXiv 2206.07697). Messages have no activation of their own, so an edge costs one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hff_ase.errors import ConfigError
from hff_ase.halo import Halo, exchange
from hff_ase.nets.e3_algebra import dimension, irreps, spherical_harmonics
from hff_ase.nets.e3_convolution import E3Edges, convolve, couplings
from hff_ase.nets.e3_layers import ElementLinear, Linear, Product, RadialNetwork, gate
from hff_ase.nets.network import Network
from hff_ase.nets.radial import BesselBasis, Envelope, ExpNormalBasis, Shape

__all__ = ["E3Net"]

BASES = {"bessel": BesselBasis, "exp-normal": ExpNormalBasis}


class E3Net(Network):
    """Equivariant message passing: species and edge vectors to scalar node features.

    Args:
        n_species: rows of the embedding table.
        channels: copies of each degree per node.
        l_max: highest degree of the node features; all have the parity (-1)^l.
        layers: interaction layers, at least 1.
        correlation: highest order of the many-body product, 1 for none.
        l_edge: highest degree of spherical harmonics and of the sums over neighbours that the
            product takes; None for `l_max`. Without a product degrees above 2 l_max never return.
        n_radial: radial basis functions, trainable.
        radial_hidden: widths of the hidden layers of the radial network.
        basis: "bessel" or "exp-normal".
        cutoff: Angstrom.
        envelope: "smooth" (three continuous derivatives at the cutoff), "polynomial" or "cosine".
        avg_neighbors: typical number of neighbours; messages are divided by its square root.

    Raises:
        ConfigError: a size that cannot be.
    """

    def __init__(
        self,
        n_species: int,
        channels: int = 32,
        l_max: int = 2,
        layers: int = 3,
        correlation: int = 1,
        l_edge: int | None = None,
        n_radial: int = 8,
        radial_hidden: Sequence[int] = (32,),
        basis: Literal["bessel", "exp-normal"] = "bessel",
        cutoff: float = 5.0,
        envelope: Shape = "smooth",
        avg_neighbors: float = 50.0,
    ) -> None:
        l_edge = l_max if l_edge is None else l_edge
        if min(n_species, channels, layers, correlation, n_radial, *radial_hidden) < 1:
            raise ConfigError(
                "expected positive sizes, got "
                f"{n_species} species, {channels} channels, {layers} layers, correlation "
                f"{correlation}, {n_radial} radial, radial_hidden {tuple(radial_hidden)}"
            )
        if not 0 <= l_max <= l_edge <= 11:
            raise ConfigError(f"expected 0 <= l_max <= l_edge <= 11, got {l_max} and {l_edge}")
        if not (cutoff > 0 and avg_neighbors > 0):
            raise ConfigError(
                f"expected a positive cutoff and avg_neighbors, got {cutoff} and {avg_neighbors}"
            )
        if basis not in BASES:
            raise ConfigError(f"expected a basis among {sorted(BASES)}, got {basis!r}")
        options = {
            "channels": channels,
            "l_max": l_max,
            "layers": layers,
            "correlation": correlation,
            "l_edge": l_edge,
            "n_radial": n_radial,
            "radial_hidden": list(radial_hidden),
            "basis": basis,
            "cutoff": cutoff,
            "envelope": envelope,
            "avg_neighbors": avg_neighbors,
        }
        super().__init__(n_species, options)
        self.l_max, self.l_edge = l_max, l_edge
        self.fast = True  # False: plain torch throughout, differentiable more than twice
        self.envelope = Envelope(cutoff, envelope)
        self.basis = BASES[basis](n_radial, cutoff)
        degrees = [0, *[l_max] * (layers - 1), 0]
        self.layers = nn.ModuleList(
            [Interaction(n_species, options, degrees[k], degrees[k + 1]) for k in range(layers)]
        )

    @property
    def irreps_hidden(self) -> str:
        """The node features, e.g. 32x0e+32x1o+32x2e."""
        return irreps(self.channels, self.l_max)

    @property
    def interactions(self) -> list[Interaction]:
        """The layers."""
        return [layer for layer in self.layers if isinstance(layer, Interaction)]

    @property
    def reach(self) -> float:
        """A cutoff per layer, Angstrom."""
        return self.cutoff * len(self.layers)

    def forward(
        self, species: Tensor, i: Tensor, j: Tensor, vector: Tensor, halo: Halo | None = None
    ) -> Tensor:
        """Scalar node features [n_atoms, channels]: see `Network.forward`."""
        edges = self.edges(i, j, vector)
        x = self.embedding(species)[:, None, :]
        for number, layer in enumerate(self.layers):
            x = layer(exchange(x, halo) if number else x, species, edges)
        return x[:, 0]

    def edges(self, i: Tensor, j: Tensor, vector: Tensor) -> E3Edges:
        """The edge data of the layers, sorted by receiver."""
        if bool((i[1:] < i[:-1]).any()):
            order = torch.argsort(i, stable=True)
            i, j, vector = i[order], j[order], vector[order]
        distance = torch.linalg.vector_norm(vector, dim=-1)
        radial = self.basis(distance) * self.envelope(distance)[:, None]
        return E3Edges(i, j, spherical_harmonics(self.l_edge, vector), radial, self.fast)


class Interaction(nn.Module):
    """x <- x + gate(L(messages) + S_Z(x)), with the product between messages and L if there is one.

    Args:
        n_species: number of species.
        options: of the network.
        l_in, l_out: highest degrees of the features before and after.
    """

    def __init__(self, n_species: int, options: dict[str, Any], l_in: int, l_out: int) -> None:
        super().__init__()
        channels, order = options["channels"], options["correlation"]
        self.l_in, self.l_out, self.l_edge = l_in, l_out, options["l_edge"]
        self.l_sum = self.l_edge if order > 1 else min(l_out, l_in + self.l_edge)
        self.channels, self.scale = channels, options["avg_neighbors"] ** -0.5
        self.n_paths = len(couplings(l_in, self.l_edge, self.l_sum).paths)
        self.up = Linear(channels, [channels] * (l_in + 1))
        sizes = (options["n_radial"], *options["radial_hidden"], self.n_paths * channels)
        self.radial = RadialNetwork(*sizes)
        self.product: Product | None = None
        if order > 1:
            self.mix = Linear(channels, [channels] * (self.l_sum + 1))
            self.product = Product(n_species, channels, self.l_sum, l_out, order)
        self.out = Linear(channels, [channels * (1 + l_out), *[channels] * l_out])
        self.own = ElementLinear(n_species, channels, min(l_in, l_out))

    def forward(self, x: Tensor, species: Tensor, edges: E3Edges) -> Tensor:
        """Features [n_atoms, (l_out + 1)^2, channels] from those of degree up to l_in."""
        weights = self.radial(edges.radial).unflatten(-1, (self.n_paths, self.channels))
        sums = convolve(self.senders(x), weights, edges, self.l_edge, self.l_sum)
        return self.update(x, sums, species)

    def senders(self, x: Tensor) -> Tensor:
        """Message of each atom along its edges, [n_atoms, (l_in + 1)^2, channels]."""
        return torch.cat(self.up(x), dim=1) * self.scale

    def update(self, x: Tensor, a: Tensor, species: Tensor) -> Tensor:
        """New features from the old ones and the sums over edges."""
        if self.product is not None:
            a = self.product(torch.cat(self.mix(a), dim=1), species)
        parts = self.out(a)
        for degree, own in enumerate(self.own(x, species)):
            gates = parts[degree].shape[-1] - self.channels
            parts[degree] = parts[degree] + nn.functional.pad(own, (0, gates))
        new = gate(parts, self.channels)
        kept = dimension(min(self.l_in, self.l_out))
        return torch.cat([new[:, :kept] + x[:, :kept], new[:, kept:]], dim=1)
