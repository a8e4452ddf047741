"""Evaluator: the one owner of a potential, its pairs, its memory, its checks and its state.

Whatever asks for energies (the ASE calculator, the engine of the dynamics, i-PI, TorchSim, LAMMPS)
is an adapter over this: a request goes in, results come out.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.checks import check_finite, check_overlap, refusing_what_is_too_large
from hff_ase.errors import ConfigError
from hff_ase.given_pairs import GivenPairs
from hff_ase.halo import Halo
from hff_ase.memory import Memory
from hff_ase.neighbors import NeighborList
from hff_ase.pair_source import PairSource
from hff_ase.pairs import PairIndex
from hff_ase.parameter_gradients import parameter_gradients
from hff_ase.passes import Evaluation, Wanted
from hff_ase.place import build_at, check_state, place_of
from hff_ase.potential import HybridPotential
from hff_ase.precision import on_usual_device

__all__ = ["Evaluator"]

DERIVATIVES = ("positions", "cell", "molecules", "parameters")
USUAL = frozenset({"positions", "cell"})


class Evaluator:
    """A potential with the state that it needs from call to call.

    Args:
        potential: with its device and precision set.
        skin: how far atoms may move, together, before neighbours are searched again, Angstrom.
        trajectory: whether calls are steps of one trajectory: atoms of large systems are then
            arranged along a space-filling curve, and solvers start from their last solutions.
        neighbors: a list that others use as well; None makes one.
        own_memory_errors: turn the device's errors about memory into one of ours.

    Attributes:
        neighbors: the list; a new one after `forget`.
    """

    def __init__(
        self,
        potential: HybridPotential,
        skin: float = 0.0,
        *,
        trajectory: bool = True,
        neighbors: NeighborList | None = None,
        own_memory_errors: bool = True,
    ) -> None:
        self.potential, self.skin = potential, skin
        self._trajectory, self._shared = trajectory, neighbors
        self._own_memory_errors = own_memory_errors
        self.forget()

    def forget(self) -> None:
        """Start from scratch: no memory, and no neighbours but those of a shared list."""
        self.neighbors = self._shared or self.potential.neighbor_list(
            self.skin, sort=self._trajectory
        )
        self.memory = Memory() if self._trajectory else None
        self._checked_build = 0  # the search whose closest pair was looked at

    @on_usual_device
    def evaluate(
        self,
        batch: AtomsBatch,
        *,
        pairs: PairIndex | PairSource | None = None,
        reach: float | None = None,
        owned: Tensor | None = None,
        halo: Halo | None = None,
        parts: Collection[str] | None = None,
        derivatives: Collection[str] = USUAL,
        parameters: Sequence[str] = (),
    ) -> Evaluation:
        """Energies and the requested derivatives, with valid pairs, checked.

        Whoever continues with other structures after an error calls `forget` first: half of a
        neighbour list must not serve them.

        Args:
            batch: the systems; its tensors are not changed.
            pairs: of the batch, found by a host (each once or in both directions), or a source of
                them that is kept while they fit; None searches.
            reach: Angstrom, up to which pairs of a host are complete.
            owned: bool [n_atoms], whose energies count, the others being ghosts: forces are then
                the derivative of the owned energies, also on ghosts, where a host adds them to
                their owners'. Without a halo ghosts must be there up to `HybridPotential.reach`.
            halo: to the processes that own the ghosts (own atoms come first, one system).
            parts: names among `HybridPotential.parts` whose energies count; None for all.
            derivatives: among "positions" (forces), "cell" (stress), "molecules" (stress by moving
                molecules as rigid bodies; needs `AtomsBatch.molecule`) and "parameters".
            parameters: patterns of names (`hff_ase.parameters`) for "parameters".

        Raises:
            StructureError: an element that the potential does not know, nuclei on top of each
                other, no finite result, or too little memory.
            ConfigError: a request that makes no sense.
        """
        wanted = self._wanted(derivatives, parts, owned, halo, pairs)
        if halo is not None and batch.n_systems != 1:
            raise ConfigError(f"expected one system with a halo, got {batch.n_systems}")
        self.potential.check_elements(batch)
        source = self.neighbors if pairs is None else self._given(batch, pairs, reach)
        guard = refusing_what_is_too_large(batch) if self._own_memory_errors else nullcontext()
        with guard:
            arranged = source.follow(batch)
            if wanted.owned is not None and arranged.order is not None:
                wanted = replace(wanted, owned=wanted.owned[arranged.order])
            result = self.potential.compute(arranged, source, wanted)
        if pairs is not None:
            check_overlap(source, batch)
        elif source.n_builds != self._checked_build:
            check_overlap(source, batch)
            self._checked_build = source.n_builds
        check_finite(result, batch)
        if "parameters" in derivatives:
            asked = (arranged, source, wanted, parameters, result)
            found = parameter_gradients(self.potential, *asked)
            result = replace(result, parameter_gradients=found)
        return result

    @on_usual_device
    def evaluate_prepared(self, batch: AtomsBatch) -> Evaluation:
        """Energy, forces and stress with the current pairs; no synchronisation with the host."""
        wanted = Wanted(memory=self.memory)
        return self.potential.compute(self.neighbors.arranged(batch), self.neighbors, wanted)

    def outdated(self, batch: AtomsBatch) -> Tensor:
        """Whether `evaluate_prepared` may be wrong here, bool []; no synchronisation."""
        return self.neighbors.moved_too_far(self.neighbors.arranged(batch))

    @property
    def version(self) -> int:
        """How often neighbours were searched."""
        return self.neighbors.n_builds

    @property
    def layout(self) -> Hashable:
        """Changes when a search has moved the data that an evaluation reads to other memory."""
        return self.neighbors.layout

    def get_state(self) -> dict[str, np.ndarray]:
        """What a restart needs to continue bit for bit: where neighbours were searched (the order
        of sums, and with it the last bits, depends on it) and what solvers remember."""
        if self.neighbors.reference is None:
            return {}
        return place_of(self.neighbors) | (self.memory.state() if self.memory else {})

    @on_usual_device
    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue where `get_state` was taken; an empty state starts from scratch.

        Raises:
            ConfigError: not what `get_state` gave.
        """
        check_state(state)
        self.forget()
        if state:
            device = self.potential.known.device
            build_at(self.neighbors, state, device)
            if self.memory is not None:
                self.memory.restore(state, device)

    def _wanted(
        self,
        derivatives: Collection[str],
        parts: Collection[str] | None,
        owned: Tensor | None,
        halo: Halo | None,
        pairs: PairIndex | PairSource | None,
    ) -> Wanted:
        unknown = [name for name in derivatives if name not in DERIVATIVES]
        if unknown:
            raise ConfigError(f"expected derivatives among {DERIVATIVES}, got {unknown[0]!r}")
        if "parameters" in derivatives and owned is not None:
            raise ConfigError("expected gradients of parameters for whole systems, got owned atoms")
        if halo is not None and (owned is None or pairs is None):
            raise ConfigError("expected owned atoms and pairs of the host beside a halo, got none")
        return Wanted(
            forces="positions" in derivatives,
            stress="cell" in derivatives,
            molecular_stress="molecules" in derivatives,
            parts=None if parts is None else frozenset(parts),
            owned=owned,
            halo=halo,
            memory=self.memory,
        )

    def _given(
        self, batch: AtomsBatch, pairs: PairIndex | PairSource, reach: float | None
    ) -> PairSource:
        if isinstance(pairs, PairSource):
            return pairs
        if reach is None:
            raise ConfigError("expected the reach of given pairs in Angstrom, got none")
        terms = [term for _, term in self.potential.named_terms()]
        source = GivenPairs(self.potential.requests(), pairs, reach, terms)
        source.build(batch)
        return source
