"""Induced dipoles: polarisable atoms in the field of charges and of each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.declared import Declared
from hff_ase.errors import ConfigError
from hff_ase.longrange.ewald import ReciprocalEwald, splitting_parameter
from hff_ase.longrange.induction.pairs import Near, Sites
from hff_ase.longrange.induction.preconditioner import RADIUS
from hff_ase.longrange.induction.solve import DipoleProblem
from hff_ase.longrange.parts import (
    Part,
    check_solver,
    choose_dense,
    make_parts,
    refuse_dense,
)
from hff_ase.longrange.pme import ReciprocalPME
from hff_ase.longrange.solving import solve
from hff_ase.molecular.assignment import Assigner
from hff_ase.molecular.parameters import SiteValues, site_values, with_values
from hff_ase.molecular.templates import Templates
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest
from hff_ase.terms.exp6 import FACTORS
from hff_ase.terms.term import Fields, Term
from hff_ase.units import COULOMB_CONSTANT

CROSSOVER = 60  # atoms of a system up to which a factorisation is quicker


@dataclass(frozen=True, eq=False)
class DipolePlan:
    """Data kept until neighbours are next searched.

    Attributes:
        training: the mode that it is for.
        site: int64 [n_atoms].
        parts: systems by how they are solved, and their pairs of one molecule.
        near: all pairs of one molecule.
        lattice: wave vectors or a mesh for all systems, where a field of more than charges is
            summed; else None.
    """

    training: bool
    site: Tensor
    parts: list[tuple[Part, Near]]
    near: Near
    lattice: Any = None


class InducedDipoles(Term):
    r"""Dipoles mu that minimise E = k_e [1/2 mu (alpha^-1 + T) mu - mu . F].

    F is the field of the charges, T couples dipoles, both damped at short range after Thole
    (Chem. Phys. 59, 341 (1981)): with :math:`u = r/(d_i d_j)^{1/6}`, lambda_3 = 1 - exp(-a u^3) and
    lambda_5 = 1 - (1 + a u^3) exp(-a u^3),

    .. math:: F_i = \sum_j s_{ij} \lambda_3 q_j \frac{r_i - r_j}{r^3},\quad
        T_{ij} = \lambda_3 \frac{1}{r^3} - 3 \lambda_5 \frac{r r^T}{r^5}.

    s is a factor for charges of the own molecule by bonds apart; dipoles couple in full, bonded
    ones too (ByteFF-Pol, arXiv 2508.08575). In a box all images count (Ewald; conducting
    surroundings), the damping for the pairs within the cutoff and s for nearest images.

    Small systems are solved by factorising a dense matrix, large ones by conjugate gradients
    (`hff_ase.longrange.conjugate_gradients`, the solver of charge equilibration) with a mesh, in
    memory that grows as n_atoms; along a trajectory from a prediction. The energy is stationary in
    the dipoles and is differentiated at fixed ones: what is left of their error enters it in second
    order and the forces in first, up to some 3 eV/A per e A. Second derivatives (losses on forces)
    need training mode, where the solution is part of the graph: always dense.

    Args:
        molecules: each with ``name``, ``numbers``, ``bonds``, ``polarizability`` and ``damping``
            (d), A^3.
        thole: a.
        factors: s for atoms 1, 2, 3 ... bonds apart.
        cutoff: of the real-space part, Angstrom.
        tolerance: relative accuracy of the lattice sum.
        prefactor: k_e, eV Angstrom/e^2.
        max_atoms: largest system accepted by the dense solver.
        solver: "dense", "iterative", or "auto" by the size of each system.
        dipole_tolerance: estimated error of any component of a dipole at which iterations end, e A.
        method: of the smooth part for iterations, "pme" (mesh) or "ewald" (exact, slow).

    Raises:
        ConfigError: a polarizability that is not positive, or numbers that cannot be.
    """

    kind = "induced_dipoles"
    needs: ClassVar[tuple[str, ...]] = ("charges",)
    gives = ("dipoles",)
    form = "cubic"  # of the damping
    masks_dipoles = False  # whether factors count for couplings of dipoles too

    def __init__(
        self,
        molecules: Sequence[Mapping[str, Any]],
        thole: float = 0.39,
        factors: Sequence[float] = FACTORS,
        cutoff: float = 9.0,
        tolerance: float = 1e-6,
        prefactor: float = COULOMB_CONSTANT,
        max_atoms: int = 1500,
        solver: str = "auto",
        dipole_tolerance: float = 1e-6,
        method: str = "pme",
    ) -> None:
        super().__init__()
        if not (thole > 0 and 1.0 <= cutoff < math.inf and 1e-14 <= tolerance <= 1e-2):
            raise ConfigError(
                "expected thole > 0, a cutoff of at least 1 A and a tolerance of 1e-14 to 1e-2, "
                f"got {thole}, {cutoff} and {tolerance}"
            )
        check_solver("dipole", solver, dipole_tolerance, "dipole_tolerance", "e A")
        if method not in ("pme", "ewald"):
            raise ConfigError(f"expected the dipole method 'ewald' or 'pme', got {method!r}")
        self.templates = Templates.of(molecules)
        for name in ("polarizability", "damping"):
            if min(site_values(molecules, name)) <= 0:
                raise ConfigError(f"expected positive values of {name}, got others")
        self.polarizability = SiteValues(self.templates, site_values(molecules, "polarizability"))
        self.damping = SiteValues(self.templates, site_values(molecules, "damping"))
        self.thole, self.factors = float(thole), tuple(float(f) for f in factors)
        self.real_cutoff, self.tolerance = float(cutoff), tolerance
        self.prefactor, self.max_atoms = prefactor, max_atoms
        self.solver, self.dipole_tolerance, self.method = solver, dipole_tolerance, method
        self.alpha = splitting_parameter(cutoff, tolerance)
        self.reciprocal = ReciprocalEwald(self.alpha, tolerance)
        self.mesh: ReciprocalPME | ReciprocalEwald = self.reciprocal
        if method == "pme":
            self.mesh = ReciprocalPME(self.alpha, tolerance)
        self._assign = Assigner(self.templates)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = [name for name in ("polarizability", "damping") if hasattr(self, name)]
        values = {name: getattr(self, name) for name in names}
        return {
            "molecules": with_values(self.templates, **values),
            "thole": self.thole,
            "factors": list(self.factors),
            "cutoff": self.real_cutoff,
            "tolerance": self.tolerance,
            "prefactor": self.prefactor,
            "max_atoms": self.max_atoms,
            "solver": self.solver,
            "dipole_tolerance": self.dipole_tolerance,
            "method": self.method,
        }

    def declared(self) -> dict[str, Declared]:
        """Polarizabilities and damping volumes."""
        return {
            "polarizability.value": Declared("A^3", "log", 0.1, "polarizabilities"),
            "damping.value": Declared("A^3", "log", 0.1, "volumes of Thole's damping"),
            "thole": Declared("1", "log", 0.1, "strength of Thole's damping"),
        }

    def constants(self) -> dict[str, str]:
        """Thole's a."""
        return {"thole": "thole"}

    def requests(self) -> tuple[PairRequest, ...]:
        """Pairs of the real-space sum, for molecules all pairs, and for iterations the nearest."""
        whole = (PairRequest(self.real_cutoff, "half"), PairRequest(math.inf, "isolated"))
        near = PairRequest(min(RADIUS, self.real_cutoff), "half")
        return whole if self.solver == "dense" else (*whole, near)

    @property
    def remembers(self) -> bool:
        """Iterations start from a prediction."""
        return self.solver != "dense"

    def refuses_owned(self, neighbors: Neighborhood) -> str | None:
        """All dipoles are solved for together."""
        return "its dipoles are solved for the whole system at once"

    def prepare(self, batch: AtomsBatch) -> DipolePlan:
        """Sites, pairs of molecules, and the parts of the batch for the present mode.

        Raises:
            StructureError: a molecule without parameters, one that has come apart, or a system that
                is too large for the dense solver.
        """
        size = min(CROSSOVER, self.max_atoms)
        dense = choose_dense(batch, self.solver, self.training, size)
        if self.training or self.solver == "dense":
            refuse_dense(batch, self.max_atoms, "induced dipoles", 3)
        found = self._assign(batch)
        pairs = [t.pairs(1, len(self.factors)) for t in self.templates.molecules]
        missing = [
            1.0 - np.array(self.factors)[t.apart[p[:, 0], p[:, 1]] - 1]
            for t, p in zip(self.templates.molecules, pairs, strict=True)
        ]
        i, j = found.listed(pairs).unbind(1)
        near = Near(i, j, found.tiled(missing), self.masks_dipoles)
        parts = make_parts(batch, dense, self.reciprocal, self.mesh)
        return DipolePlan(self.training, found.site, [(p, _near_of(p, near)) for p in parts], near)

    def sources(
        self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields, plan: DipolePlan
    ) -> tuple[Tensor, Tensor | None]:
        """Charges [n_atoms] whose field acts on the dipoles, and a further field [n_atoms, 3] in
        e/A^2, in the graph, or None."""
        return fields["charges"].double(), None

    def sites(self, plan: DipolePlan) -> Sites:
        """Site data of the atoms of a batch."""
        polarizability, volume = self.polarizability()[plan.site], self.damping()[plan.site]
        return Sites(polarizability, volume, self.thole, self.form)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms], eV; gives `dipoles` [n_atoms, 3] (without a graph but in
        training)."""
        plan: DipolePlan = neighbors.plan(self)
        if plan.training != self.training:  # the mode was changed since neighbours were searched
            plan = self.prepare(batch.detached())
        charges, applied = self.sources(batch, neighbors, fields, plan)
        sites = self.sites(plan)
        problems = [
            DipoleProblem(
                part,
                part.batch(batch),
                neighbors,
                self.requests(),
                self.alpha,
                Sites(
                    part.of_atoms(sites.polarizability),
                    part.of_atoms(sites.volume),
                    self.thole,
                    self.form,
                ),
                near,
                part.of_atoms(charges),
                None if applied is None else part.of_atoms(applied),
                neighbors.fast and neighbors.parameters is None,
            )
            for part, near in plan.parts
        ]
        energies, dipoles = solve(
            problems,
            batch,
            neighbors,
            "dipoles",
            torch.zeros_like(batch.positions),
            training=self.training,
            tolerance=self.dipole_tolerance,
        )
        fields["dipoles"] = dipoles
        return self.prefactor * energies


def _near_of(part: Part, near: Near) -> Near:
    """The pairs of a part's atoms."""
    if part.rank is None:
        return near
    i, j = part.rank[near.i], part.rank[near.j]
    mine = i >= 0
    return Near(i[mine], j[mine], near.missing[mine], near.of_dipoles)
