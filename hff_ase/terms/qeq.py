"""Charge equilibration: charges that minimise an energy which contains their Coulomb energy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from hff_ase.batch import AtomsBatch
from hff_ase.declared import Declared
from hff_ase.errors import ConfigError, StructureError
from hff_ase.longrange.ewald import ReciprocalEwald, splitting_parameter
from hff_ase.longrange.parts import (
    CROSSOVER,
    Part,
    check_solver,
    choose_dense,
    make_parts,
    refuse_dense,
)
from hff_ase.longrange.pme import ReciprocalPME
from hff_ase.longrange.qeq.preconditioner import RADIUS
from hff_ase.longrange.qeq.solve import ChargeProblem
from hff_ase.longrange.solving import solve
from hff_ase.neighborhood import Neighborhood
from hff_ase.nets.mlp import mlp
from hff_ase.pairs import PairRequest
from hff_ase.terms.species import SpeciesIndex
from hff_ase.terms.term import Fields, Term
from hff_ase.units import COULOMB_CONSTANT


class QEq(Term):
    r"""Charges of Gaussian width s_i that minimise

    .. math:: E = \sum_i \bigl[\chi_i q_i + \tfrac12 \eta_i q_i^2\bigr]
        + k_e \sum_{i<j} q_i q_j \frac{\mathrm{erf}(r_{ij}/\sqrt{2(s_i^2+s_j^2)})}{r_{ij}}
        + k_e \sum_i \frac{q_i^2}{2\sqrt\pi s_i}

    under sum q = Q in each system, over all images in a periodic box (with a neutralising
    background if it is charged).

    In eval mode the energy is differentiated at fixed charges, exact since they minimise it; the
    charges given to later terms carry their response. Small systems are solved by factorising a
    dense matrix, large ones by conjugate gradients with a mesh (`hff_ase.longrange.qeq.cg`), in
    memory that grows as n_atoms. A neighbour list that keeps a memory of its trajectory gives the
    solver a start; what it converges to is the same within ``charge_tolerance``.

    Second derivatives (losses on forces) need training mode, where the solution itself is part of
    the graph: always dense.

    The trainable tables stay in range: eta = exp(log_hardness), and s = s_max sigmoid(width_logit)
    with s_max = 1/(2 alpha), the widest Gaussian whose difference to a point charge has decayed to
    ``tolerance`` at ``cutoff``.

    Args:
        electronegativity: chi in eV per chemical symbol.
        hardness: eta in eV per chemical symbol, positive.
        width: s in Angstrom per chemical symbol, positive and less than s_max.
        cutoff: of the real-space part of the lattice sum, Angstrom.
        tolerance: relative accuracy of the lattice sum.
        prefactor: k_e, eV Angstrom/e^2.
        max_atoms: largest system accepted by the dense solver.
        solver: "dense", "iterative", or "auto" by the size of each system.
        charge_tolerance: estimated error of any charge at which iterations end, e.

    Raises:
        ConfigError: tables for different elements, or a value out of range.
    """

    kind = "qeq"
    gives = ("charges",)
    owns_coulomb = True

    known: Tensor

    def __init__(
        self,
        electronegativity: Mapping[str, float],
        hardness: Mapping[str, float],
        width: Mapping[str, float],
        cutoff: float = 10.0,
        tolerance: float = 1e-6,
        prefactor: float = COULOMB_CONSTANT,
        max_atoms: int = 4000,
        solver: str = "auto",
        charge_tolerance: float = 1e-6,
    ) -> None:
        super().__init__()
        check_solver("QEq", solver, charge_tolerance, "charge_tolerance", "e")
        if not 1e-14 <= tolerance <= 1e-2:
            raise ConfigError(f"expected a QEq tolerance of 1e-14 to 1e-2, got {tolerance}")
        if not 1.0 <= cutoff < math.inf:
            raise ConfigError(f"expected a QEq cutoff of at least 1 A, got {cutoff}")
        self.alpha = splitting_parameter(cutoff, tolerance)
        self.widest = 0.5 / self.alpha
        _check_tables(electronegativity, hardness, width, self.widest)
        elements = tuple(electronegativity)
        self.species = SpeciesIndex(elements)
        self._tables: dict[str, dict[str, float]] = {
            "electronegativity": {s: float(electronegativity[s]) for s in elements},
            "hardness": {s: float(hardness[s]) for s in elements},
            "width": {s: float(width[s]) for s in elements},
        }
        chi, eta, s = (
            torch.tensor(list(table.values()), dtype=torch.float64)
            for table in self._tables.values()
        )
        self.electronegativity = nn.Parameter(chi)
        self.log_hardness = nn.Parameter(torch.log(eta))
        self.width_logit = nn.Parameter(torch.logit(s / self.widest))
        self.real_cutoff, self.tolerance = float(cutoff), tolerance
        self.prefactor, self.max_atoms = prefactor, max_atoms
        self.solver, self.charge_tolerance = solver, charge_tolerance
        self.reciprocal = ReciprocalEwald(self.alpha, tolerance)
        self.mesh: ReciprocalPME | ReciprocalEwald = ReciprocalPME(self.alpha, tolerance)
        known = torch.zeros(len(chemical_symbols), dtype=torch.bool)
        known[[chemical_symbols.index(symbol) for symbol in elements]] = True
        self.register_buffer("known", known, persistent=False)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **{name: dict(table) for name, table in self._tables.items()},
            "cutoff": self.real_cutoff,
            "tolerance": self.tolerance,
            "prefactor": self.prefactor,
            "max_atoms": self.max_atoms,
            "solver": self.solver,
            "charge_tolerance": self.charge_tolerance,
        }

    def declared(self) -> dict[str, Declared]:
        """The tables of elements."""
        return {
            "electronegativity": Declared("eV/e", "none", 0.3, "chi"),
            "log_hardness": Declared("1", "none", 0.1, "ln of eta in eV/e^2"),
            "width_logit": Declared("1", "none", 0.2, "logit of the width over the widest"),
        }

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
        """All charges are solved for together."""
        return "its charges are solved for the whole system at once"

    def prepare(self, batch: AtomsBatch) -> tuple[bool, list[Part]]:
        """The parts of the batch for the present mode; refuses unknown elements.

        Raises:
            StructureError: names the element and the atom, or the size and the memory.
        """
        unknown = ~self.known[batch.numbers]
        if bool(unknown.any()):
            atom = int(torch.nonzero(unknown)[0, 0])
            raise StructureError(
                f"expected elements with QEq parameters ({' '.join(self.species.elements)}), got "
                f"{chemical_symbols[int(batch.numbers[atom])]} "
                f"(atom {batch.place(atom)})"
            )
        size = min(CROSSOVER, self.max_atoms)
        dense = choose_dense(batch, self.solver, self.training, size)
        if self.training or self.solver == "dense":
            refuse_dense(batch, self.max_atoms, "QEq")
        return self.training, make_parts(batch, dense, self.reciprocal, self.mesh)

    def atom_parameters(self, batch: AtomsBatch, fields: Fields) -> tuple[Tensor, Tensor]:
        """chi and eta of each atom, float64 [n_atoms], eV."""
        chi = self.electronegativity.double()[self.species(batch.numbers)]
        return chi, self.hardness(batch)

    def hardness(self, batch: AtomsBatch) -> Tensor:
        """eta of each atom's element, float64 [n_atoms], eV."""
        return torch.exp(self.log_hardness.double()[self.species(batch.numbers)])

    def atom_widths(self, batch: AtomsBatch) -> Tensor:
        """Gaussian widths, float64 [n_atoms], Angstrom."""
        row = self.species(batch.numbers)
        return self.widest * torch.sigmoid(self.width_logit.double()[row])

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        """Atomic energies [n_atoms], eV; gives `charges` [n_atoms]."""
        chi, eta = self.atom_parameters(batch, fields)
        inputs = (chi, eta, self.atom_widths(batch), self.hardness(batch))
        training, parts = neighbors.plan(self)
        if training != self.training:  # the mode was changed since neighbours were searched
            _, parts = self.prepare(batch.moved(batch.positions.detach(), batch.cell.detach()))
        problems = [
            ChargeProblem(
                part,
                part.batch(batch),
                neighbors,
                self.requests(),
                self.alpha,
                self.prefactor,
                *(part.of_atoms(values) for values in inputs),
            )
            for part in parts
        ]
        energies, charges = solve(
            problems,
            batch,
            neighbors,
            "charges",
            torch.zeros_like(chi),
            training=self.training,
            tolerance=self.charge_tolerance,
            total=batch.charge,
        )
        fields["charges"] = charges
        return energies


