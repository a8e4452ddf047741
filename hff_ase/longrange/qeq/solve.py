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
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest

Solution = tuple[Tensor, Tensor]
"""Atomic energies [n_atoms], eV, and charges [n_atoms], e, in the graph."""


class Problem(NamedTuple):
    """What determines the charges of a part.

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


def solve_in_graph(problem: Problem) -> Solution:
    """Dense, the linear system being part of the graph: derivatives of any order."""
    batch, chi, eta = problem.batch, problem.chi, problem.eta
    matrix = problem.matrix(problem.pairs())
    charges = solve_charges(batch, matrix + torch.diag_embed(batch.pad(eta)), chi)
    phi = batch.unpad((matrix @ batch.pad(charges)[..., None])[..., 0])
    return charges * (chi + 0.5 * (eta * charges + phi)), charges


def solve_dense(problem: Problem) -> Solution:
    """By Cholesky factors of the matrix."""
    pairs = problem.pairs()
    with torch.no_grad():
        matrix = problem.matrix(pairs) + torch.diag_embed(problem.batch.pad(problem.eta))
        factor = factorize(problem.batch, matrix)
        charges = factor.charges(problem.chi)
    return _at_minimum(problem, problem.operator([PlainPairSum(pairs)]), charges, factor)


def solve_iteratively(problem: Problem, guess: Tensor | None, tolerance: float) -> Solution:
    """By conjugate gradients from a guess (charges [n_atoms] of the right total)."""
    part, kernels = problem.part, problem.neighbors.kernels
    operator = problem.operator(_pair_sums(problem))
    with torch.no_grad():
        if part.inverse is None:
            rows = part.rows(problem.neighbors.rows(problem.requests[2]))
            part.inverse = charge_inverse(
                part.start, rows, problem.element_eta, problem.widths, problem.prefactor
            )
        solver = ChargeSolver(problem.batch, operator, part.inverse.product(kernels), tolerance)
        charges = solver.charges(problem.chi, guess)
        part.iterations = solver.iterations
    return _at_minimum(problem, operator, charges, solver)


def _at_minimum(
    problem: Problem, operator: HardnessOperator, charges: Tensor, solver: Response
) -> Solution:
    """Energies at fixed charges, and charges that carry their response."""
    chi, eta = problem.chi, problem.eta
    phi = operator.potential(charges)
    energies = charges * (chi + 0.5 * (eta * charges + phi))
    charges = ImplicitCharges.apply(chi + eta * charges + phi, charges, solver)
    return EnergyAtMinimum.apply(energies), charges


def _pair_sums(problem: Problem) -> list[PairSum]:
    """The real-space sums, by kernels where this evaluation may use them."""
    if problem.neighbors.kernels != "numba":
        return [PlainPairSum(problem.pairs())]
    from hff_ase.kernels.qeq.real_space import FusedPairSum

    real, molecule = problem.requests[:2]
    batch, sums = problem.batch, list[PairSum]()
    for request, included, alpha in (
        (real, batch.periodic, problem.alpha),
        (molecule, ~batch.periodic, 0.0),
    ):
        if batch.any_periodic if request is real else not batch.all_periodic:
            rows = problem.part.rows(problem.neighbors.rows(request))
            sums.append(FusedPairSum(batch, problem.widths, rows, included, alpha, request.cutoff))
    return sums
