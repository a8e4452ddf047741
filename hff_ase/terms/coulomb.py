"""Coulomb energy of the charges that an earlier term gives."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.longrange.ewald import (
    ReciprocalEwald,
    potential_corrections,
    splitting_parameter,
)
from hff_ase.longrange.pairs import PairPotential
from hff_ase.longrange.pme import ReciprocalPME
from hff_ase.neighbors import Neighborhood, PairRequest, Pairs
from hff_ase.terms.term import Fields, Term
from hff_ase.units import COULOMB_CONSTANT


class ReciprocalSum(Protocol):
    """The smooth part of 1/r in a periodic box, by whatever method."""

    def prepare(self, batch: AtomsBatch) -> Any:
        """Choose wave vectors or a mesh; kept until the next rebuild of the neighbour list."""

    def potential(self, batch: AtomsBatch, charges: Tensor, plan: Any) -> Tensor:
        """phi [n_atoms] in e/Angstrom, self-interaction included."""


def reciprocal_sum(method: str, alpha: float, tolerance: float) -> ReciprocalSum:
    """The summation method of a name.

    Raises:
        ConfigError: another name.
    """
    if method == "ewald":
        return ReciprocalEwald(alpha, tolerance)
    if method == "pme":
        return ReciprocalPME(alpha, tolerance)
    raise ConfigError(f"expected the Coulomb method 'ewald' or 'pme', got {method!r}")


def damping_range(r0: float, sharpness: float) -> float:
    """Distance, at least 2 r0, beyond which the damping differs from 1 by less than 1e-9.

    Raises:
        ConfigError: a parameter that is not positive.
    """
    if not (0 < r0 < math.inf and 0 < sharpness < math.inf):
        raise ConfigError(f"expected a positive damping (r0, b), got ({r0}, {sharpness})")
    return r0 * max(2.0, 1.0 + math.log(1e9 / sharpness) / sharpness)


class Coulomb(Term):
    """E = k_e/2 sum_i q_i phi_i: a direct sum for molecules, a lattice sum for boxes.

    Pairs interact as q_i q_j g(r)/r, with g = 1 or, damped at short range as in BAMBOO,
    g = x / (1 + s(x - 1)), x = r/r0, s(y) = ln(1 + exp(b y))/b: about constant below r0.
    A charged box gets a uniform neutralising background.

    Args:
        method: "ewald" (exact, cost N^1.5 to N^2) or "pme" (mesh, N log N).
        cutoff: where the real-space part of the lattice sum ends, Angstrom.
        tolerance: relative RMS error of forces and energy of a disordered ionic system; sets the
            splitting and the wave vectors or mesh. (The small forces of a nearly perfect crystal
            have up to ten times that, the stress of a dense salt five times.)
        damping: (r0 in Angstrom, b) or None for bare 1/r.
        prefactor: k_e, eV Angstrom/e^2.

    Raises:
        ConfigError: an unknown method, or a cutoff or tolerance that cannot be.
    """

    kind = "coulomb"
    needs = ("charges",)

    def __init__(
        self,
        method: str = "pme",
        cutoff: float = 9.0,
        tolerance: float = 1e-6,
        damping: tuple[float, float] | None = None,
        prefactor: float = COULOMB_CONSTANT,
    ) -> None:
        super().__init__()
        if not 1e-14 <= tolerance <= 1e-2:
            raise ConfigError(f"expected a Coulomb tolerance of 1e-14 to 1e-2, got {tolerance}")
        shortest = damping_range(*damping) if damping else 1.0
        if not cutoff >= shortest:
            raise ConfigError(f"expected a Coulomb cutoff of at least {shortest:g} A, got {cutoff}")
        self.method, self.tolerance = method, tolerance
        self.damping = None if damping is None else (float(damping[0]), float(damping[1]))
        self.prefactor = prefactor
        self.real_cutoff = float(cutoff)
        self.alpha = splitting_parameter(cutoff, tolerance)
        self.reciprocal = reciprocal_sum(method, self.alpha, tolerance)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "method": self.method,
            "cutoff": self.real_cutoff,
            "tolerance": self.tolerance,
            "damping": None if self.damping is None else list(self.damping),
            "prefactor": self.prefactor,
        }

    def requests(self) -> tuple[PairRequest, ...]:
        """Pairs of the real-space sum and, for molecules, all pairs."""
        return (PairRequest(self.real_cutoff, "half"), PairRequest(math.inf, "molecule"))

    def prepare(self, batch: AtomsBatch) -> Any:
        """Wave vectors or mesh; nothing for a batch of molecules."""
        return self.reciprocal.prepare(batch) if batch.any_periodic else None

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies k_e q_i phi_i / 2, float64 [n_atoms], eV."""
        charges = fields["charges"].double()
        phi = torch.zeros_like(charges)
        real, molecule = self.requests()
        if batch.any_periodic:
            phi = phi + self._real_space(batch, charges, neighbors.pairs(real))
            smooth = self.reciprocal.potential(batch, charges, neighbors.plan(self))
            smooth = smooth + potential_corrections(batch, charges, self.alpha)
            if not batch.all_periodic:
                smooth = torch.where(batch.periodic[batch.system], smooth, 0.0)
            phi = phi + smooth
        if not batch.all_periodic:
            pairs = neighbors.pairs(molecule)
            phi = phi + PairPotential.apply(charges, pairs.distance, pairs.i, pairs.j, self._bare)
        return 0.5 * self.prefactor * charges * phi

    def _bare(self, distance: Tensor) -> tuple[Tensor, Tensor]:
        """g(r)/r and its derivative, 1/Angstrom and 1/Angstrom^2."""
        if self.damping is None:
            inverse = 1.0 / distance
            return inverse, -inverse * inverse
        r0, sharpness = self.damping
        x = distance / r0 - 1.0
        value = 1.0 / (r0 + r0 * functional.softplus(x, beta=sharpness, threshold=40.0))
        return value, -value * value * torch.sigmoid(sharpness * x)

    def _short_range(self, distance: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The lattice sum's short-range part, g(r)/r less erf(alpha r)/r, and its derivative."""
        scaled = self.alpha * distance
        inverse = 1.0 / distance
        smooth = torch.erf(scaled) * inverse
        gauss = (2.0 / math.sqrt(math.pi) * self.alpha) * torch.exp(-scaled * scaled)
        bare, slope = self._bare(distance)
        return (bare - smooth) * counts, (slope + (smooth - gauss) * inverse) * counts

    def _real_space(self, batch: AtomsBatch, charges: Tensor, pairs: Pairs) -> Tensor:
        """phi [n_atoms] of the pairs within the cutoff, those of periodic systems only."""
        counts = pairs.distance.detach() < self.real_cutoff
        if not batch.all_periodic:
            counts = counts & batch.periodic[batch.system[pairs.i]]
        kernel = partial(self._short_range, counts=counts.double())
        return PairPotential.apply(charges, pairs.distance, pairs.i, pairs.j, kernel)
