"""Products with a sparse approximate inverse (`hff_ase.longrange.sparse_inverse`), in numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from hff_ase.kernels.jit import jit


@jit
def factor_product(start: Any, column: Any, value: Any, vector: Any) -> Any:
    """G^T G v for G in compressed rows, [n_atoms]."""
    out = np.zeros(start.shape[0] - 1)
    for i in range(start.shape[0] - 1):
        total = 0.0
        for slot in range(start[i], start[i + 1]):
            total += value[slot] * vector[column[slot]]
        for slot in range(start[i], start[i + 1]):
            out[column[slot]] += value[slot] * total
    return out


@jit
def block_product(start: Any, column: Any, value: Any, vector: Any) -> Any:
    """G^T G v for G in compressed rows of blocks ``value`` [n_entries, b, b], [n_atoms, b]."""
    b = value.shape[1]
    out = np.zeros((start.shape[0] - 1, b))
    total = np.empty(b)
    for i in range(start.shape[0] - 1):
        total[:] = 0.0
        for slot in range(start[i], start[i + 1]):
            k = column[slot]
            for row in range(b):
                for c in range(b):
                    total[row] += value[slot, row, c] * vector[k, c]
        for slot in range(start[i], start[i + 1]):
            k = column[slot]
            for row in range(b):
                for c in range(b):
                    out[k, c] += value[slot, row, c] * total[row]
    return out
