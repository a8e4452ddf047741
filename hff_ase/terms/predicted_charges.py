"""Partial charges read off the network's features, summing exactly to the total charge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hff_ase.batch import AtomsBatch
from hff_ase.declared import Declared
from hff_ase.halo import allreduce, exchange
from hff_ase.neighborhood import Neighborhood
from hff_ase.nets.mlp import mlp
from hff_ase.terms.species import SpeciesIndex
from hff_ase.terms.term import Fields, Term


class PredictedCharges(Term):
    """c_i = 2 tanh((mlp(x_i) + c0(Z_i))/2); q_i = c_i + (Q - sum c)/N in each system.

    Its energy is the charges' own, sum_i [chi(Z_i) q_i + J(Z_i)^2 q_i^2] (BAMBOO, eq. for E_QEq).

    Args:
        elements: chemical symbols.
        channels: width of the node features.
        hidden: widths of the head's hidden layers.
        charge_response: False cuts the charges out of the graph, so that forces and stress are
            taken at fixed charges, as published for BAMBOO; such forces are not the gradient of
            the energy and such a model cannot be trained.
    """

    kind = "predicted_charges"
    needs = ("node_features",)
    gives = ("charges",)

    def __init__(
        self,
        elements: Sequence[str],
        channels: int = 64,
        hidden: Sequence[int] = (32, 32),
        charge_response: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.hidden = channels, tuple(hidden)
        self.charge_response = charge_response
        self.species = SpeciesIndex(elements)
        self.charge = mlp(channels, *hidden, 1)
        self.initial_charge = nn.Parameter(torch.zeros(len(elements)))
        self.electronegativity = nn.Parameter(torch.zeros(len(elements), dtype=torch.float64))
        # not 0: its square would have no slope there, and would never be learnt
        self.hardness_root = nn.Parameter(torch.full((len(elements),), 0.5, dtype=torch.float64))

    def set_dtype(self, dtype: torch.dtype) -> None:
        """Set the precision of the head."""
        self.charge.to(dtype)
        self.initial_charge.data = self.initial_charge.data.to(dtype)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "elements": list(self.species.elements),
            "channels": self.channels,
            "hidden": list(self.hidden),
            "charge_response": self.charge_response,
        }

    def declared(self) -> dict[str, Declared]:
        """The tables of elements."""
        return {
            "initial_charge": Declared("e", "none", 0.05, "charges before the network's part"),
            "electronegativity": Declared("eV/e", "none", 0.3, "chi"),
            "hardness_root": Declared("eV^0.5/e", "none", 0.1, "root of J"),
        }

    def refuses_owned(self, neighbors: Neighborhood) -> str | None:
        """Why energies of only some atoms are unavailable: charges sum over the whole system."""
        if neighbors.halo is None:
            return "its charges sum to the total charge of the whole system; give a halo"
        return None

    def _summing_to_total(self, batch: AtomsBatch, raw: Tensor, neighbors: Neighborhood) -> Tensor:
        """Charges [n_atoms] that sum to the total charge of each (whole) system."""
        halo = neighbors.halo
        if halo is None:
            excess = (batch.charge - batch.system_sum(raw)) / batch.counts
            return raw + excess[batch.system]
        total = allreduce(raw[: halo.n_own].sum(0, keepdim=True), halo)
        return exchange(raw + (batch.charge - total) / halo.n_total, halo)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic self-energies [n_atoms], eV; gives `charges` [n_atoms] in float64."""
        species = self.species(batch.numbers)
        raw = self.charge(fields["node_features"])[:, 0] + self.initial_charge[species]
        charges = self._summing_to_total(batch, (2.0 * torch.tanh(0.5 * raw)).double(), neighbors)
        if not self.charge_response:
            charges = charges.detach()
        fields["charges"] = charges
        chi = self.electronegativity.double()[species]
        hardness = self.hardness_root.double()[species].square()
        return chi * charges + hardness * charges.square()
