"""The potential with its neighbour list, as the loop of the dynamics calls it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Protocol

import numpy as np
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.evaluator import Evaluator
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential

INNER = "inner_"  # before the names of a second list in a checkpoint


class Forces(Protocol):
    """What the loop needs of a potential; an `Evaluator` has it."""

    def outdated(self, batch: AtomsBatch) -> Tensor:
        """Whether the neighbour list no longer holds for ``batch``, bool [] on its device: nothing
        is copied to the host."""

    def evaluate_prepared(self, batch: AtomsBatch) -> Evaluation:
        """Energy, forces and stress with the current neighbour list; results are not checked, and
        nothing is copied to the host."""

    def evaluate(self, batch: AtomsBatch) -> Evaluation:
        """Energy, forces and stress, with a new neighbour search where the list is outdated; else
        the same bits as `evaluate_prepared`.

        Raises:
            HFFError: an unknown element, overlapping atoms, or a result that is not finite.
        """

    @property
    def version(self) -> int:
        """How many neighbour searches there were."""

    @property
    def layout(self) -> Hashable:
        """Changes whenever a recorded `evaluate_prepared` must be recorded again."""


class SplitForces(Evaluator):
    """A potential and a cheaper one that varies as fast, each with its own list.

    What `StepLoop` calls is the whole potential; `Respa` evaluates ``inner`` as well.

    Args:
        potential: the whole.
        inner: the cheap one, with the same device.
        skin: of both lists, Angstrom.

    Attributes:
        inner: the evaluator of the cheap one.
    """

    def __init__(self, potential: HybridPotential, inner: HybridPotential, skin: float) -> None:
        super().__init__(potential, skin)
        self.inner = Evaluator(inner, skin)

    def forget(self) -> None:
        """Drop both neighbour lists and what solvers remember."""
        super().forget()
        if hasattr(self, "inner"):
            self.inner.forget()

    @property
    def version(self) -> int:
        """How often neighbours were searched for either."""
        return super().version + self.inner.version

    @property
    def layout(self) -> Hashable:
        """That of both evaluators."""
        return super().layout, self.inner.layout

    def get_state(self) -> dict[str, np.ndarray]:
        """Positions and cells of the last neighbour search of both evaluators, by name."""
        inner = {INNER + name: value for name, value in self.inner.get_state().items()}
        return super().get_state() | inner

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Search neighbours where they were searched when `get_state` gave ``state``."""
        mine = {name: value for name, value in state.items() if not name.startswith(INNER)}
        super().set_state(mine)
        inner = {k.removeprefix(INNER): v for k, v in state.items() if k.startswith(INNER)}
        self.inner.set_state(inner)
