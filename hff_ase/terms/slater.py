"""Pair terms that decay as the overlap of two Slater densities (PhyNEO's Slater-ISA forms)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hff_ase.declared import Declared
from hff_ase.terms.site_pairs import Parameters, SitePairTerm, geometric_mean
from hff_ase.units import COULOMB_CONSTANT

BEYOND_FIVE = (0.0, 0.0, 0.0, 0.0, 0.0)  # atoms of one molecule count from 6 bonds on
SIGNS = {
    "exchange": 1.0,
    "penetration": -1.0,
    "induction": -1.0,
    "dispersion": -1.0,
    "charge_transfer": -1.0,
}


class SlaterPairs(SitePairTerm):
    r"""Exchange and its negative partners, and the damping of point charges, by the overlap of two
    atoms' densities.

    .. math:: E_{ij} = s_{ij} \Bigl\{ \sum_c \pm A^c_i A^c_j \bigl[\tfrac13 x^2 + x + 1\bigr] e^{-x}
        - k_e \frac{q_i q_j}{r} (1 + x) e^{-x} \Bigr\},\quad x = r \sqrt{B_i B_j}

    with + for ``exchange`` and - for ``penetration`` (electrostatics of overlapping densities),
    ``induction``, ``dispersion`` and ``charge_transfer`` (all else that energy decomposition finds
    at short range), each a part of its own, and ``charges`` for the last term, which takes from
    point charges what they do not have where they overlap. Form of overlap: Van Vleet et al., J.
    Chem. Theory Comput. 12, 3851 (2016); parts and product rule as in PhyNEO (J. Chem. Theory
    Comput. 20, 253 (2024)).

    Nothing here keeps nuclei apart: exchange is finite at r = 0, and what attracts an ion may be
    stronger.

    Args:
        molecules: with ``exponent`` (B, 1/A), an amplitude A in eV^1/2 for each of ``exchange``,
            ``penetration``, ``induction``, ``dispersion`` and ``charge_transfer``, and
            ``damped_charge`` (e).
        factors, cutoff, switch_width, tail: see `SitePairTerm`.
        prefactor: k_e, eV Angstrom/e^2.
    """

    kind = "slater_pairs"
    note = (
        "short-range repulsion is finite: with PhyNEO's published parameters alone Li falls into O "
        "and F, so that salts cannot be run without a further term for ions"
    )
    names = ("exponent", *SIGNS, "damped_charge")
    parts = (*SIGNS, "charges")

    def __init__(
        self,
        molecules: Sequence[Mapping[str, Any]],
        factors: Sequence[float] = BEYOND_FIVE,
        cutoff: float = 10.0,
        switch_width: float = 1.0,
        tail: bool = False,
        prefactor: float = COULOMB_CONSTANT,
    ) -> None:
        super().__init__(molecules, factors, cutoff, switch_width, tail)
        self.prefactor = prefactor

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().config(), "prefactor": self.prefactor}

    def declared(self) -> dict[str, Declared]:
        """Exponents, amplitudes, charges."""
        amplitudes = {
            f"values.{name}.value": Declared("eV^1/2", "log", 0.3, f"amplitudes of {name}")
            for name in SIGNS
        }
        return {
            "values.exponent.value": Declared("1/A", "log", 0.1, "decay of the densities"),
            **amplitudes,
            "values.damped_charge.value": Declared("e", "none", 0.05, "charges that are damped"),
        }

    def energy_of(
        self, parts: tuple[str, ...], r: Tensor, first: Parameters, second: Parameters
    ) -> Tensor:
        """See the class."""
        x = r * geometric_mean(first[0] * second[0])
        amplitudes = dict(zip(SIGNS, range(1, 1 + len(SIGNS)), strict=True))
        total = torch.zeros_like(x)
        for part in parts:
            if part == "charges":
                product = self.prefactor * first[-1] * second[-1]
                total = total - product / r * (1.0 + x)
            else:
                place = amplitudes[part]
                shape = (x / 3.0 + 1.0) * x + 1.0
                total = total + SIGNS[part] * first[place] * second[place] * shape
        return total * torch.exp(-x)
