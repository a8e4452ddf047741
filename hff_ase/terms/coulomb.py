"""Coulomb energy of the charges that an earlier term gives."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hff_ase.batch import AtomsBatch
from hff_ase.constants import is_live
from hff_ase.declared import Declared
from hff_ase.errors import ConfigError
from hff_ase.halo import Halo, reciprocal_energies
from hff_ase.kept import Kept
from hff_ase.kernels.explicit import given_gradient
from hff_ase.kernels.pair import pair_sums
from hff_ase.kernels.pair.tables import Table, tabulate
from hff_ase.longrange.ewald import (
    explicit_corrections,
    potential_corrections,
    splitting_parameter,
)
from hff_ase.longrange.pairs import Kernel, PairPotential, sum_pairs
from hff_ase.longrange.reciprocal import reciprocal_sum
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest, Pairs
from hff_ase.terms.pairwise import KernelInput, following_pair_term
from hff_ase.terms.term import Fields, Term
from hff_ase.units import COULOMB_CONSTANT

_TABLES: Kept[Table] = Kept()


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
    parts = ("real", "reciprocal")

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

    def declared(self) -> dict[str, Declared]:
        """The damping. (All charges times c is the term's scale times c^2.)"""
        if self.damping is None:
            return {}
        return {
            "damping_r0": Declared("A", "log", 0.1, "length of the damping"),
            "damping_sharpness": Declared("1", "log", 0.2, "how sharply the damping sets in"),
        }

    def constants(self) -> dict[str, str]:
        """The damping."""
        if self.damping is None:
            return {}
        return {"damping_r0": "damping.0", "damping_sharpness": "damping.1"}

    def requests(self) -> tuple[PairRequest, ...]:
        """Pairs of the real-space sum and, for molecules, all pairs."""
        return (PairRequest(self.real_cutoff, "half"), PairRequest(math.inf, "isolated"))

    def prepare(self, batch: AtomsBatch) -> Any:
        """Wave vectors or mesh; nothing for a batch of molecules."""
        return self.reciprocal.prepare(batch) if batch.any_periodic else None

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies k_e q_i phi_i / 2, float64 [n_atoms], eV."""
        charges = fields["charges"].double()
        pairs = not neighbors.leaves_out(self, "real")
        smooth = batch.any_periodic and not neighbors.leaves_out(self, "reciprocal")
        if neighbors.fast and pairs and smooth == batch.any_periodic:
            return self._fused(batch, charges, neighbors)
        phi = torch.zeros_like(charges)
        if pairs:
            phi = phi + self._pair_potential(batch, charges, neighbors)
        if smooth and neighbors.halo is None:
            phi = phi + self._smooth_potential(batch, charges, neighbors)
        energies = 0.5 * self.prefactor * charges * phi
        if smooth and neighbors.halo is not None:
            energies = energies + self._far(batch, charges, neighbors.halo)
        return energies

    def _far(self, batch: AtomsBatch, charges: Tensor, halo: Halo) -> Tensor:
        """The smooth part's energies [n_atoms], from all processes."""
        return self.prefactor * reciprocal_energies(batch.positions, batch.cell, charges, halo)

    def refuses_owned(self, neighbors: Neighborhood) -> str | None:
        """Why energies of only some atoms are unavailable: the lattice sum needs all charges."""
        if neighbors.halo is None and not neighbors.leaves_out(self, "reciprocal"):
            return "its reciprocal part sums over all charges; leave it out or give a halo"
        return None

    def _pair_potential(
        self, batch: AtomsBatch, charges: Tensor, neighbors: Neighborhood
    ) -> Tensor:
        """phi [n_atoms] of listed pairs: of the real-space sum, and all of isolated systems."""
        real, isolated = self.requests()
        phi = torch.zeros_like(charges)
        if batch.any_periodic:
            phi = phi + self._real_space(batch, charges, neighbors.pairs(real))
        if not batch.all_periodic:
            pairs = neighbors.pairs(isolated)
            phi = phi + self._potential(charges, pairs, self._bare)
        return phi

    def _potential(self, charges: Tensor, pairs: Pairs, kernel: Kernel) -> Tensor:
        """phi [n_atoms] of pairs; also as a function of the damping, where that is asked for."""
        if is_live(self.damping):
            return sum_pairs(charges, pairs.i, pairs.j, kernel(pairs.distance)[0])
        return PairPotential.apply(charges, pairs.distance, pairs.i, pairs.j, kernel)

    def _smooth_potential(
        self, batch: AtomsBatch, charges: Tensor, neighbors: Neighborhood
    ) -> Tensor:
        """phi [n_atoms] of the reciprocal-space sum, self term and background."""
        smooth = self.reciprocal.potential(batch, charges, neighbors.plan(self))
        smooth = smooth + potential_corrections(batch, charges, self.alpha)
        if not batch.all_periodic:
            smooth = torch.where(batch.periodic[batch.system], smooth, 0.0)
        return smooth

    def _bare(self, distance: Tensor) -> tuple[Tensor, Tensor]:
        """g(r)/r and its derivative, 1/Angstrom and 1/Angstrom^2."""
        if self.damping is None:
            inverse = 1.0 / distance
            return inverse, -inverse * inverse
        r0, sharpness = self.damping
        x = distance / r0 - 1.0
        value = 1.0 / (r0 + r0 * _softplus(x, sharpness))
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
        return self._potential(charges, pairs, kernel)

    def _fused(self, batch: AtomsBatch, charges: Tensor, neighbors: Neighborhood) -> Tensor:
        """The energies from kernels that give phi and all derivatives at once."""
        q = charges.detach().contiguous()
        real, isolated = self.requests()
        parts = []
        if batch.any_periodic:
            in_box = q
            if not batch.all_periodic:
                # Pairs never cross systems: without charges, those of molecules count nothing.
                in_box = torch.where(batch.periodic[batch.system], q, 0.0)
            parts.append(self._pairs(batch, in_box, neighbors, real))
        if batch.any_periodic and neighbors.halo is None:
            smooth = self.reciprocal.explicit(
                batch, q, neighbors.plan(self), made=neighbors.mesh_sums
            )
            smooth = smooth + explicit_corrections(batch, q, self.alpha)
            parts.append(
                [self.prefactor * x for x in (smooth.phi, smooth.d_positions, smooth.d_cell)]
            )
        if not batch.all_periodic:
            parts.append(self._pairs(batch, q, neighbors, isolated))
        phi, d_positions, d_cell = (sum(part[1:], part[0]) for part in zip(*parts, strict=True))
        derivatives = d_positions, d_cell, charges, phi
        energies = given_gradient(0.5 * q * phi, batch, *derivatives, n_own=neighbors.n_own)
        if batch.any_periodic and neighbors.halo is not None:
            energies = energies + self._far(batch, charges, neighbors.halo)
        return energies

    def _pairs(
        self, batch: AtomsBatch, charges: Tensor, neighbors: Neighborhood, request: PairRequest
    ) -> list[Tensor]:
        """phi in V and dE/dx, dE/dcell of the pairs of a request.

        A later term that goes over the same list is computed along, in about a quarter less time
        than two passes take. The derivatives of both are then those of this term: only the sum of
        all terms is ever differentiated.
        """
        other, extra = following_pair_term(self, neighbors, request), KernelInput()
        if other is not None:
            extra = other.kernel_input(batch, neighbors) or extra
        table = self._table(request, batch.device)
        sums = pair_sums(batch, neighbors, request, charges, table, *extra)
        if other is not None and extra.elements is not None:
            neighbors.computed_ahead[other] = sums.energy
        return [sums.phi, sums.d_positions, sums.d_cell]

    def _table(self, request: PairRequest, device: torch.device) -> Table:
        """k_e times the short-range part of the lattice sum, or k_e g(r)/r for a molecule."""

        def energy(r: Tensor) -> Tensor:
            if request.kind == "isolated":
                return self.prefactor * self._bare(r)[0]
            return self.prefactor * self._short_range(r, torch.ones_like(r))[0]

        key = (request, device)
        return _TABLES.of(self, lambda: tabulate(energy, request.cutoff, 1, device), key)


def _softplus(x: Tensor, sharpness: float | Tensor) -> Tensor:
    """s(x) = ln(1 + exp(b x))/b."""
    if isinstance(sharpness, Tensor):
        return torch.logaddexp(torch.zeros_like(x), sharpness * x) / sharpness
    return functional.softplus(x, beta=sharpness, threshold=40.0)
