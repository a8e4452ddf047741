"""The potential with its neighbour list, as the loop of the dynamics calls it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Protocol

import numpy as np
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.evaluator import Evaluator
from hff_ase.potential import Evaluation, HybridPotential

INNER = "inner_"  # before the names of a second list in a checkpoint


class Forces(Protocol):
    """What the loop needs of a potential; an `Evaluator` has it."""

    def outdated(self, batch: AtomsBatch) -> Tensor:
        """Whether `evaluate_prepared` may be wrong here, bool [], without a look from the host."""

    def evaluate_prepared(self, batch: AtomsBatch) -> Evaluation:
        """Energy, forces and stress with what is prepared, unchecked, without a look either."""

    def evaluate(self, batch: AtomsBatch) -> Evaluation:
        """The same bits where not outdated, else with new preparations; refuses bad results."""

    @property
    def version(self) -> int:
        """Goes up by one whenever `evaluate` prepares anew."""

    @property
    def layout(self) -> Hashable:
        """Changes whenever a recorded `evaluate_prepared` must be recorded anew."""


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
        """Start anew, both."""
        super().forget()
        if hasattr(self, "inner"):
            self.inner.forget()

    @property
    def version(self) -> int:
        """How often neighbours were searched for either."""
        return super().version + self.inner.version

    @property
    def layout(self) -> Hashable:
        """Changes with that of either."""
        return super().layout, self.inner.layout

    def get_state(self) -> dict[str, np.ndarray]:
        """Where neighbours were last searched, for both."""
        inner = {INNER + name: value for name, value in self.inner.get_state().items()}
        return super().get_state() | inner

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Search where `get_state` found the lists."""
        mine = {name: value for name, value in state.items() if not name.startswith(INNER)}
        super().set_state(mine)
        inner = {k.removeprefix(INNER): v for k, v in state.items() if k.startswith(INNER)}
        self.inner.set_state(inner)
