"""The charges of one part of a batch and their energy, by each of the solvers."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.ewald import ReciprocalEwald
from hff_ase.longrange.parts import Part
from hff_ase.longrange.qeq.cg import ChargeSolver
from hff_ase.longrange.qeq.equilibration import (
    EnergyAtMinimum,
    ImplicitCharges,
    Response,
    factorize,
    solve_charges,
)
from hff_ase.longrange.qeq.matrix import GaussianPairs, gaussian_matrix, gaussian_pairs
from hff_ase.longrange.qeq.operator import HardnessOperator, PairSum, PlainPairSum
from hff_ase.longrange.qeq.preconditioner import charge_inverse
from hff_ase.longrange.solving import Solution
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest


class ChargeProblem(NamedTuple):
    """The charge problem of a part; solutions are energies, eV, and charges [n_atoms], e,
    both in the graph.

    Attributes:
        part, batch: the part, and its systems as they are now.
        neighbors: of the whole batch.
        requests: pairs of the real-space sum, all pairs of molecules, pairs of the preconditioner.
        alpha: splitting parameter, 1/Angstrom; prefactor: k_e, eV Angstrom/e^2.
        chi, eta: eV, widths: Angstrom, [n_atoms] of the part.
        element_eta: hardness without the surroundings' part, for the preconditioner.
    """

    part: Part
    batch: AtomsBatch
    neighbors: Neighborhood
    requests: tuple[PairRequest, ...]
    alpha: float
    prefactor: float
    chi: Tensor
    eta: Tensor
    widths: Tensor
    element_eta: Tensor

    def pairs(self) -> GaussianPairs:
        """The real-space interactions in the graph."""
        real, molecule = self.requests[:2]
        part, batch = self.part, self.batch
        return gaussian_pairs(
            batch,
            self.widths,
            part.pairs(self.neighbors.pairs(real)) if batch.any_periodic else None,
            None if batch.all_periodic else part.pairs(self.neighbors.pairs(molecule)),
            self.alpha,
            real.cutoff,
        )

    def matrix(self, pairs: GaussianPairs) -> Tensor:
        """k_e J [n_systems, n, n], eV/e^2, of a dense part."""
        exact = cast(ReciprocalEwald, self.part.reciprocal)
        return self.prefactor * gaussian_matrix(
            self.batch, self.widths, pairs, exact, self.part.plan
        )

    def operator(self, pairs: list[PairSum]) -> HardnessOperator:
        """H without the matrix."""
        part = self.part
        return HardnessOperator(
            self.batch, self.eta, self.widths, pairs, part.reciprocal, part.plan, self.prefactor
        )

    def solve_in_graph(self) -> Solution:
        """Dense, the linear system being part of the graph: derivatives of any order."""
        batch, chi, eta = self.batch, self.chi, self.eta
        matrix = self.matrix(self.pairs())
        charges = solve_charges(batch, matrix + torch.diag_embed(batch.pad(eta)), chi)
        phi = batch.unpad((matrix @ batch.pad(charges)[..., None])[..., 0])
        return charges * (chi + 0.5 * (eta * charges + phi)), charges

    def solve_dense(self) -> Solution:
        """By Cholesky factors of the matrix."""
        pairs = self.pairs()
        with torch.no_grad():
            matrix = self.matrix(pairs) + torch.diag_embed(self.batch.pad(self.eta))
            factor = factorize(self.batch, matrix)
            charges = factor.charges(self.chi)
        return self._at_minimum(self.operator([PlainPairSum(pairs)]), charges, factor)

    def solve_iteratively(self, guess: Tensor | None, tolerance: float) -> Solution:
        """By conjugate gradients from a guess (charges [n_atoms] of the right total)."""
        part, kernels = self.part, self.neighbors.kernels
        operator = self.operator(self._pair_sums())
        with torch.no_grad():
            if part.inverse is None:
                rows = part.rows(self.neighbors.rows(self.requests[2]))
                part.inverse = charge_inverse(
                    part.start, rows, self.element_eta, self.widths, self.prefactor
                )
            solver = ChargeSolver(self.batch, operator, part.inverse.product(kernels), tolerance)
            charges = solver.charges(self.chi, guess)
            part.iterations = solver.iterations
        return self._at_minimum(operator, charges, solver)

    def _at_minimum(
        self, operator: HardnessOperator, charges: Tensor, solver: Response
    ) -> Solution:
        """Energies at fixed charges, and charges that carry their response."""
        chi, eta = self.chi, self.eta
        phi = operator.potential(charges)
        energies = charges * (chi + 0.5 * (eta * charges + phi))
        charges = ImplicitCharges.apply(chi + eta * charges + phi, charges, solver)
        return EnergyAtMinimum.apply(energies), charges

    def _pair_sums(self) -> list[PairSum]:
        """The real-space sums, by kernels where this evaluation may use them."""
        if self.neighbors.kernels != "numba":
            return [PlainPairSum(self.pairs())]
        from hff_ase.kernels.qeq.real_space import FusedPairSum

        real, molecule = self.requests[:2]
        batch, sums = self.batch, list[PairSum]()
        for request, included, alpha in (
            (real, batch.periodic, self.alpha),
            (molecule, ~batch.periodic, 0.0),
        ):
            if batch.any_periodic if request is real else not batch.all_periodic:
                rows = self.part.rows(self.neighbors.rows(request))
                sums.append(FusedPairSum(batch, self.widths, rows, included, alpha, request.cutoff))
        return sums
