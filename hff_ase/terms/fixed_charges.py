"""Fixed charges of molecules' atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.declared import Declared
from hff_ase.errors import StructureError
from hff_ase.molecular.assignment import Assigner, Assignment, refuses_cut_molecules
from hff_ase.molecular.parameters import SiteValues, site_values, with_values
from hff_ase.molecular.templates import Templates
from hff_ase.neighborhood import Neighborhood
from hff_ase.terms.term import Fields, Term

MISMATCH = 1e-3  # e: more than rounding leaves between molecules' charges and the total


class FixedCharges(Term):
    """Charges of atoms from the molecules that they belong to; no energy of their own.

    Args:
        molecules: each with ``name``, ``numbers``, ``bonds`` and ``charge`` [n_atoms] in e.

    Raises:
        ConfigError: a molecule without charges, or twice the same.
    """

    kind = "fixed_charges"
    gives: ClassVar[tuple[str, ...]] = ("charges",)

    def __init__(self, molecules: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.templates = Templates.of(molecules)
        self.charge = SiteValues(self.templates, site_values(molecules, "charge"))
        self._assign = Assigner(self.templates)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"molecules": with_values(self.templates, charge=self.charge)}

    def declared(self) -> dict[str, Declared]:
        """The charges."""
        return {"charge.value": Declared("e", "none", 0.05, "charges of the molecules' atoms")}

    def refuses_owned(self, neighbors: Neighborhood) -> str | None:
        """Molecules are found as a whole."""
        return refuses_cut_molecules(neighbors)

    def allowed_mismatch(self, batch: AtomsBatch, found: Assignment) -> Tensor:
        """Allowed difference of the sum of charges from the total, [n_systems], e."""
        return torch.full_like(batch.charge, MISMATCH)

    def prepare(self, batch: AtomsBatch) -> Assignment:
        """The sites of the atoms.

        Raises:
            StructureError: a molecule without charges, or charges that do not sum to the total.
        """
        found = self._assign(batch)
        total = batch.system_sum(self.charge()[found.site].detach())
        apart = (total - batch.charge).abs() - self.allowed_mismatch(batch, found)
        if bool((apart > 0.0).any()):
            system = int(apart.argmax())
            where = "" if batch.n_systems == 1 else f" of structure {system}"
            raise StructureError(
                f"expected a total charge{where} that is the sum of the molecules' "
                f"({float(total[system]):+.3f} e), got {float(batch.charge[system]):+.3f} e "
                "(atoms.info['charge'])"
            )
        return found

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Zero [n_atoms]; gives `charges` [n_atoms]."""
        found: Assignment = neighbors.plan(self)
        fields["charges"] = self.charge()[found.site]
        return torch.zeros_like(batch.positions[:, 0])
