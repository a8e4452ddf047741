"""DIIS: the combination of the last matrices whose error is least (Pulay, 1980)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
KEPT = 8  # iterations


class DIIS:
    """Extrapolates arrays of one shape by their errors, as numbers in a fixed frame."""

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept
        self._arrays: list[Array] = []
        self._errors: list[Array] = []

    def __call__(self, array: Array, error: Array) -> Array:
        """The combination, its weights summing to 1, of what was given so far."""
        self._arrays = [*self._arrays, array][-self.kept :]
        self._errors = [*self._errors, error.ravel()][-self.kept :]
        n = len(self._errors)
        errors = np.stack(self._errors)
        products = errors @ errors.T
        # errors shrink by orders of magnitude: scaled to the last, or its equation is lost
        scale = max(float(products[-1, -1]), 1e-300)
        system = np.zeros((n + 1, n + 1))
        system[:n, :n], system[n, :n], system[:n, n] = products / scale, 1.0, 1.0
        weights = np.linalg.lstsq(system, np.eye(n + 1)[n], rcond=1e-14)[0][:n]
        return np.asarray(np.tensordot(weights, np.stack(self._arrays), axes=1))
