"""HybridPotential: an ordered sum of energy terms over one batch, differentiated once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from hff_ase.backends import Backend, backend_for, check_choice
from hff_ase.batch import AtomsBatch
from hff_ase.chain import check_chain, choose, parts_of, refuse_whole_system_terms
from hff_ase.derivatives import energy_gradient, molecular_stress_of, stress_of
from hff_ase.errors import ConfigError, StructureError
from hff_ase.neighbors import NeighborList
from hff_ase.pair_source import PairSource
from hff_ase.pairs import PairRequest
from hff_ase.passes import Evaluation, Wanted
from hff_ase.precision import full_precision
from hff_ase.terms.term import Fields, Term

__all__ = ["HybridPotential"]

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}  # of networks


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
        self.scales: dict[str, float] = {}  # factors of terms' energies, where they are not 1
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

    @property
    def reach(self) -> float:
        """How far away atoms have a part in an atom's energy, Angstrom."""
        return max(term.reach for _, term in self.named_terms())

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
        """The kernels that an evaluation on this device uses; None for the reference, which a graph
        for further derivatives (``create_graph``) always takes."""
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

    def with_terms(
        self,
        terms: Mapping[str, Term],
        *,
        elements: Iterable[str] | None = None,
        dtype: torch.dtype | None = None,
    ) -> HybridPotential:
        """A potential of other terms, on this one's device, with its kernels, scales and mode.

        Args:
            terms: all of them, in order; used as they are, so that parameters are shared.
            elements: that it knows; None for those of this potential.
            dtype: precision of the networks; None for this potential's.

        Raises:
            ConfigError: as the constructor.
        """
        new = HybridPotential(terms, self.elements if elements is None else elements)
        new.kernels = self.kernels
        new.scales = {name: scale for name, scale in self.scales.items() if name in new.terms}
        new.set_dtype(self.dtype if dtype is None else dtype).to(self.known.device)
        for name in new.terms.keys() - self.terms.keys():
            new.terms[name].train(self.training)
        new.training = self.training
        return new

    def subset(self, keep: Iterable[str]) -> HybridPotential:
        """The potential of some terms (sharing parameters).

        Terms that feed others must be named as well: their energy is part of the result.

        Raises:
            ConfigError: a name that is not a term, or a needed field that nothing gives any more.
        """
        names = set(keep)
        for name in names:
            if name not in self.terms:
                raise ConfigError(f"expected one of the terms {list(self.terms)}, got {name!r}")
        return self.with_terms({name: t for name, t in self.named_terms() if name in names})

    def parts(self) -> list[str]:
        """What can be asked for apart: terms, and parts of those that have some."""
        return parts_of(dict(self.named_terms()))

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
        self, batch: AtomsBatch, neighbors: PairSource | None = None, **wanted: Any
    ) -> Evaluation:
        """Evaluate every system of the batch in one pass and one backward pass.

        Args:
            batch: the systems; its tensors are not changed.
            neighbors: a list from `neighbor_list`, updated here; None searches again.
            **wanted: fields of `Wanted`.

        Raises:
            ConfigError: derivatives asked for inside torch.inference_mode().
        """
        neighbors = neighbors or self.neighbor_list()
        return self.compute(neighbors.follow(batch), neighbors, Wanted(**wanted))

    def compute(self, batch: AtomsBatch, neighbors: PairSource, wanted: Wanted) -> Evaluation:
        """Evaluate with a list of neighbours without updating it.

        Args:
            batch: its atoms in the order of the list.
            neighbors: complete up to `cutoff` at these positions; nothing is searched here.
            wanted: what to compute.
        """
        with full_precision(batch.device):
            return self._compute(batch, neighbors, wanted)

    def _compute(self, batch: AtomsBatch, neighbors: PairSource, wanted: Wanted) -> Evaluation:
        strained = wanted.stress or wanted.molecular_stress
        differentiate = wanted.forces or strained
        if differentiate and torch.is_inference_mode_enabled():
            raise ConfigError("expected torch.no_grad() around forces, got torch.inference_mode()")
        positions = batch.positions.detach().requires_grad_(differentiate)
        cell = batch.cell.detach().requires_grad_(strained and batch.any_periodic)
        with torch.set_grad_enabled(differentiate or torch.is_grad_enabled()):
            fields, atomic = self.evaluate_terms(batch.moved(positions, cell), neighbors, wanted)
            energies = torch.stack(list(atomic.values()), dim=1)  # [n_atoms, n_terms]
            if wanted.owned is not None:
                energies = energies * wanted.owned[:, None]
            energy_terms = batch.system_sum(energies)
            energies, energy = energies.sum(1), energy_terms.sum(1)
        gradient: list[Tensor] = []
        if differentiate:
            leaves = [leaf for leaf in (positions, cell) if leaf.requires_grad]
            gradient = energy_gradient(energy, leaves, wanted.create_graph)
        if not wanted.create_graph:
            energies, energy = energies.detach(), energy.detach()
            fields = {name: value.detach() for name, value in fields.items()}
            energy_terms = energy_terms.detach()
            positions, cell = positions.detach(), cell.detach()
        stress = stress_of(batch.moved(positions, cell), *gradient) if strained else None
        by_molecules = None
        if wanted.molecular_stress and stress is not None:
            by_molecules = molecular_stress_of(batch, stress, gradient[0])
        return Evaluation(
            energy=energy,
            energies=batch.as_given(energies),
            energy_terms=dict(zip(atomic, energy_terms.unbind(1), strict=True)),
            forces=batch.as_given(-gradient[0]) if wanted.forces else None,
            stress=stress if wanted.stress else None,
            molecular_stress=by_molecules,
            fields={name: batch.as_given(value) for name, value in fields.items()},
        )

    def evaluate_terms(
        self, batch: AtomsBatch, neighbors: PairSource, wanted: Wanted | None = None
    ) -> tuple[Fields, dict[str, Tensor]]:
        """Fields and atomic energies (float64 [n_atoms], eV, per term that counts) in the batch's
        own graph.

        Args:
            batch: its atoms in the order of the list.
            neighbors: as for `compute`.
            wanted: parts, kernels and the rest; None for all terms in an open graph.

        With kernels only the sum of all terms over whole systems may be differentiated, and only
        once; in networks' parameters only with ``wanted.parameters``. By default the reference
        operations are run, which any graph may follow.
        """
        wanted = wanted or Wanted(create_graph=True)
        kernels = self.backend(batch.device, wanted.create_graph)
        if wanted.parameters is not None:
            kernels = backend_for(batch.device)
        counts, left_out = choose(dict(self.named_terms()), wanted.parts)
        chosen = {name: term for name, term in self.named_terms() if name in counts}
        neighborhood = neighbors.bind(
            batch,
            kernels=kernels,
            parameters=wanted.parameters,
            # a pass that two terms share has one factor for both
            terms=() if self.scales else tuple(chosen.values()),
            memory=wanted.memory,
            owned=wanted.owned,
            halo=wanted.halo,
            left_out=left_out,
        )
        if wanted.owned is not None:
            refuse_whole_system_terms(chosen, neighborhood)
        fields: Fields = {}
        atomic: dict[str, Tensor] = {}
        for name, term in chosen.items():
            energies = term(batch, neighborhood, fields).double()
            if counts[name]:
                atomic[name] = energies * self.scales[name] if name in self.scales else energies
        return fields, atomic
