"""DFT-D3 as an energy term."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.declared import Declared
from hff_ase.errors import ConfigError
from hff_ase.halo import exchange
from hff_ase.kept import Kept
from hff_ase.kernels.pair import ElementTables, InterpolatedC6, counts
from hff_ase.kernels.pair.tables import Table
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest
from hff_ase.terms.dispersion.coordination import (
    count,
    fractional_coordination,
    half_contracted,
    pair_c6,
    reference_weights,
    weight_slopes,
    within_cutoff,
)
from hff_ase.terms.dispersion.damping import make_damping
from hff_ase.terms.dispersion.presets import preset
from hff_ase.terms.dispersion.reference import N_ELEMENTS, ReferenceTables, reference_tables
from hff_ase.terms.element_check import refuse_unknown
from hff_ase.terms.pairwise import (
    ElementPairTerm,
    KernelInput,
    PresentElements,
    present_elements,
    share_pairs,
)


@dataclass(frozen=True)
class DispersionPlan:
    """Tables for the elements of a batch: the same for as long as its atoms are."""

    numbers: Tensor
    row: Tensor
    tables: ReferenceTables
    present: PresentElements


# Of all dampings; published values of different functionals scatter more than these widths.
PARAMETERS = {
    "s6": Declared("1", "log", 0.1, "strength of the C6 part"),
    "s8": Declared("1", "none", 0.2, "strength of the C8 part"),
    "a1": Declared("1", "none", 0.05, "damping radius in cutoff radii (bj), strength (cso)"),
    "a2": Declared("Bohr", "none", 0.3, "further damping radius (bj), where it sets in (cso)"),
    "a3": Declared("1", "none", 0.05, "damping radius in cutoff radii"),
    "a4": Declared("Bohr", "log", 0.1, "further damping radius"),
    "rs6": Declared("1", "log", 0.05, "damping radius of the C6 part"),
    "rs8": Declared("1", "log", 0.05, "damping radius of the C8 part"),
    "alpha6": Declared("1", "log", 0.1, "steepness of the damping"),
}
_ATTRACTION: Kept[Table] = Kept()
_COUNTING: Kept[Table] = Kept()


class D3Dispersion(ElementPairTerm):
    """Two-body DFT-D3 dispersion with coordination-number-dependent C6.

    Grimme, Antony, Ehrlich, Krieg, J. Chem. Phys. 132, 154104 (2010), with simple-dftd3's reference
    systems; no three-body term (s9 = 0). Elements 1 to 94.

    The sum in real space leaves out the attraction beyond the cutoff. Against 40 Angstrom, for a
    LiPF6-EC-DMC liquid with PBE-D3(BJ), the energy per atom and the pressure are too high by

    ======  ================  =================
    cutoff  bare cut          switched over 2 A
    ======  ================  =================
    10 A    0.9 meV, 220 bar  1.3 meV, 143 bar
    12 A    0.5 meV, 123 bar  0.7 meV, 77 bar
    16 A    0.2 meV, 48 bar   0.25 meV, 26 bar
    20 A                      0.11 meV, 10 bar
    ======  ================  =================

    (1 % of the density of such a liquid is some 100 bar.) Taking the coordination numbers to zero
    at 10 Angstrom, which leaves out part of a tail of 1e-7 per neighbour, changes 0.005 meV and 3
    bar. The cost grows with the cube of the cutoff.

    Args:
        method: a density functional, for its published parameters.
        damping: "bj" (`RationalDamping`), "zero" (`ZeroDamping`) or "cso" (`CSODamping`).
        parameters: those of the damping class, instead of ``method``; lengths in Bohr, as
            published.
        cutoff: of the dispersion energy, Angstrom.
        cn_cutoff: of the coordination numbers, Angstrom.
        switch_width: the length before either cutoff over which its sum is taken to zero with two
            continuous derivatives, Angstrom; 0 cuts it off, as simple-dftd3 does by default.

    Raises:
        ConfigError: both or neither of method and parameters, an unknown name, or lengths that
            are not positive and in order.
    """

    kind = "d3"

    def __init__(
        self,
        method: str | None = None,
        damping: str = "bj",
        parameters: Mapping[str, float] | None = None,
        cutoff: float = 16.0,
        cn_cutoff: float = 10.0,
        switch_width: float = 2.0,
    ) -> None:
        super().__init__()
        if (method is None) == (parameters is None):
            raise ConfigError(
                f"expected either a method or parameters for D3, got method={method!r} and "
                f"parameters={parameters!r}"
            )
        chosen = preset(method, damping) if method is not None else dict(parameters or {})
        self.damping = make_damping(damping, chosen)
        for name, value in (("cutoff", cutoff), ("cn_cutoff", cn_cutoff)):
            if not 0 <= switch_width < value < float("inf"):
                raise ConfigError(
                    f"expected 0 <= switch_width < {name}, got {switch_width} and {value}"
                )
        self.pair_request = PairRequest(cutoff, "half")
        self.cn_request = PairRequest(cn_cutoff, "half")
        self.switch_width = switch_width

    def config(self) -> dict[str, Any]:
        """Constructor arguments (a method's parameters are spelled out)."""
        return {
            "damping": self.damping.name,
            "parameters": asdict(self.damping),
            "cutoff": self.pair_request.cutoff,
            "cn_cutoff": self.cn_request.cutoff,
            "switch_width": self.switch_width,
        }

    def declared(self) -> dict[str, Declared]:
        """The parameters of the damping, lengths in Bohr as published."""
        known = {own.name for own in fields(self.damping)}
        return {name: what for name, what in PARAMETERS.items() if name in known}

    def constants(self) -> dict[str, str]:
        """The parameters of the damping."""
        return {name: f"damping.{name}" for name in self.declared()}

    def requests(self) -> tuple[PairRequest, ...]:
        """Half lists for the energy and for the coordination numbers."""
        return (self.pair_request, self.cn_request)

    def prepare(self, batch: AtomsBatch) -> DispersionPlan:
        """Look up the elements of the batch.

        Raises:
            StructureError: an element beyond the tables.
        """
        known = torch.arange(N_ELEMENTS + 1, device=batch.device) > 0
        refuse_unknown(known, batch, f"elements H to {chemical_symbols[N_ELEMENTS]} for D3")
        present = present_elements(batch.numbers)
        tables = reference_tables(np.array(present.key), batch.device)
        return DispersionPlan(batch.numbers, tables.row[batch.numbers], tables, present)

    def coordination(
        self, batch: AtomsBatch, neighbors: Neighborhood, plan: DispersionPlan
    ) -> Tensor:
        """Coordination numbers [n_atoms]."""
        radius = plan.tables.covalent_radius[plan.row]
        pairs = neighbors.pairs(self.cn_request)
        found = fractional_coordination(pairs, radius, self.cn_request.cutoff, self.switch_width)
        return exchange(found, neighbors.halo)

    @property
    def reach(self) -> float:
        """An atom's energy depends on its partners' coordination numbers."""
        return self.pair_request.cutoff + self.cn_request.cutoff

    def pair_energies(self, batch: AtomsBatch, neighbors: Neighborhood) -> Tensor:
        """Atomic energies [n_atoms], eV."""
        plan = self._plan(batch, neighbors)
        row, tables = plan.row, plan.tables
        weights = reference_weights(self.coordination(batch, neighbors, plan), row, tables)
        pairs = neighbors.pairs(self.pair_request)
        partner = row[pairs.j]
        elements = row[pairs.i] * tables.cn.shape[0] + partner
        constants = self._constants(plan)
        looked_up = tuple(constant.index_select(0, elements) for constant in constants)
        attraction = self.damping.attraction(pairs.distance, looked_up)
        energy = -attraction * pair_c6(weights, row, partner, pairs, tables)
        energy = within_cutoff(energy, pairs.distance, self.pair_request.cutoff, self.switch_width)
        return share_pairs(energy, pairs, batch.n_atoms)

    def kernel_input(self, batch: AtomsBatch, neighbors: Neighborhood) -> KernelInput | None:
        """Tables for the elements of the batch; for whole systems C6 from coordination numbers, a
        pass of their own."""
        if neighbors.halo is not None:
            return None
        plan = self._plan(batch, neighbors)
        present = plan.present
        if not present.few:
            return None
        n_kinds = len(present.key)
        key = (present.key, batch.device)
        counted = _COUNTING.of(self, lambda: self._count_table(plan), key)
        counting = ElementTables(present.kind, counted, n_kinds)
        damped = (*key, self.damping)
        attraction = _ATTRACTION.of(self, lambda: self._attraction_table(plan), damped)
        with torch.no_grad():
            cn = counts(batch, neighbors, self.cn_request, counting)
            weights = reference_weights(cn, plan.row, plan.tables)
            slopes = weight_slopes(cn, weights, plan.row, plan.tables)
            both = torch.stack([weights, slopes], 1)  # [n_atoms, 2, n_ref]
            towards = half_contracted(both, plan.row, plan.tables)
        c6 = InterpolatedC6(both, towards, self.cn_request, counting)
        return KernelInput(ElementTables(present.kind, attraction, n_kinds), c6)

    def _plan(self, batch: AtomsBatch, neighbors: Neighborhood) -> DispersionPlan:
        plan: DispersionPlan = neighbors.plan(self)
        if plan.numbers is batch.numbers or torch.equal(plan.numbers, batch.numbers):
            return plan
        return self.prepare(batch)

    def _constants(self, plan: DispersionPlan) -> tuple[Tensor, ...]:
        """Constants of each two elements, each [n_elements^2]."""
        return tuple(c.reshape(-1) for c in self.damping.constants(plan.tables))

    def _attraction_table(self, plan: DispersionPlan) -> Table:
        """E_ij/C6_ij of each two elements."""
        cutoff = self.pair_request.cutoff

        def energy(r: Tensor) -> Tensor:
            constants = tuple(c[:, None].clone() for c in self._constants(plan))
            return self._switched(-self.damping.attraction(r, constants), r, cutoff)

        return plan.present.tabulate(energy, cutoff)

    def _count_table(self, plan: DispersionPlan) -> Table:
        """The count of a neighbour, for each two elements."""
        cutoff, radius = self.cn_request.cutoff, plan.tables.covalent_radius

        def counted(r: Tensor) -> Tensor:
            reach = (radius[:, None] + radius).reshape(-1, 1)
            return self._switched(count(r, reach), r, cutoff)

        return plan.present.tabulate(counted, cutoff)

    def _switched(self, value: Tensor, r: Tensor, cutoff: float) -> Tensor:
        """As `within_cutoff`; a sharp end is left to the kernel, since a table must be smooth."""
        return within_cutoff(value, r, cutoff, self.switch_width) if self.switch_width else value
