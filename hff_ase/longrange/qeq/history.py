"""Charges of the last steps of a trajectory, and a prediction of the next ones from them.

The prediction is a cubic through the last four solutions. Errors cannot build up as they do where
one correction follows each prediction (Kolafa, J. Comput. Chem. 25, 335 (2004)): every solution is
converged anew, and the prediction is only where the solver starts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.neighbors import Neighborhood, NeighborList

DEPTH = 4  # solutions kept
PREFIX = "history_"  # of its arrays in a checkpoint
NAMES = ("positions", "cell", "charge", "numbers", "system")
FARTHEST = 0.5  # Angstrom that an atom may move between two steps of one trajectory


def predictor(n: int) -> list[float]:
    """Coefficients of the last n solutions, newest first: a polynomial of degree n - 1 through them
    at the next of equal steps, (-1)^(j+1) C(n, j)."""
    return [(-1.0) ** (j + 1) * math.comb(n, j) for j in range(1, n + 1)]


class ChargeHistory:
    """The last solutions of one trajectory, newest first.

    Whoever owns a trajectory keeps one of these; results without one do not depend on anything
    computed before. Everything is kept in the order in which atoms were given.
    """

    def __init__(self) -> None:
        self._last: dict[str, Tensor] = {}
        self._charges: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._charges)

    def guess(self, batch: AtomsBatch) -> Tensor | None:
        """Charges [n_atoms] of the right total to start from; None where nothing is known.

        At the last step's own configuration they are that step's charges, to the bit.
        """
        if not self._follows(batch):
            self._charges, self._last = [], {}
            return None
        if self._same(batch):
            return _arranged(self._charges[0], batch)
        guess = torch.zeros_like(self._charges[0])
        for coefficient, charges in zip(predictor(len(self._charges)), self._charges, strict=True):
            guess = guess + coefficient * charges
        guess = _arranged(guess, batch)
        missing = (batch.charge - batch.system_sum(guess)) / batch.counts
        return guess + missing[batch.system]

    def add(self, batch: AtomsBatch, charges: Tensor) -> None:
        """Remember a solution; one for the last step's own configuration replaces it."""
        if self._charges and self._same(batch):
            self._charges = self._charges[1:]
        self._charges = [batch.as_given(charges.detach()).clone(), *self._charges][:DEPTH]
        self._last = {name: _given(batch, name).clone() for name in NAMES}

    def _follows(self, batch: AtomsBatch) -> bool:
        """Whether the last step was one of these systems, nearby."""
        last = self._last
        if not last or last["cell"].device != batch.device:
            return False
        for name in ("charge", "numbers", "system"):
            if not torch.equal(last[name], _given(batch, name)):
                return False
        return bool((_given(batch, "positions") - last["positions"]).abs().max() < FARTHEST)

    def _same(self, batch: AtomsBatch) -> bool:
        return all(torch.equal(self._last[n], _given(batch, n)) for n in ("positions", "cell"))

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Arrays that `restore` takes, for a checkpoint; empty where nothing is known."""
        if not self._charges:
            return {}
        arrays = {f"last_{name}": value.cpu().numpy() for name, value in self._last.items()}
        return {"charges": torch.stack(self._charges).cpu().numpy(), **arrays}

    @classmethod
    def restore(
        cls, state: Mapping[str, NDArray[np.float64]], device: torch.device | str = "cpu"
    ) -> ChargeHistory:
        """The history that `state` was taken from.

        Raises:
            ConfigError: arrays are missing.
        """
        history = cls()
        if not state:
            return history
        for name in ("charges", *(f"last_{n}" for n in NAMES)):
            if name not in state:
                raise ConfigError(f"expected a charge history with {name!r}, got {sorted(state)}")
        history._charges = list(torch.tensor(state["charges"], device=device))
        history._last = {n: torch.tensor(state[f"last_{n}"], device=device) for n in NAMES}
        return history


def history_of(neighbors: Neighborhood) -> ChargeHistory | None:
    """The history of the trajectory that a neighbour list serves; None where it keeps none."""
    memory = neighbors.memory
    return None if memory is None else memory.setdefault("charges", ChargeHistory())


def history_state(neighbors: NeighborList) -> dict[str, NDArray[np.float64]]:
    """What a checkpoint of a trajectory must hold of its charges; empty where it keeps none."""
    history = (neighbors.memory or {}).get("charges")
    state = {} if history is None else history.state()
    return {f"{PREFIX}{name}": value for name, value in state.items()}


def restore_history(neighbors: NeighborList, state: Mapping[str, NDArray[np.float64]]) -> None:
    """Put back what `history_state` gave, among other arrays of a checkpoint."""
    found = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    if found and neighbors.memory is not None and neighbors.reference is not None:
        device = neighbors.reference.device
        neighbors.memory["charges"] = ChargeHistory.restore(found, device)


def _given(batch: AtomsBatch, name: str) -> Tensor:
    """A tensor of the batch, by atoms as they were given."""
    value: Tensor = getattr(batch, name).detach()
    return value if name in ("cell", "charge") else batch.as_given(value)


def _arranged(values: Tensor, batch: AtomsBatch) -> Tensor:
    """From the order as given to the order of the batch."""
    return values if batch.order is None else values.index_select(0, batch.order)
