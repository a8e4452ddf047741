"""Screened nuclear repulsion: a wall that keeps atoms apart where a model has seen no data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ase.data import atomic_numbers, covalent_radii
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
from hff_ase.units import COULOMB_CONSTANT

COEFFICIENTS = (0.18175, 0.50986, 0.28022, 0.02817)
EXPONENTS = (3.19980, 0.94229, 0.40290, 0.20162)
SCREENING_LENGTH, SCREENING_POWER = 0.46850, 0.23  # a = 0.4685 A / (Z_i^0.23 + Z_j^0.23)
SOFTENING = 1e-4  # Angstrom; keeps coinciding nuclei finite, 5e-7 relative at 0.1 Angstrom
N_ELEMENTS = 96  # with known covalent radii


_TABLES: Kept[tuple[Table, Tensor]] = Kept()


class ZBL(ElementPairTerm):
    r"""Universal repulsion of Ziegler, Biersack and Littmark, within covalent distances only.

    .. math:: E_{ij} = s(r)\, k_e \frac{Z_i Z_j}{r} \sum_k c_k e^{-d_k r/a_{ij}}

    (The Stopping and Range of Ions in Solids, Pergamon 1985). The switch s is 1 up to
    ``inner * outer`` and reaches zero with two continuous derivatives at
    outer = ``scale * (R_i + R_j)``, R the covalent radii (Cordero et al., Dalton Trans. 2008,
    2832). The default of 0.7 lies below the bonds that occur (C-N 1.03, O-H 0.68, Li-O 1.36
    Angstrom), so that the term may be added to a trained model without changing it where it is
    right; a model trained together with the term may use 1.

    Args:
        scale: outer end of the repulsion in sums of covalent radii.
        inner: where the switching starts, as a fraction of the outer end.
        outer: outer end of given pairs of elements, Angstrom, in place of that: ``{"H-H": 1.5}``
            for two hydrogens of one atom, which have no bond but must not meet.

    Raises:
        ConfigError: scale not in (0, 2], inner not in [0, 1), or an outer end that cannot be.
    """

    kind = "zbl"

    radius: Tensor
    screening: Tensor
    known: Tensor
    given: Tensor

    def __init__(
        self, scale: float = 0.7, inner: float = 0.5, outer: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        if not 0 < scale <= 2:
            raise ConfigError(f"expected a ZBL scale above 0 and at most 2, got {scale}")
        if not 0 <= inner < 1:
            raise ConfigError(f"expected a ZBL inner fraction of 0 or more, below 1, got {inner}")
        self.scale, self.inner, self.outer = scale, inner, dict(outer or {})
        radius = torch.as_tensor(covalent_radii[: N_ELEMENTS + 1], dtype=torch.float64)
        number = torch.arange(N_ELEMENTS + 1, dtype=torch.float64)
        self.largest = float(radius[1:].max())
        self.register_buffer("radius", radius, persistent=False)
        self.register_buffer(
            "screening", number**SCREENING_POWER / SCREENING_LENGTH, persistent=False
        )
        self.register_buffer("known", number > 0, persistent=False)
        self.register_buffer("given", _outer_ends(self.outer), persistent=False)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"scale": self.scale, "inner": self.inner, "outer": self.outer}

    def declared(self) -> dict[str, Declared]:
        """The outer end; how strong the repulsion is, is the term's scale."""
        return {"outer": Declared("1", "log", 0.05, "outer end in sums of covalent radii")}

    def constants(self) -> dict[str, str]:
        """The outer end."""
        return {"outer": "scale"}

    @property
    def pair_request(self) -> PairRequest:  # type: ignore[override]
        """A half list within the outer end for the two largest atoms."""
        scale: Any = self.scale  # a tensor while its gradient is taken
        scale = scale.detach() if isinstance(scale, Tensor) else scale
        reach = max([2.0 * float(scale) * self.largest, *self.outer.values()])
        return PairRequest(reach, "half")

    def requests(self) -> tuple[PairRequest, ...]:
        """A half list within the outer end for the two largest atoms."""
        return (self.pair_request,)

    def prepare(self, batch: AtomsBatch) -> PresentElements:
        """Elements of the batch; refuses those without a covalent radius."""
        refuse_unknown(self.known, batch, "elements H to Cm for ZBL")
        return present_elements(batch.numbers)

    def kernel_input(self, batch: AtomsBatch, neighbors: Neighborhood) -> KernelInput | None:
        """Tables for the elements of the batch."""
        present: PresentElements = neighbors.plan(self)
        if not present.few:
            return None
        key = (present.key, batch.device)
        table, switch = _TABLES.of(self, lambda: self._tabulate(present), key)
        return KernelInput(ElementTables(present.kind, table, len(present.key), switch))

    def _tabulate(self, present: PresentElements) -> tuple[Table, Tensor]:
        """The repulsion of each two of the given elements, and where it is switched off."""
        table = present.tabulate(
            lambda r: self._screened(r, *present.each_pair()), self.pair_request.cutoff
        )
        first, second = present.each_pair()
        n = len(present.rows)
        outer = self._outer(first, second).reshape(n, n)
        return table, torch.stack([self.inner * outer, outer], dim=-1)

    def _outer(self, z_i: Tensor, z_j: Tensor) -> Tensor:
        """Where the repulsion of two elements ends, Angstrom."""
        radius, given = self.radius.double(), self.given.double()[z_i, z_j]
        return torch.where(given > 0, given, self.scale * (radius[z_i] + radius[z_j]))

    def _screened(self, distance: Tensor, z_i: Tensor, z_j: Tensor) -> Tensor:
        """Pair energies without the switch, eV, of distances and atomic numbers."""
        screening = self.screening.double()
        r = torch.sqrt(distance.square() + SOFTENING**2)
        x = r * (screening[z_i] + screening[z_j])
        screened = torch.zeros_like(x)
        for coefficient, exponent in zip(COEFFICIENTS, EXPONENTS, strict=True):
            screened = screened + coefficient * torch.exp(-exponent * x)
        return COULOMB_CONSTANT * (z_i * z_j) / r * screened

    def pair_energies(self, batch: AtomsBatch, neighbors: Neighborhood) -> Tensor:
        """Atomic energies [n_atoms], eV."""
        pairs = neighbors.pairs(self.pair_request)
        z_i, z_j = batch.numbers[pairs.i], batch.numbers[pairs.j]
        outer = self._outer(z_i, z_j)
        energy = self._screened(pairs.distance, z_i, z_j)
        energy = energy * switch_off(pairs.distance, self.inner * outer, outer)
        return share_pairs(energy, pairs, batch.n_atoms)


def _outer_ends(given: Mapping[str, float]) -> Tensor:
    """[N_ELEMENTS + 1, N_ELEMENTS + 1] from pairs of elements such as "C-H"; 0 where none is given.

    Raises:
        ConfigError: an invalid pair of elements or distance.
    """
    found = torch.zeros((N_ELEMENTS + 1, N_ELEMENTS + 1), dtype=torch.float64)
    for pair, distance in given.items():
        numbers = [atomic_numbers.get(symbol, 0) for symbol in pair.split("-")]
        if len(numbers) != 2 or not all(0 < z <= N_ELEMENTS for z in numbers):
            raise ConfigError(f"expected a pair of elements such as C-H for ZBL, got {pair!r}")
        if not 0 < distance <= 4:
            raise ConfigError(
                f"expected an outer end of ZBL above 0 and at most 4 A for {pair}, got {distance}"
            )
        found[numbers[0], numbers[1]] = found[numbers[1], numbers[0]] = distance
    return found
