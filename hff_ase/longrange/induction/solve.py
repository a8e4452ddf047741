"""The induced dipoles of one part of a batch and their energy, by each of the solvers."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.longrange.conjugate_gradients import (
    ConjugateGradients,
    Wording,
    refuse_indefinite,
)
from hff_ase.longrange.ewald import ReciprocalEwald
from hff_ase.longrange.induction.mesh import MeshDipoles
from hff_ase.longrange.induction.operator import DipoleOperator
from hff_ase.longrange.induction.pairs import (
    DipolePairSum,
    Near,
    PlainDipolePairs,
    Sites,
    missing_field,
    missing_pairs,
    plain_pairs,
)
from hff_ase.longrange.induction.preconditioner import dipole_inverse
from hff_ase.longrange.induction.smooth import SmoothDipoles, WaveDipoles
from hff_ase.longrange.parts import Part
from hff_ase.longrange.pme import ReciprocalPME
from hff_ase.longrange.qeq.equilibration import EnergyAtMinimum
from hff_ase.longrange.solving import Solution
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest

WORDING = Wording("induced dipoles", "matrix of induced dipoles", "e A", "dipole_tolerance")


class DipoleProblem(NamedTuple):
    """What determines the dipoles of a part; solutions are energies, e^2/A, in the graph, and
    dipoles [n_atoms, 3], e A.

    Attributes:
        part, batch: the part, and its systems as they are now.
        neighbors: of the whole batch.
        requests: pairs of the real-space sum, all pairs of molecules, pairs of the preconditioner.
        alpha: splitting parameter, 1/Angstrom.
        sites, near, charges: of the part's atoms.
        applied: a further field at these [n_part_atoms, 3], e/A^2, in the graph; None for none.
        fused: whether only sums of energies over whole systems are differentiated, once, and in
            positions, cell and charges.
    """

    part: Part
    batch: AtomsBatch
    neighbors: Neighborhood
    requests: tuple[PairRequest, ...]
    alpha: float
    sites: Sites
    near: Near
    charges: Tensor
    applied: Tensor | None
    fused: bool

    def sums(self) -> list[tuple[PairRequest, float]]:
        """The lists that the part needs, and the splitting parameter of each."""
        real, molecule = self.requests[:2]
        wanted = [(real, self.alpha)] if self.batch.any_periodic else []
        return wanted + ([] if self.batch.all_periodic else [(molecule, 0.0)])

    def plain_pairs(self) -> list[PlainDipolePairs]:
        """The real-space sums in the graph."""
        cutoff = self.requests[0].cutoff
        found = [
            plain_pairs(
                self.batch,
                self.sites,
                self.part.pairs(self.neighbors.pairs(request)),
                alpha,
                cutoff,
            )
            for request, alpha in self.sums()
        ]
        return found + self.uncoupled_pairs()

    def uncoupled_pairs(self) -> list[PlainDipolePairs]:
        """What takes the coupling of near dipoles out again, where that does not count in full."""
        if not self.near.of_dipoles:
            return []
        return [missing_pairs(self.batch, self.sites, self.near)]

    def missing(self) -> Tensor:
        """What is to be taken off the field of all charges, [n_part_atoms, 3], in the graph."""
        missing = missing_field(self.batch, self.sites, self.near, self.charges)
        return missing if self.applied is None else missing - self.applied

    def pair_sums(self) -> list[DipolePairSum]:
        """The real-space sums, by kernels where this evaluation may use them."""
        if not self.fused or self.neighbors.kernels != "numba":
            return list(self.plain_pairs())
        from hff_ase.kernels.induction.real_space import FusedDipolePairs

        batch, sites, found = self.batch, self.sites.detached(), list[DipolePairSum]()
        for request, alpha in self.sums():
            rows = self.part.rows(self.neighbors.rows(request))
            included = batch.periodic if alpha > 0 else ~batch.periodic
            what = sites, rows, included, alpha, request.cutoff
            found.append(FusedDipolePairs(batch, *what))
        return found + self.uncoupled_pairs()

    def smooth(self) -> SmoothDipoles | None:
        """The smooth part of the lattice sum; None without boxes."""
        part = self.part
        if part.plan is None:
            return None
        if isinstance(part.reciprocal, ReciprocalPME):
            made = self.neighbors.mesh_sums if part.atoms is None else []
            known = made[-1] if made else None
            return MeshDipoles(self.batch, part.plan, self.alpha, self.fused, known)
        return WaveDipoles(self.batch, part.reciprocal, part.plan)

    def operator(self) -> DipoleOperator:
        """alpha^-1 + T without the matrix."""
        parts = self.pair_sums(), self.smooth(), self.missing()
        return DipoleOperator(self.sites.polarizability, *parts)

    def matrix(self, pairs: list[PlainDipolePairs]) -> Tensor:
        """alpha^-1 + T [n_systems, 3 n, 3 n] in the graph; 1 where systems are padded."""
        batch, n = self.batch, self.batch.max_count
        flat = batch.positions.new_zeros((batch.n_systems * n * n, 3, 3))
        for part in pairs:
            system, blocks = batch.system[part.i], part.blocks()
            i, j = batch.index_in_system[part.i], batch.index_in_system[part.j]
            flat = flat.index_add(0, (system * n + i) * n + j, blocks)
            flat = flat.index_add(0, (system * n + j) * n + i, blocks)
        matrix = flat.view(batch.n_systems, n, n, 3, 3).transpose(2, 3)
        matrix = matrix.reshape(batch.n_systems, 3 * n, 3 * n)
        if self.part.plan is not None:
            matrix = matrix + self.waves().matrix()
        inverse = batch.pad(1.0 / self.sites.polarizability)
        absent = 1.0 - batch.pad(torch.ones_like(self.charges))
        own = (inverse + absent)[..., None].expand(-1, -1, 3).flatten(1)
        return matrix + torch.diag_embed(own)

    def waves(self) -> WaveDipoles:
        """The smooth part of a dense problem, in the graph."""
        exact = cast(ReciprocalEwald, self.part.reciprocal)
        return WaveDipoles(self.batch, exact, self.part.plan)

    def solve_in_graph(self) -> Solution:
        """Dense, the linear system being part of the graph: derivatives of any order."""
        batch, charges = self.batch, self.charges
        pairs = self.plain_pairs()
        field = -self.missing()
        for part in pairs:
            field = field + part.field_in_graph(charges)
        if self.part.plan is not None:
            field = field + self.waves().field_in_graph(charges)
        right = batch.pad(field).flatten(1)
        dipoles = torch.linalg.solve(self.matrix(pairs), right)
        dipoles = batch.unpad(dipoles.view(batch.n_systems, -1, 3))
        return -0.5 * (dipoles * field).sum(1), dipoles

    def solve_dense(self) -> Solution:
        """By Cholesky factors of the matrix."""
        batch, operator = self.batch, self.operator()
        with torch.no_grad():
            lower, info = torch.linalg.cholesky_ex(self.matrix(self.plain_pairs()))
            if bool(info.any()):
                refuse_indefinite(info > 0, WORDING)
            right = batch.pad(operator.field(self.charges)).flatten(1)
            dipoles = torch.cholesky_solve(right[..., None], lower)[..., 0]
            dipoles = batch.unpad(dipoles.view(batch.n_systems, -1, 3))
        return self._at_minimum(operator, dipoles)

    def solve_iteratively(self, guess: Tensor | None, tolerance: float) -> Solution:
        """By conjugate gradients from a guess [n_atoms, 3]."""
        part, kernels, operator = self.part, self.neighbors.kernels, self.operator()
        with torch.no_grad():
            if part.inverse is None:
                rows = part.rows(self.neighbors.rows(self.requests[2]))
                near = self.near if self.near.of_dipoles else None
                sites = self.sites.detached()
                part.inverse = dipole_inverse(part.start, rows, sites, kernels, near)
            inverse = part.inverse.product(kernels)
            solver = ConjugateGradients(
                self.batch, operator, inverse, tolerance, WORDING, polish=True
            )
            field = operator.field(self.charges)
            dipoles = solver.solve(field, inverse(field) if guess is None else guess)
            part.iterations = solver.iterations
        return self._at_minimum(operator, dipoles)

    def _at_minimum(self, operator: DipoleOperator, dipoles: Tensor) -> Solution:
        """Energies at fixed dipoles, in which they are stationary."""
        return EnergyAtMinimum.apply(operator.energies(self.charges, dipoles)), dipoles
