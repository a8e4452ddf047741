"""One search for neighbours that serves several potentials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hff_ase.batch import AtomsBatch
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.calculators.results import (
    check_finite,
    check_overlap,
    refusing_what_is_too_large,
)
from hff_ase.errors import ConfigError
from hff_ase.longrange.qeq.history import history_state, restore_history
from hff_ase.neighbors import NeighborList
from hff_ase.potential import Evaluation, HybridPotential
from hff_ase.terms.term import Term

STATE = ("positions", "numbers", "cell", "periodic")  # of where neighbours were last searched


class SharedList:
    """A neighbour list for the terms of several potentials on one device.

    Cutoffs that two potentials have in common are searched once. What terms keep from step to step
    of a trajectory stays apart: the charges of one potential are no start for another's.

    Args:
        potentials: in the order in which they are evaluated.
        skin: Angstrom.
        remember: keep what terms leave for the next step of a trajectory.
    """

    def __init__(
        self, potentials: Sequence[HybridPotential], skin: float, remember: bool = True
    ) -> None:
        self._potentials, self._skin, self._remember = tuple(potentials), skin, remember
        self.forget()

    def forget(self) -> None:
        """Start anew."""
        terms: list[Term] = [t for p in self._potentials for _, t in p.named_terms()]
        requests = [r for p in self._potentials for r in p.requests()]
        self.neighbors = NeighborList(requests, self._skin, terms, sort=self._remember)
        self._memories: list[dict[str, Any]] = [{} for _ in self._potentials]
        self._checked_build = 0  # the search whose closest pair was looked at

    def evaluate(self, batch: AtomsBatch) -> Iterator[Evaluation]:
        """Every potential's evaluation, in order.

        Raises:
            StructureError: an element that one does not know, atoms on top of each other, no
                finite result, or too little memory.
        """
        for potential, memory in zip(self._potentials, self._memories, strict=True):
            potential.check_elements(batch)
            self.neighbors.memory = memory if self._remember else None
            with refusing_what_is_too_large(batch):
                result = potential(batch, self.neighbors)
            if self.neighbors.n_builds != self._checked_build:
                check_overlap(self.neighbors, batch)
                self._checked_build = self.neighbors.n_builds
            check_finite(result, batch)
            yield result

    def get_state(self) -> dict[str, np.ndarray]:
        """Where neighbours were searched, and what each potential remembers."""
        reference = self.neighbors.reference
        if reference is None:
            return {}
        names = STATE if reference.order is None else (*STATE, "order")
        state = {name: getattr(reference, name).cpu().numpy().copy() for name in names}
        for index, memory in enumerate(self._memories):
            self.neighbors.memory = memory
            kept = history_state(self.neighbors)
            state |= {f"member{index}_{name}": value for name, value in kept.items()}
        return state

    def set_state(self, state: Mapping[str, np.ndarray], device: torch.device) -> None:
        """Search where `get_state` found it; an empty state starts anew.

        Raises:
            ConfigError: not what `get_state` gave.
        """
        self.forget()
        if not state:
            return
        missing = [name for name in STATE if name not in state]
        if missing:
            raise ConfigError(f"expected a state with {', '.join(STATE)}, got none of {missing[0]}")
        names = (*STATE, "order") if "order" in state else STATE
        tensors = {name: torch.tensor(state[name], device=device) for name in names}
        system = torch.zeros_like(tensors["numbers"])
        charge = torch.zeros(1, dtype=torch.float64, device=device)
        self.neighbors.build(AtomsBatch(**tensors, system=system, charge=charge))
        for index, memory in enumerate(self._memories):
            prefix = f"member{index}_"
            mine = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            self.neighbors.memory = memory
            restore_history(self.neighbors, mine)


def can_share(members: Sequence[Any]) -> bool:
    """Whether members can use one list: all HybridFF, on one device."""
    first = members[0]
    return all(isinstance(m, HybridFF) and m.device == first.device for m in members)
