"""C6, C8 and C10 dispersion, damped where densities overlap, over the whole lattice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.declared import Declared
from hff_ase.errors import ConfigError
from hff_ase.longrange.ewald import ReciprocalEwald
from hff_ase.longrange.inverse_power import (
    at_origin,
    missing_fraction,
    smooth_fraction,
    splitting_of_power,
    zero_wave,
)
from hff_ase.longrange.lattice import reciprocal_lattice
from hff_ase.longrange.pme import ReciprocalPME
from hff_ase.molecular.assignment import nearest_vectors
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest
from hff_ase.terms.pairwise import share_pairs
from hff_ase.terms.site_pairs import Parameters, SitePairTerm, SitePlan, geometric_mean
from hff_ase.terms.slater import BEYOND_FIVE
from hff_ase.terms.term import Fields

POWERS = (6, 8, 10)


class SlaterDispersion(SitePairTerm):
    r"""Dispersion by C6, C8 and C10 with the damping of Tang and Toennies for Slater densities.

    .. math:: E = -\sum_{i<j} s_{ij} \sum_{n=6,8,10} f_n(X) \frac{\sqrt{C_{n,i} C_{n,j}}}{r^n},
        \quad f_n(X) = 1 - e^{-X} \sum_{k=0}^n \frac{X^k}{k!},
        \quad X = x - \frac{2x^2 + 3x}{x^2 + 3x + 3},\quad x = r \sqrt{B_i B_j}

    (Tang and Toennies, J. Chem. Phys. 80, 3726 (1984); X of Slater densities: Van Vleet et al., J.
    Chem. Theory Comput. 12, 3851 (2016)). Part ``undamped`` is the sum with f = 1, ``damping`` what
    f < 1 adds to it. In a box the undamped sum goes over all images (`hff_ase.longrange`), for
    molecules over all pairs; the damping ends at the cutoff.

    Args:
        molecules: with ``exponent`` (B, 1/A) and ``c6``, ``c8``, ``c10`` (eV A^n).
        factors, cutoff, switch_width: see `SitePairTerm`.
        tolerance: share of C6/r^6 that the lattice sum leaves out at the cutoff.
        method: of the smooth part of the lattice sum, "pme" (mesh) or "ewald" (exact, slow).

    Raises:
        ConfigError: a tolerance or method that cannot be.
    """

    kind = "slater_dispersion"
    names = ("exponent", "c6", "c8", "c10")
    parts = ("undamped", "damping")

    def __init__(
        self,
        molecules: Sequence[Mapping[str, Any]],
        factors: Sequence[float] = BEYOND_FIVE,
        cutoff: float = 10.0,
        switch_width: float = 1.0,
        tolerance: float = 1e-5,
        method: str = "pme",
    ) -> None:
        super().__init__(molecules, factors, cutoff, switch_width)
        if not 1e-14 <= tolerance <= 1e-2 or method not in ("pme", "ewald"):
            raise ConfigError(
                "expected a tolerance of 1e-14 to 1e-2 and the dispersion method 'ewald' or 'pme', "
                f"got {tolerance} and {method!r}"
            )
        self.tolerance, self.method = tolerance, method
        self.alpha = splitting_of_power(6, cutoff - switch_width, tolerance)
        self.reciprocal = [self._sum(n) for n in POWERS]

    def _sum(self, power: int) -> ReciprocalEwald | ReciprocalPME:
        if self.method == "ewald":
            return ReciprocalEwald(self.alpha, self.tolerance, power)
        return ReciprocalPME(self.alpha, self.tolerance, power=power)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        config = {**super().config(), "tolerance": self.tolerance, "method": self.method}
        del config["tail"]
        return config

    def declared(self) -> dict[str, Declared]:
        """Coefficients and the decay of densities."""
        coefficients = {
            f"values.c{n}.value": Declared(f"eV A^{n}", "log", 0.2, f"C{n} of atoms")
            for n in POWERS
        }
        exponent = Declared("1/A", "log", 0.1, "decay of the densities, for the damping")
        return {"values.exponent.value": exponent, **coefficients}

    def requests(self) -> tuple[PairRequest, ...]:
        """A half list within the cutoff, and for molecules all pairs."""
        return (self.pair_request, PairRequest(math.inf, "isolated"))

    def energy_of(
        self, parts: tuple[str, ...], r: Tensor, first: Parameters, second: Parameters
    ) -> Tensor:
        """The remainder beyond the smooth part of the undamped sum: -sum_n C_n/r^n (f_n - h_n)."""
        x = r * geometric_mean(first[0] * second[0])
        decay = x - (2.0 * x + 3.0) * x / ((x + 3.0) * x + 3.0)
        total = torch.zeros_like(x)
        for n, a, b in zip(POWERS, first[1:], second[1:], strict=True):
            share = torch.zeros_like(x)
            if "damping" in parts:
                share = share + missing_fraction(n, decay) - 1.0
            if "undamped" in parts:
                share = share + 1.0 - smooth_fraction(n, self.alpha, r)
            total = total - geometric_mean(a * b) * share / r**n
        return total

    def prepare(self, batch: AtomsBatch) -> tuple[SitePlan, Any]:  # type: ignore[override]
        """Sites and excluded pairs, and wave vectors or a mesh."""
        plan = super().prepare(batch)
        return plan, self.reciprocal[0].prepare(batch) if batch.any_periodic else None

    def plan(self, neighbors: Neighborhood) -> SitePlan:
        """Sites and excluded pairs."""
        found: SitePlan = neighbors.plan(self)[0]
        return found

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms], eV."""
        energies = super().forward(batch, neighbors, fields)
        if "undamped" not in self.wanted(neighbors):
            return energies
        plan = self.plan(neighbors)
        # as charges: their products are the coefficients of pairs
        sources = [geometric_mean(v()[plan.site]) for v in self.site_parameters()[1:]]
        energies = energies - self._smooth_pairs(batch, neighbors, plan, sources)
        if batch.any_periodic:
            lattice = neighbors.plan(self)[1]
            for power, source in zip(self.reciprocal, sources, strict=True):
                phi = power.potential(batch, source, lattice)
                phi = phi + self._corrections(batch, source, power.power)
                energies = energies - 0.5 * source * phi
        return energies

    def _corrections(self, batch: AtomsBatch, source: Tensor, power: int) -> Tensor:
        """Minus the self-interaction of sources and the wave k = 0, [n_atoms]."""
        mean = batch.system_sum(source) / reciprocal_lattice(batch.cell)[1]
        own = zero_wave(power, self.alpha) * mean[batch.system]
        own = own - at_origin(power, self.alpha) * source
        return torch.where(batch.periodic[batch.system], own, 0.0)

    def _smooth_pairs(
        self, batch: AtomsBatch, neighbors: Neighborhood, plan: SitePlan, sources: list[Tensor]
    ) -> Tensor:
        """The smooth part over all pairs of molecules, less that of excluded pairs, [n_atoms]."""
        i, j = plan.near.unbind(1)
        r = torch.linalg.vector_norm(nearest_vectors(batch, i, j), dim=1)
        half = -0.5 * plan.missing * self._smooth(r, i, j, sources)
        found = half.new_zeros(batch.n_atoms).index_add(0, i, half).index_add(0, j, half)
        if batch.all_periodic:
            return found
        pairs = neighbors.pairs(PairRequest(math.inf, "isolated"))
        smooth = self._smooth(pairs.distance, pairs.i, pairs.j, sources)
        return found + share_pairs(smooth, pairs, batch.n_atoms)

    def _smooth(self, r: Tensor, i: Tensor, j: Tensor, sources: list[Tensor]) -> Tensor:
        """sum_n C_n h_n/r^n of pairs, [n_pairs]."""
        total = torch.zeros_like(r)
        for n, source in zip(POWERS, sources, strict=True):
            product = source[i] * source[j]
            total = total + product * smooth_fraction(n, self.alpha, r) / r**n
        return total
