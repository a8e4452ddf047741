"""The short-range network as an energy term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.kernels.networks import fused_form
from hff_ase.neighborhood import Neighborhood
from hff_ase.nets import NETWORKS, Network
from hff_ase.nets.mlp import mlp
from hff_ase.nets.presets import with_preset
from hff_ase.pairs import PairRequest
from hff_ase.terms.species import SpeciesIndex
from hff_ase.terms.term import Fields, Term


class ShortRange(Term):
    """E = sum_i [mlp(x_i) + E_ref(Z_i)] over the scalar node features x of a network.

    Args:
        elements: chemical symbols the network knows.
        network: a name from `hff_ase.nets.NETWORKS`.
        options: the network's own arguments; ``preset`` stands for those of a size in
            `hff_ase.nets.presets`.
        hidden: widths of the energy head's hidden layers.

    Raises:
        ConfigError: an unknown network or option.
    """

    kind = "short_range"
    gives = ("node_features",)

    net: Network
    energy: nn.Sequential

    def __init__(
        self,
        elements: Sequence[str],
        network: str = "get",
        options: dict[str, Any] | None = None,
        hidden: Sequence[int] = (32, 32),
    ) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ConfigError(f"expected a network among {sorted(NETWORKS)}, got {network!r}")
        self.network, self.hidden = network, tuple(hidden)
        self.species = SpeciesIndex(elements)
        try:
            self.net = NETWORKS[network](n_species=len(elements), **with_preset(options or {}))
        except TypeError as error:
            raise ConfigError(f"expected options of the network {network!r}, got {error}") from None
        self.energy = mlp(self.net.channels, *hidden, 1)
        # Reference energies stay in float64: they are many eV and sum over thousands of atoms.
        self.reference_energy = nn.Parameter(
            torch.zeros(len(elements), dtype=torch.float64), requires_grad=False
        )

    def set_dtype(self, dtype: torch.dtype) -> None:
        """Set the precision of network and head."""
        self.net.to(dtype)
        self.energy.to(dtype)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "elements": list(self.species.elements),
            "network": self.network,
            "options": dict(self.net.options),
            "hidden": list(self.hidden),
        }

    def requests(self) -> tuple[PairRequest, ...]:
        """A full list within the network's cutoff."""
        return (PairRequest(self.net.cutoff, "full"),)

    @property
    def reach(self) -> float:
        """A cutoff per layer of the network, Angstrom."""
        return self.net.reach

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms], eV; gives `node_features`."""
        species = self.species(batch.numbers)
        features = self.features(species, batch, neighbors)
        fields["node_features"] = features
        energy = self.energy(features)[:, 0].double()
        return energy + self.reference_energy.double()[species]

    def features(self, species: Tensor, batch: AtomsBatch, neighbors: Neighborhood) -> Tensor:
        """The network's scalar node features [n_atoms, channels], fused where that is possible."""
        request = self.requests()[0]
        fused = fused_form(self.net, neighbors.kernels, neighbors.halo)
        if fused is not None and neighbors.kernels is not None:
            how = neighbors.kernels, neighbors.parameters, neighbors.halo
            return fused(self.net, species, batch, neighbors.rows(request), *how)
        pairs = neighbors.pairs(request)
        vector = pairs.vector.to(self.net.dtype)
        return self.net(species, pairs.i, pairs.j, vector, neighbors.halo)