class FeatureQEq(QEq):
    """`QEq` whose electronegativity and hardness also depend on each atom's surroundings.

    chi_i = chi(Z_i) + a(x_i), eta_i = eta(Z_i) exp(b(x_i)), with a, b a small network of the node
    features x that starts as zero.

    Args:
        channels: width of the node features.
        hidden: widths of the head's hidden layers.
        tables: the arguments of `QEq`.
    """

    kind = "feature_qeq"
    needs = ("node_features",)

    def __init__(self, channels: int = 64, hidden: Sequence[int] = (32,), **tables: Any) -> None:
        super().__init__(**tables)
        self.channels, self.hidden = channels, tuple(hidden)
        self.head = mlp(channels, *hidden, 2)
        for parameter in self.head[-1].parameters():
            nn.init.zeros_(parameter)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().config(), "channels": self.channels, "hidden": list(self.hidden)}

    def set_dtype(self, dtype: torch.dtype) -> None:
        """Set the precision of the head."""
        self.head.to(dtype)

    def atom_parameters(self, batch: AtomsBatch, fields: Fields) -> tuple[Tensor, Tensor]:
        """chi and eta of each atom, float64 [n_atoms], eV."""
        chi, eta = super().atom_parameters(batch, fields)
        shift = self.head(fields["node_features"]).double()
        return chi + shift[:, 0], eta * torch.exp(shift[:, 1])


def _check_tables(
    electronegativity: Mapping[str, float],
    hardness: Mapping[str, float],
    width: Mapping[str, float],
    widest: float,
) -> None:
    if not set(electronegativity) == set(hardness) == set(width):
        raise ConfigError(
            "expected electronegativity, hardness and width for the same elements, got "
            f"{sorted(electronegativity)}, {sorted(hardness)} and {sorted(width)}"
        )
    for symbol in electronegativity:
        if not math.isfinite(electronegativity[symbol]):
            raise ConfigError(
                f"expected a finite electronegativity, got {electronegativity[symbol]} for {symbol}"
            )
        if not 0 < hardness[symbol] < math.inf:
            raise ConfigError(
                f"expected a positive hardness in eV, got {hardness[symbol]} for {symbol}"
            )
        if not 0 < width[symbol] < widest:
            raise ConfigError(
                f"expected a width between 0 and {widest:.3f} A (a larger cutoff or tolerance "
                f"allows more), got {width[symbol]} for {symbol}"
            )
