"""The potential with its neighbour list, as the loop of the dynamics calls it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Protocol, cast

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.calculators.results import check_finite, check_overlap, refusing_what_is_too_large
from hff_ase.longrange.qeq.history import history_state, restore_history
from hff_ase.neighbors import NeighborList
from hff_ase.potential import Evaluation, HybridPotential

PLACE = ("positions", "numbers", "cell", "periodic")  # as HybridFF.get_state
INNER = "inner_"  # before the names of a second list in a checkpoint


class Forces(Protocol):
    """What the loop needs of a potential."""

    def outdated(self, batch: AtomsBatch) -> Tensor:
        """Whether `evaluate` may be wrong here, bool [], without a look from the host."""

    def evaluate(self, batch: AtomsBatch) -> Evaluation:
        """Energy, forces and stress with what is prepared, unchecked, without a look either."""

    def evaluate_checked(self, batch: AtomsBatch) -> Evaluation:
        """The same bits where not outdated, else with new preparations; refuses bad results."""

    def version(self) -> int:
        """Goes up by one whenever `evaluate_checked` prepares anew."""

    def layout(self) -> Hashable:
        """Changes whenever a recorded `evaluate` must be recorded anew."""


class HeldList:
    """A neighbour list that an evaluation uses as it is."""

    def __init__(self, neighbors: NeighborList) -> None:
        self._neighbors = neighbors
        self.bind = neighbors.bind

    def update(self, batch: AtomsBatch) -> bool:
        """Nothing to do: whoever holds the list looks after it."""
        return False

    def follow(self, batch: AtomsBatch) -> AtomsBatch:
        """The batch with its atoms in the order of the list."""
        reference = self._neighbors.reference
        if reference is None or reference.order is None or batch.order is not None:
            return batch
        return batch.reordered(reference.order)


class PotentialForces:
    """A `HybridPotential` and its Verlet list.

    Args:
        potential: with its device and precision set.
        skin: of the list, Angstrom.
    """

    def __init__(self, potential: HybridPotential, skin: float) -> None:
        self.potential = potential
        self.neighbors = potential.neighbor_list(skin, sort=True)
        self.neighbors.memory = {}  # of one trajectory
        self._held = HeldList(self.neighbors)

    def outdated(self, batch: AtomsBatch) -> Tensor:
        """Whether atoms or cells moved too far since the last search, bool []."""
        return self.neighbors.moved_too_far(self._held.follow(batch))

    def evaluate(self, batch: AtomsBatch) -> Evaluation:
        """One evaluation with the list as it is."""
        return self.potential(batch, cast(NeighborList, self._held))

    def evaluate_checked(self, batch: AtomsBatch) -> Evaluation:
        """One evaluation with a list that fits.

        Raises:
            StructureError: nuclei on top of each other, results that are not finite, or too much
                for the memory.
        """
        before = self.version()
        with refusing_what_is_too_large(batch):
            self.neighbors.follow(batch)
            result = self.evaluate(batch)
        if self.version() != before:
            check_overlap(self.neighbors, batch)
        check_finite(result, batch)
        return result

    def version(self) -> int:
        """How often neighbours were searched."""
        return self.neighbors.n_builds

    def layout(self) -> Hashable:
        """Changes where a search has moved what an evaluation reads to other memory."""
        return self.neighbors.layout

    def get_state(self) -> dict[str, Tensor]:
        """Where neighbours were last searched: the order of sums, and with it the last bits,
        depends on it."""
        reference = self.neighbors.reference
        if reference is None:
            return {}
        names = PLACE if reference.order is None else (*PLACE, "order")
        history = history_state(self.neighbors).items()
        state = {name: getattr(reference, name) for name in names}
        return state | {name: torch.as_tensor(value) for name, value in history}

    def set_state(self, batch: AtomsBatch, state: Mapping[str, Tensor]) -> None:
        """Search where `get_state` found the list; ``batch`` holds the systems."""
        if "order" in state:
            batch = batch.reordered(state["order"])
        self.neighbors.build(batch.moved(state["positions"], state["cell"]))
        arrays = {name: value.cpu().numpy() for name, value in state.items()}
        restore_history(self.neighbors, arrays)


class SplitForces(PotentialForces):
    """A potential and a cheaper one that varies as fast, each with its own list.

    What `Loop` calls is the whole potential; `Respa` evaluates ``inner`` as well.

    Args:
        potential: the whole.
        inner: the cheap one, with the same device.
        skin: of both lists, Angstrom.

    Attributes:
        inner: the forces of the cheap one.
    """

    def __init__(self, potential: HybridPotential, inner: HybridPotential, skin: float) -> None:
        super().__init__(potential, skin)
        self.inner = PotentialForces(inner, skin)

    def version(self) -> int:
        """How often neighbours were searched for either."""
        return super().version() + self.inner.version()

    def layout(self) -> Hashable:
        """Changes with that of either."""
        return super().layout(), self.inner.layout()

    def get_state(self) -> dict[str, Tensor]:
        """Where neighbours were last searched, for both."""
        inner = {INNER + name: value for name, value in self.inner.get_state().items()}
        return super().get_state() | inner

    def set_state(self, batch: AtomsBatch, state: Mapping[str, Tensor]) -> None:
        """Search where `get_state` found the lists."""
        mine = {name: value for name, value in state.items() if not name.startswith(INNER)}
        super().set_state(batch, mine)
        inner = {k.removeprefix(INNER): v for k, v in state.items() if k.startswith(INNER)}
        self.inner.set_state(batch, inner)
