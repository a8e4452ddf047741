"""What sums over segments cost in torch and in a plain loop, on one CPU thread.

python benchmarks/reductions.py
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from numba import njit
from torch import Tensor

CASES = (
    ("200k x 64 float32 -> 4k", (200_000, 64), 4096, torch.float32),
    ("770k float64 -> 4k", (770_000,), 4096, torch.float64),
    ("100k float64 -> 1", (100_000,), 1, torch.float64),
    ("100k float64 -> 512", (100_000,), 512, torch.float64),
)


def least_ms(function: Callable[[], object], repeats: int = 7) -> float:
    """Least wall time of some calls after one that does not count."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def ways(index: Tensor, n: int, ascending: bool) -> dict[str, Callable[[Tensor], Tensor]]:
    """Ways to sum values [n_rows, ...] by index."""

    def wide(v: Tensor) -> Tensor:
        return index.view(-1, *(1,) * (v.ndim - 1)).expand_as(v)

    def zeros(v: Tensor) -> Tensor:
        return v.new_zeros((n, *v.shape[1:]))

    found: dict[str, Callable[[Tensor], Tensor]] = {
        "index_add": lambda v: zeros(v).index_add(0, index, v),
        "scatter_add": lambda v: zeros(v).scatter_add(0, wide(v), v),
        "scatter_reduce": lambda v: zeros(v).scatter_reduce(0, wide(v), v, "sum"),
    }
    if ascending:
        counts = torch.bincount(index, minlength=n)
        ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        column = torch.arange(index.shape[0])

        def product(v: Tensor) -> Tensor:
            ones = torch.ones(index.shape[0], dtype=v.dtype)
            matrix = torch.sparse_csr_tensor(ends, column, ones, size=(n, index.shape[0]))
            return matrix @ v.view(index.shape[0], -1)

        def differences(v: Tensor) -> Tensor:
            total = torch.cat([v.new_zeros((1, *v.shape[1:])), torch.cumsum(v, 0)])
            return total[ends[1:]] - total[ends[:-1]]

        found["segment_reduce"] = lambda v: torch.segment_reduce(v, "sum", lengths=counts)
        found["CSR product"] = product
        found["cumulative sums"] = differences
    return found


@njit(cache=True)
def loop(values: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
    """The sum as a loop over rows."""
    for row in range(values.shape[0]):
        into = out[index[row]]
        for column in range(values.shape[1]):
            into[column] += values[row, column]


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Sparse")
    generator = torch.Generator().manual_seed(0)
    for name, shape, n, dtype in CASES:
        for ascending in (True, False):
            index = torch.randint(0, n, shape[:1], generator=generator)
            index = index.sort()[0] if ascending else index
            values = torch.randn(shape, generator=generator, dtype=dtype)
            leaf = values.clone().requires_grad_()
            label = f"{name}, {'sorted' if ascending else 'unsorted'}"
            for way, function in ways(index, n, ascending).items():
                forward = least_ms(lambda f=function, v=values: f(v))  # type: ignore[misc]
                both = least_ms(
                    lambda f=function, v=leaf: torch.autograd.grad(f(v).sum(), v)  # type: ignore[misc]
                )
                print(f"{label:40s} {way:16s} {forward:8.2f} ms, with backward {both:8.2f} ms")
            flat, out = values.view(shape[0], -1).numpy(), np.zeros((n, values[0].numel()))
            out = out.astype(flat.dtype)
            time_of_loop = least_ms(lambda f=flat, i=index, o=out: loop(f, i.numpy(), o))  # type: ignore[misc]
            print(f"{label:40s} {'numba loop':16s} {time_of_loop:8.2f} ms")


if __name__ == "__main__":
    main()
