"""HybridPotential: an ordered sum of energy terms over one batch, differentiated once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError
from hff_ase.fields import check_fields
from hff_ase.kernels import Backend, backend_for, check_choice
from hff_ase.kernels.live import LiveParameters
from hff_ase.neighbors import NeighborList, PairRequest
from hff_ase.terms.term import Fields, Term

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}  # of networks


@dataclass(frozen=True)
class Evaluation:
    """What one pass gives, in ASE's units.

    Attributes:
        energy: float64 [n_systems], eV.
        energies: float64 [n_atoms], atomic energies, eV.
        energy_terms: float64 [n_systems] per term, eV.
        forces: [n_atoms, 3], eV/Angstrom, or None.
        stress: [n_systems, 3, 3], dE/dstrain/V in eV/Angstrom^3 (ASE's sign), or None; zero for
            systems without a cell.
        fields: the per-atom fields that the terms gave.
    """

    energy: Tensor
    energies: Tensor
    energy_terms: dict[str, Tensor]
    forces: Tensor | None = None
    stress: Tensor | None = None
    fields: Fields = field(default_factory=dict)


class HybridPotential(nn.Module):
    """Terms in order, sharing per-atom fields.

    Args:
        terms: name -> term; a term may use fields that an earlier one gives.
        elements: the chemical symbols that the model knows; None where any element will do.

    Raises:
        ConfigError: no terms, a field is needed before it is given, or two terms contain the same
            Coulomb energy.
    """

    known: Tensor

    def __init__(self, terms: Mapping[str, Term], elements: Iterable[str] | None = None) -> None:
        super().__init__()
        check_chain(terms)
        self.terms = nn.ModuleDict(dict(terms))
        self.elements = None if elements is None else tuple(elements)
        self.kernels, self.dtype = "auto", torch.float32
        known = torch.zeros(len(chemical_symbols), dtype=torch.bool)
        if self.elements is None:
            known[1:] = True
        else:
            known[[atomic_numbers[symbol] for symbol in self.elements]] = True
        self.register_buffer("known", known, persistent=False)

    @property
    def cutoff(self) -> float:
        """The largest cutoff of any term, Angstrom."""
        return max(term.cutoff for _, term in self.named_terms())

    def named_terms(self) -> list[tuple[str, Term]]:
        """Names and terms, in the order of evaluation."""
        return [(name, term) for name, term in self.terms.items() if isinstance(term, Term)]

    def set_dtype(self, dtype: torch.dtype) -> HybridPotential:
        """Set the precision of all networks (sums, tables and geometry stay in float64)."""
        for _, term in self.named_terms():
            term.set_dtype(dtype)
        self.dtype = dtype
        return self

    def use_kernels(self, kernels: str) -> HybridPotential:
        """ "auto": fused kernels where they can be used (`hff_ase.kernels`); "reference": never.

        Raises:
            ConfigError: another name.
        """
        check_choice(kernels)
        self.kernels = kernels
        return self

    def backend(self, device: torch.device, create_graph: bool = False) -> Backend | None:
        """The kernels that an evaluation on this device uses; None for the reference."""
        if create_graph or self.kernels == "reference" or self.dtype != torch.float32:
            return None
        return backend_for(device)

    def requests(self) -> tuple[PairRequest, ...]:
        """The pair lists of all terms."""
        return tuple(r for _, term in self.named_terms() for r in term.requests())

    def neighbor_list(self, skin: float = 0.0, sort: bool = False) -> NeighborList:
        """A list that serves every term; with a skin it is reused while nothing moved far.

        ``sort`` evaluates large systems with their atoms along a space-filling curve: faster, the
        same results.
        """
        terms = [term for _, term in self.named_terms()]
        return NeighborList(self.requests(), skin, planners=terms, sort=sort)

    def subset(self, keep: Iterable[str]) -> HybridPotential:
        """The potential of some terms (sharing parameters).

        Terms that feed others must be named as well: their energy is part of the result.

        Raises:
            ConfigError: a name that is no term, or a needed field that nothing gives any more.
        """
        names = set(keep)
        for name in names:
            if name not in self.terms:
                raise ConfigError(f"expected one of the terms {list(self.terms)}, got {name!r}")
        terms = {name: term for name, term in self.named_terms() if name in names}
        part = HybridPotential(terms, self.elements)
        part.kernels, part.dtype = self.kernels, self.dtype
        return part

    def check_elements(self, batch: AtomsBatch) -> None:
        """Refuse a batch that holds an element the model was not made for.

        Raises:
            StructureError: names the element and the atom.
        """
        unknown = ~self.known[batch.numbers]
        if self.elements is not None and bool(unknown.any()):
            atom = int(torch.nonzero(unknown)[0, 0])
            symbol = chemical_symbols[int(batch.numbers[atom])]
            raise StructureError(
                f"model knows {' '.join(self.elements)}; structure holds {symbol} "
                f"(atom {batch.place(atom)})"
            )

    def forward(
        self,
        batch: AtomsBatch,
        neighbors: NeighborList | None = None,
        *,
        forces: bool = True,
        stress: bool = True,
        create_graph: bool = False,
        parameters: LiveParameters | None = None,
    ) -> Evaluation:
        """Evaluate every system of the batch in one pass and one backward pass.

        Args:
            batch: the systems; its tensors are not changed.
            neighbors: a list from `neighbor_list`, updated here; None searches anew.
            forces, stress: which derivatives to compute.
            create_graph: keep the graph of the derivatives (losses on forces and stress).
            parameters: of a training step that runs fused kernels, in any precision.

        Raises:
            ConfigError: derivatives asked for inside torch.inference_mode().
        """
        neighbors = neighbors or self.neighbor_list()
        batch = neighbors.follow(batch)
        differentiate = forces or stress
        if differentiate and torch.is_inference_mode_enabled():
            raise ConfigError("expected torch.no_grad() around forces, got torch.inference_mode()")
        positions = batch.positions.detach().requires_grad_(differentiate)
        cell = batch.cell.detach().requires_grad_(stress and batch.any_periodic)
        moved = batch.moved(positions, cell)
        with torch.set_grad_enabled(differentiate or torch.is_grad_enabled()):
            kernels = self.backend(batch.device, create_graph)
            if parameters is not None:
                kernels = backend_for(batch.device)
            fields, atomic = self.evaluate_terms(moved, neighbors, kernels, parameters)
            energies = torch.stack(list(atomic.values()), dim=1)  # [n_atoms, n_terms]
            energy_terms = batch.system_sum(energies)
            energies, energy = energies.sum(1), energy_terms.sum(1)
        gradient = None
        if differentiate:
            leaves = [leaf for leaf in (positions, cell) if leaf.requires_grad]
            gradient = energy_gradient(energy, leaves, create_graph)
        if not create_graph:
            moved = batch.moved(positions.detach(), cell.detach())
            energies, energy = energies.detach(), energy.detach()
            fields = {name: value.detach() for name, value in fields.items()}
            energy_terms = energy_terms.detach()
        return Evaluation(
            energy=energy,
            energies=batch.as_given(energies),
            energy_terms=dict(zip(atomic, energy_terms.unbind(1), strict=True)),
            forces=batch.as_given(-gradient[0]) if forces and gradient else None,
            stress=stress_of(moved, *gradient) if stress and gradient else None,
            fields={name: batch.as_given(value) for name, value in fields.items()},
        )

    def evaluate_terms(
        self,
        batch: AtomsBatch,
        neighbors: NeighborList,
        kernels: Backend | None = None,
        parameters: LiveParameters | None = None,
    ) -> tuple[Fields, dict[str, Tensor]]:
        """Fields and atomic energies (float64 [n_atoms] per term) in the batch's own graph.

        With ``kernels`` only the sum of all terms over whole systems may be differentiated, and
        only once; in networks' parameters only with ``parameters``.
        """
        neighborhood = neighbors.bind(batch, kernels)
        neighborhood.shared["parameters"] = parameters
        neighborhood.shared["terms"] = [term for _, term in self.named_terms()]  # may share a pass
        fields: Fields = {}
        atomic: dict[str, Tensor] = {}
        for name, term in self.terms.items():
            atomic[name] = term(batch, neighborhood, fields).double()
        return fields, atomic


def check_chain(terms: Mapping[str, Term]) -> None:
    """Refuse terms that cannot be evaluated in this order or that count Coulomb twice."""
    if not terms:
        raise ConfigError("expected at least one energy term, got none")
    given: dict[str, str] = {}
    for name, term in terms.items():
        check_fields((*term.needs, *term.gives), name)
        for needed in term.needs:
            if needed not in given:
                raise ConfigError(
                    f"term {name!r} ({term.kind}) needs the field {needed!r} before any term gives "
                    f"it; the terms before it give {sorted(given) or 'nothing'}"
                )
        source = terms.get(given.get("charges", ""))
        if term.kind == "coulomb" and source is not None and source.owns_coulomb:
            raise ConfigError(
                f"term {name!r} (coulomb) would count the Coulomb energy twice: it is part of "
                f"{given['charges']!r} ({source.kind}), which gives the charges"
            )
        given.update(dict.fromkeys(term.gives, name))


def energy_gradient(energy: Tensor, leaves: list[Tensor], create_graph: bool) -> list[Tensor]:
    """dE/dleaf for each leaf; zero where the energy does not depend on it (one atom alone)."""
    if not energy.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    gradients = torch.autograd.grad(
        [energy], leaves, [torch.ones_like(energy)], create_graph=create_graph, allow_unused=True
    )
    return [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, gradients, strict=True)
    ]


def stress_of(batch: AtomsBatch, d_positions: Tensor, d_cell: Tensor | None = None) -> Tensor:
    """dE/dstrain/V [n_systems, 3, 3] from dE/dpositions and dE/dcell; zero without a cell.

    A strain e takes every row x of positions and cell to x (1 + e), so that
    dE/de_ab = sum_x x_a dE/dx_b; only its symmetric part is kept (the rest is a rotation).
    """
    if d_cell is None:
        return torch.zeros_like(batch.cell)
    virial = batch.cell.mT @ d_cell
    if batch.n_systems == 1:
        virial = virial + batch.positions.mT @ d_positions
    else:
        virial = virial + batch.system_sum(batch.positions[:, :, None] * d_positions[:, None, :])
    stress = 0.5 * (virial + virial.mT) / batch.volume[:, None, None]
    if batch.all_periodic:
        return stress
    return torch.where(batch.periodic[:, None, None], stress, torch.zeros_like(stress))
