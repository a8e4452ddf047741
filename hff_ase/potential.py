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
from hff_ase.neighbors import NeighborList, PairRequest
from hff_ase.terms.term import Fields, Term


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
        return self

    def requests(self) -> tuple[PairRequest, ...]:
        """The pair lists of all terms."""
        return tuple(r for _, term in self.named_terms() for r in term.requests())

    def neighbor_list(self, skin: float = 0.0) -> NeighborList:
        """A list that serves every term; with a skin it is reused while nothing moved far."""
        return NeighborList(
            self.requests(), skin, planners=[term for _, term in self.named_terms()]
        )

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
        return HybridPotential(terms, self.elements)

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
    ) -> Evaluation:
        """Evaluate every system of the batch in one pass and one backward pass.

        Args:
            batch: the systems; its tensors are not changed.
            neighbors: a list from `neighbor_list`, updated here; None searches anew.
            forces, stress: which derivatives to compute.
            create_graph: keep the graph of the derivatives (losses on forces and stress).

        Raises:
            ConfigError: derivatives asked for inside torch.inference_mode().
        """
        neighbors = neighbors or self.neighbor_list()
        neighbors.update(batch)
        positions = batch.positions.detach().requires_grad_(forces)
        strain = torch.zeros_like(batch.cell).requires_grad_(stress)
        differentiate = forces or stress
        if differentiate and torch.is_inference_mode_enabled():
            raise ConfigError("expected torch.no_grad() around forces, got torch.inference_mode()")
        with torch.set_grad_enabled(differentiate or torch.is_grad_enabled()):
            strained = strain_batch(batch, positions, strain) if stress else batch.moved(positions)
            fields, atomic = self.evaluate_terms(strained, neighbors)
            energies = torch.stack(list(atomic.values())).sum(0)
            energy = batch.system_sum(energies)
        derivatives: dict[str, Tensor] = {}
        if differentiate:
            inputs = {"forces": positions, "stress": strain}
            inputs = {name: leaf for name, leaf in inputs.items() if leaf.requires_grad}
            derivatives = energy_gradient(energy, inputs, create_graph)
        if not create_graph:
            energies, energy = energies.detach(), energy.detach()
            fields = {name: value.detach() for name, value in fields.items()}
            atomic = {name: value.detach() for name, value in atomic.items()}
        return Evaluation(
            energy=energy,
            energies=energies,
            energy_terms={name: batch.system_sum(value) for name, value in atomic.items()},
            forces=-derivatives["forces"] if forces else None,
            stress=_stress(batch, derivatives["stress"]) if stress else None,
            fields=fields,
        )

    def evaluate_terms(
        self, batch: AtomsBatch, neighbors: NeighborList
    ) -> tuple[Fields, dict[str, Tensor]]:
        """Fields and atomic energies (float64 [n_atoms] per term) in the batch's own graph."""
        neighborhood = neighbors.bind(batch)
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


def strain_batch(batch: AtomsBatch, positions: Tensor, strain: Tensor) -> AtomsBatch:
    """Positions and cell under a symmetric strain [n_systems, 3, 3]: x -> x (1 + strain)."""
    deformation = torch.eye(3).to(strain) + 0.5 * (strain + strain.mT)
    strained = torch.einsum("na,nab->nb", positions, deformation[batch.system])
    # The placeholder cell of a system that is not periodic must stay as it is.
    cell = torch.where(batch.periodic[:, None, None], batch.cell @ deformation, batch.cell)
    return batch.moved(strained, cell)


def energy_gradient(
    energy: Tensor, inputs: dict[str, Tensor], create_graph: bool
) -> dict[str, Tensor]:
    """dE/dinput for each input; zero where the energy does not depend on it (one atom alone)."""
    if not energy.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in inputs.items()}
    gradients = torch.autograd.grad(
        [energy],
        list(inputs.values()),
        [torch.ones_like(energy)],
        create_graph=create_graph,
        allow_unused=True,
    )
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(inputs.items(), gradients, strict=True)
    }


def _stress(batch: AtomsBatch, gradient: Tensor) -> Tensor:
    stress = gradient / batch.volume[:, None, None]
    return torch.where(batch.periodic[:, None, None], stress, torch.zeros_like(stress))
