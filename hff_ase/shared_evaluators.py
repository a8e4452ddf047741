"""Several potentials over one search for neighbours, as committees and ring polymers have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hff_ase.batch import AtomsBatch
from hff_ase.evaluator import Evaluator
from hff_ase.neighbors import NeighborList
from hff_ase.passes import Evaluation
from hff_ase.place import build_at, check_state, place_of
from hff_ase.potential import HybridPotential

__all__ = ["SharedEvaluators"]

MEMBER = "member{}_"  # before the names of a member's arrays in a checkpoint


class SharedEvaluators:
    """Several potentials on one device that share one search for neighbours.

    Cutoffs that two have in common are searched once. What solvers remember stays apart: the
    charges of one potential are no start for another's.

    Args:
        potentials: in the order in which they are evaluated.
        skin, trajectory: as `Evaluator`.
    """

    def __init__(
        self, potentials: Sequence[HybridPotential], skin: float, trajectory: bool = True
    ) -> None:
        self._potentials, self._skin, self._trajectory = tuple(potentials), skin, trajectory
        self.forget()

    def forget(self) -> None:
        """Start from scratch."""
        terms = [t for p in self._potentials for _, t in p.named_terms()]
        requests = [r for p in self._potentials for r in p.requests()]
        self.neighbors = NeighborList(requests, self._skin, terms, sort=self._trajectory)
        self.members = [
            Evaluator(p, self._skin, trajectory=self._trajectory, neighbors=self.neighbors)
            for p in self._potentials
        ]

    def evaluate(self, batch: AtomsBatch) -> Iterator[Evaluation]:
        """Every potential's evaluation, in order.

        Raises:
            StructureError: as `Evaluator.evaluate`.
        """
        for member in self.members:
            yield member.evaluate(batch)

    def outdated(self, batch: AtomsBatch) -> bool:
        """Whether the next evaluation here searches again."""
        if self.neighbors.reference is None or self._skin == 0:
            return True
        return bool(self.members[0].outdated(batch))

    def get_state(self) -> dict[str, np.ndarray]:
        """Where neighbours were searched, and what each potential's solvers remember."""
        if self.neighbors.reference is None:
            return {}
        state = place_of(self.neighbors)
        for index, member in enumerate(self.members):
            kept = {} if member.memory is None else member.memory.state()
            state |= {MEMBER.format(index) + name: value for name, value in kept.items()}
        return state

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue where `get_state` was taken; an empty state starts from scratch.

        Raises:
            ConfigError: not what `get_state` gave.
        """
        check_state(state)
        self.forget()
        if not state:
            return
        device = self._potentials[0].known.device
        build_at(self.neighbors, state, device)
        for index, member in enumerate(self.members):
            prefix = MEMBER.format(index)
            mine = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if member.memory is not None:
                member.memory.restore(mine, device)
