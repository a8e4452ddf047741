"""Sums of rows that share an index: the one way in which this package reduces pairs to atoms and
atoms to systems outside its fused kernels."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from hff_ase.errors import ConfigError

ReduceBackend = Literal["auto", "torch", "torch_scatter"]


def segment_sum(
    values: Tensor,
    index: Tensor,
    n_segments: int,
    *,
    sorted: bool = False,
    backend: ReduceBackend = "auto",
) -> Tensor:
    """out[s] = sum of the rows of ``values`` whose ``index`` is s; differentiable any number of
    times.

    Args:
        values: [n, ...].
        index: int64 [n], 0 ... n_segments - 1.
        n_segments: rows of the result; those that no index names are zero.
        sorted: whether ``index`` ascends; then torch-scatter, where it is installed, sums rows in
            order and without atomics.
        backend: "torch", "torch_scatter" (an ascending index only), or "auto": the first unless
            the second is installed and can be used.

    Returns:
        [n_segments, ...] in the precision of ``values``.

    Raises:
        ConfigError: torch_scatter asked for an index that does not ascend or where it is missing.
    """
    if backend == "torch_scatter" and not (sorted and has_torch_scatter()):
        raise ConfigError(
            "expected a sorted index and torch-scatter (pip install 'hff-ase[scatter]') for "
            f"backend='torch_scatter', got sorted={sorted}, installed={has_torch_scatter()}"
        )
    if n_segments == 1:
        return values.sum(0, keepdim=True)  # thousands of additions to one address on a GPU
    if backend != "torch" and sorted and has_torch_scatter():
        from torch_scatter import segment_coo

        out: Tensor = segment_coo(values, index, dim_size=n_segments, reduce="sum")
        return out
    zeros = values.new_zeros((n_segments, *values.shape[1:]))
    return zeros.index_add(0, index, values)


def segment_max(values: Tensor, index: Tensor, n_segments: int) -> Tensor:
    """The largest of non-negative ``values`` [n] per segment, 0 for empty ones; no derivative.

    Args:
        values, index, n_segments: as in `segment_sum`.
    """
    with torch.no_grad():
        zeros = values.new_zeros(n_segments)
        return zeros.scatter_reduce(0, index, values, "amax", include_self=True)


@cache
def has_torch_scatter() -> bool:
    """Whether torch-scatter can be imported."""
    return find_spec("torch_scatter") is not None
