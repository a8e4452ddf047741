"""Screened nuclear repulsion: a wall that keeps atoms apart where a model has seen no data."""

from __future__ import annotations

from typing import Any

import torch
from ase.data import covalent_radii
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.neighbors import Neighborhood, PairRequest
from hff_ase.terms.element_check import refuse_unknown
from hff_ase.terms.pairwise import share_pairs, switch_off
from hff_ase.terms.term import Fields, Term
from hff_ase.units import COULOMB_CONSTANT

COEFFICIENTS = (0.18175, 0.50986, 0.28022, 0.02817)
EXPONENTS = (3.19980, 0.94229, 0.40290, 0.20162)
SCREENING_LENGTH, SCREENING_POWER = 0.46850, 0.23  # a = 0.4685 A / (Z_i^0.23 + Z_j^0.23)
SOFTENING = 1e-4  # Angstrom; keeps coinciding nuclei finite, 5e-7 relative at 0.1 Angstrom
N_ELEMENTS = 96  # with known covalent radii


class ZBL(Term):
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

    Raises:
        ConfigError: scale not in (0, 2] or inner not in [0, 1).
    """

    kind = "zbl"

    radius: Tensor
    screening: Tensor
    known: Tensor

    def __init__(self, scale: float = 0.7, inner: float = 0.5) -> None:
        super().__init__()
        if not 0 < scale <= 2:
            raise ConfigError(f"expected a ZBL scale above 0 and at most 2, got {scale}")
        if not 0 <= inner < 1:
            raise ConfigError(f"expected a ZBL inner fraction of 0 or more, below 1, got {inner}")
        self.scale, self.inner = scale, inner
        radius = scale * torch.as_tensor(covalent_radii[: N_ELEMENTS + 1], dtype=torch.float64)
        number = torch.arange(N_ELEMENTS + 1, dtype=torch.float64)
        self.pair_request = PairRequest(2.0 * float(radius[1:].max()), "half")
        self.register_buffer("radius", radius, persistent=False)
        self.register_buffer(
            "screening", number**SCREENING_POWER / SCREENING_LENGTH, persistent=False
        )
        self.register_buffer("known", number > 0, persistent=False)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"scale": self.scale, "inner": self.inner}

    def requests(self) -> tuple[PairRequest, ...]:
        """A half list within the outer end for the two largest atoms."""
        return (self.pair_request,)

    def prepare(self, batch: AtomsBatch) -> None:
        """Refuse elements without a covalent radius."""
        refuse_unknown(self.known, batch, "elements H to Cm for ZBL")

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms], eV."""
        pairs = neighbors.pairs(self.pair_request)
        radius, screening = self.radius.double(), self.screening.double()
        z_i, z_j = batch.numbers[pairs.i], batch.numbers[pairs.j]
        outer = radius[z_i] + radius[z_j]
        r = torch.sqrt(pairs.distance.square() + SOFTENING**2)
        x = r * (screening[z_i] + screening[z_j])
        screened = torch.zeros_like(r)
        for coefficient, exponent in zip(COEFFICIENTS, EXPONENTS, strict=True):
            screened = screened + coefficient * torch.exp(-exponent * x)
        energy = COULOMB_CONSTANT * (z_i * z_j) / r * screened
        energy = energy * switch_off(pairs.distance, self.inner * outer, outer)
        return share_pairs(energy, pairs, batch.n_atoms)
