"""The dispersion correction of BAMBOO: fixed coefficients per element, CSO-like damping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.declared import Declared
from hff_ase.errors import ConfigError
from hff_ase.kept import Kept
from hff_ase.kernels.pair import ElementTables
from hff_ase.kernels.pair.tables import Table
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest
from hff_ase.terms.element_check import refuse_unknown
from hff_ase.terms.pairwise import (
    ElementPairTerm,
    KernelInput,
    PresentElements,
    present_elements,
    share_pairs,
    switch_off,
)
from hff_ase.terms.species import SpeciesIndex

_TABLES: Kept[tuple[Table, Tensor | None]] = Kept()


class BambooDispersion(ElementPairTerm):
    r"""Dispersion over all pairs closer than a bare cutoff, bonded pairs included.

    .. math:: E_{ij} = -\frac{C_{ij}}{r^6 + a_4^6}
        \Bigl[s_6 + \frac{a_1}{1 + e^{r - a_2 R_{ij}}}\Bigr] + \frac{C_{ij}}{r_c^6},\quad
        C_{ij} = \sqrt{C_i C_j},\ R_{ij} = (R_i + R_j)/2

    with r in Angstrom (Gong et al., Nat. Mach. Intell. 2025; the form is that of D3(CSO),
    Schroeder et al., JCTC 11, 3163 (2015), with parameters of its own). The shift at the cutoff
    is that of the undamped energy, as published: a small step in the energy and the force stays.
    With a ``switch_width`` there is no shift: the energy goes to zero before the cutoff with two
    continuous derivatives (`switch_off`), and the stress of a liquid is dE/dV exactly.

    Args:
        c6: C_i per chemical symbol, eV Angstrom^6.
        r0: R_i per chemical symbol, Angstrom.
        s6, a1, a2: dimensionless.
        a4: damping length, Angstrom.
        cutoff: Angstrom.
        switch_width: Angstrom; 0 for the bare cut.

    Raises:
        ConfigError: different elements in the two tables, a negative entry, a cutoff that is
            not positive or a switch that is wider.
    """

    kind = "bamboo_dispersion"
    note = (
        "dispersion has a bare cut, as published: the pressure of a liquid misses -dE/dV by about "
        "25 bar (energy-volume fits and Monte Carlo barostats see it, dynamics do not)"
    )

    c6: Tensor
    radius: Tensor
    known: Tensor

    @classmethod
    def note_for(cls, arguments: Mapping[str, Any]) -> str:
        """That of the bare cut, where there is one."""
        return "" if arguments.get("switch_width") else cls.note

    def __init__(
        self,
        c6: Mapping[str, float],
        r0: Mapping[str, float],
        s6: float = 0.85,
        a1: float = 0.82,
        a2: float = 2.5,
        a4: float = 4.5,
        cutoff: float = 10.0,
        switch_width: float = 0.0,
    ) -> None:
        super().__init__()
        if set(c6) != set(r0):
            raise ConfigError(
                f"expected c6 and r0 for the same elements, got {sorted(c6)} and {sorted(r0)}"
            )
        for name, table in (("c6", c6), ("r0", r0)):
            for symbol, value in table.items():
                if not 0 <= value < float("inf"):
                    raise ConfigError(f"expected {name} of at least 0 for {symbol}, got {value!r}")
        if not 0 < cutoff < float("inf"):
            raise ConfigError(f"expected a positive cutoff in Angstrom, got {cutoff}")
        if not 0 <= switch_width < cutoff:
            raise ConfigError(
                f"expected 0 <= switch_width < cutoff, got {switch_width} and {cutoff} A"
            )
        self.species = SpeciesIndex(tuple(c6))
        self.s6, self.a1, self.a2, self.a4 = s6, a1, a2, a4
        self.switch_width = float(switch_width)
        self.pair_request = PairRequest(cutoff, "half")
        known = torch.zeros(len(chemical_symbols), dtype=torch.bool)
        known[[chemical_symbols.index(symbol) for symbol in c6]] = True
        self.register_buffer("known", known, persistent=False)
        for name, values in (("c6", c6), ("radius", r0)):
            column = torch.tensor([values[symbol] for symbol in c6], dtype=torch.float64)
            self.register_buffer(name, column, persistent=False)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        tables = {"c6": self.c6, "r0": self.radius}
        numbers = {"s6": self.s6, "a1": self.a1, "a2": self.a2, "a4": self.a4}
        return {
            **{
                name: dict(zip(self.species.elements, table.double().tolist(), strict=True))
                for name, table in tables.items()
            },
            **numbers,
            "cutoff": self.pair_request.cutoff,
            "switch_width": self.switch_width,
        }

    def declared(self) -> dict[str, Declared]:
        """Coefficients and radii of elements, and the shape of the damping."""
        return {
            "c6": Declared("eV A^6", "log", 0.2, "dispersion coefficients"),
            "r0": Declared("A", "log", 0.1, "radii of the damping"),
            "s6": Declared("1", "log", 0.1, "strength at long range"),
            "a1": Declared("1", "none", 0.2, "further strength at short range"),
            "a2": Declared("1", "log", 0.1, "where that sets in, in radii"),
            "a4": Declared("A", "log", 0.1, "damping length"),
        }

    def constants(self) -> dict[str, str]:
        """All of them."""
        return {"c6": "c6", "r0": "radius", "s6": "s6", "a1": "a1", "a2": "a2", "a4": "a4"}

    def requests(self) -> tuple[PairRequest, ...]:
        """A half list within the cutoff."""
        return (self.pair_request,)

    def prepare(self, batch: AtomsBatch) -> PresentElements:
        """Elements of the batch; refuses those without coefficients (here, not in every step)."""
        elements = " ".join(self.species.elements)
        refuse_unknown(self.known, batch, f"elements with dispersion coefficients ({elements})")
        return present_elements(self.species(batch.numbers))

    def kernel_input(self, batch: AtomsBatch, neighbors: Neighborhood) -> KernelInput | None:
        """Tables for the elements of the batch, rebuilt where a parameter has changed."""
        present: PresentElements = neighbors.plan(self)
        if not present.few:
            return None
        key = (present.key, batch.device)
        table, switch = _TABLES.of(self, lambda: self._tabulate(present), key)
        return KernelInput(ElementTables(present.kind, table, len(present.key), switch))

    def _tabulate(self, present: PresentElements) -> tuple[Table, Tensor | None]:
        """The pair energy of each two of the given elements, and where it is switched off."""

        def energy(r: Tensor) -> Tensor:
            i, j = present.each_pair()
            root, radius = _root(self.c6.double()), self.radius.double()
            reach = (0.5 * self.a2) * (radius[i] + radius[j])
            return root[i] * root[j] * self._shape(r, reach)

        cutoff, n = self.pair_request.cutoff, len(present.key)
        table = present.tabulate(energy, cutoff)
        if not self.switch_width:
            return table, None
        # by the kernel: a table would blur the short end
        ends = table.coefficients.new_tensor([cutoff - self.switch_width, cutoff])
        return table, ends.expand(n, n, 2).contiguous()

    def _shape(self, r: Tensor, reach: Tensor) -> Tensor:
        """E_ij/C_ij at distances below the cutoff, before a switch, Angstrom^-6."""
        damped = (self.s6 + self.a1 * torch.sigmoid(reach - r)) / ((r * r) ** 3 + self.a4**6)
        return (0.0 if self.switch_width else self.pair_request.cutoff**-6) - damped

    def pair_energies(self, batch: AtomsBatch, neighbors: Neighborhood) -> Tensor:
        """Atomic energies [n_atoms], eV."""
        pairs = neighbors.pairs(self.pair_request)
        row = self.species(batch.numbers)
        root, reach = _root(self.c6.double())[row], (0.5 * self.a2) * self.radius.double()[row]
        r = pairs.distance
        c6 = root[pairs.i] * root[pairs.j]
        shape = self._shape(r, reach[pairs.i] + reach[pairs.j])
        if self.switch_width:
            cutoff = self.pair_request.cutoff
            shape = shape * switch_off(r, cutoff - self.switch_width, cutoff)
        # The list may hold pairs farther than the cutoff, and a bare cut does not vanish there.
        within = r < self.pair_request.cutoff
        return share_pairs(torch.where(within, c6 * shape, 0.0), pairs, batch.n_atoms)


def _root(values: Tensor) -> Tensor:
    """Square roots; with the derivative 0 at 0, not an infinite one."""
    positive = values > 0.0
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)
