"""What solvers keep from step to step of a trajectory: their last solutions, and a prediction of
the next one from them.

The prediction is a cubic through the last four solutions. Errors cannot build up as they do where
one correction follows each prediction (Kolafa, J. Comput. Chem. 25, 335 (2004)): every solution is
converged again, and the prediction is only where the solver starts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hff_ase.arrays import ARRAYS
from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError

DEPTH = 4  # solutions kept
PREFIX = "memory."  # of a memory's arrays in a checkpoint
NAMES = ("positions", "cell", "charge", "numbers", "system")
LONGEST_STEP = 0.5  # Angstrom that an atom may move between two steps of one trajectory


def predictor(n: int) -> list[float]:
    """Coefficients of the last n solutions, newest first: a polynomial of degree n - 1 through them
    at the next of equal steps, (-1)^(j+1) C(n, j)."""
    return [(-1.0) ** (j + 1) * math.comb(n, j) for j in range(1, n + 1)]


class History:
    """The last solutions [n_atoms, ...] of one solver along one trajectory, newest first.

    Everything is kept in the order in which atoms were given.
    """

    def __init__(self) -> None:
        self._last: dict[str, Tensor] = {}
        self._solutions: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._solutions)

    def guess(self, batch: AtomsBatch, total: Tensor | None = None) -> Tensor | None:
        """A solution [n_atoms, ...] to start from; None where nothing is known.

        At the last step's own configuration it is that step's solution, to the bit.

        Args:
            batch: where it is wanted.
            total: [n_systems], what a prediction is to sum to in each system.
        """
        if not self._follows(batch):
            self._solutions, self._last = [], {}
            return None
        if self._same(batch):
            return _arranged(self._solutions[0], batch)
        guess = torch.zeros_like(self._solutions[0])
        weights = predictor(len(self._solutions))
        for coefficient, solution in zip(weights, self._solutions, strict=True):
            guess = guess + coefficient * solution
        guess = _arranged(guess, batch)
        if total is None:
            return guess
        missing = (total - batch.system_sum(guess)) / batch.counts
        return guess + missing[batch.system]

    def add(self, batch: AtomsBatch, solution: Tensor) -> None:
        """Remember a solution; one for the last step's own configuration replaces it."""
        if self._solutions and self._same(batch):
            self._solutions = self._solutions[1:]
        given = batch.as_given(solution.detach()).clone()
        self._solutions = [given, *self._solutions][:DEPTH]
        self._last = {name: _given(batch, name).clone() for name in NAMES}

    def _follows(self, batch: AtomsBatch) -> bool:
        """Whether the last step was one of these systems, nearby."""
        last = self._last
        if not last or last["cell"].device != batch.device:
            return False
        for name in ("charge", "numbers", "system"):
            if not torch.equal(last[name], _given(batch, name)):
                return False
        moved = (_given(batch, "positions") - last["positions"]).abs().max()
        return bool(moved < LONGEST_STEP)

    def _same(self, batch: AtomsBatch) -> bool:
        return all(torch.equal(self._last[n], _given(batch, n)) for n in ("positions", "cell"))

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Arrays that `restore` takes, for a checkpoint; empty where nothing is known."""
        if not self._solutions:
            return {}
        arrays = {f"last_{name}": value.cpu().numpy() for name, value in self._last.items()}
        return {"solutions": torch.stack(self._solutions).cpu().numpy(), **arrays}

    @classmethod
    def restore(
        cls, state: Mapping[str, NDArray[np.float64]], device: torch.device | str = "cpu"
    ) -> History:
        """The history that `state` was taken from.

        Raises:
            ConfigError: arrays are missing.
        """
        history = cls()
        if not state:
            return history
        for name in ("solutions", *(f"last_{n}" for n in NAMES)):
            if name not in state:
                raise ConfigError(f"expected a history with {name!r}, got {sorted(state)}")
        history._solutions = list(torch.tensor(state["solutions"], device=device))
        history._last = {n: torch.tensor(state[f"last_{n}"], device=device) for n in NAMES}
        return history


class Memory:
    """The histories of all solvers of one potential along one trajectory.

    Whoever owns a trajectory keeps one; results without one do not depend on anything that was
    computed before.
    """

    def __init__(self) -> None:
        self._histories: dict[str, History] = {}

    def history(self, solver: str) -> History:
        """The history of a solver, empty where it has none yet."""
        return self._histories.setdefault(solver, History())

    def state(self) -> dict[str, NDArray[np.float64]]:
        """The arrays for a checkpoint of the trajectory; empty where nothing is kept."""
        return {
            f"{PREFIX}{solver}.{name}": value
            for solver, history in self._histories.items()
            for name, value in history.state().items()
        }

    def restore(
        self, state: Mapping[str, NDArray[np.float64]], device: torch.device | str = "cpu"
    ) -> None:
        """Restore what `state` gave, from among other arrays of a checkpoint.

        Raises:
            ConfigError: arrays are missing.
        """
        found: dict[str, dict[str, NDArray[np.float64]]] = {}
        for key, value in state.items():
            if key.startswith(PREFIX):
                solver, name = key.removeprefix(PREFIX).split(".", 1)
                found.setdefault(solver, {})[name] = value
        self._histories = {
            solver: History.restore(arrays, device) for solver, arrays in found.items()
        }


def _given(batch: AtomsBatch, name: str) -> Tensor:
    """A tensor of the batch, by atoms as they were given."""
    value: Tensor = getattr(batch, name).detach()
    return batch.as_given(value) if ARRAYS[name].scope == "atom" else value


def _arranged(values: Tensor, batch: AtomsBatch) -> Tensor:
    """From the order as given to the order of the batch."""
    return values if batch.order is None else values.index_select(0, batch.order)
