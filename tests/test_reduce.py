"""Sums over segments against a loop, their derivatives, and the optional backend."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
from torch import Tensor

from hff_ase import reduce
from hff_ase.errors import ConfigError
from hff_ase.reduce import segment_max, segment_sum


def example(n: int = 40, n_segments: int = 7, wide: bool = True) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n + n_segments)
    # the last segment stays empty
    index = torch.randint(0, max(n_segments - 1, 1), (n,), generator=generator)
    shape = (n, 3, 2) if wide else (n,)
    return torch.randn(shape, generator=generator, dtype=torch.float64), index


def by_loop(values: Tensor, index: Tensor, n_segments: int) -> Tensor:
    out = torch.zeros((n_segments, *values.shape[1:]), dtype=values.dtype)
    for row, segment in zip(values, index.tolist(), strict=True):
        out[segment] += row
    return out


@pytest.mark.parametrize("n_segments", [1, 2, 7])
@pytest.mark.parametrize("n", [0, 1, 40])
@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("ascending", [True, False])
def test_sum_against_a_loop(n_segments: int, n: int, wide: bool, ascending: bool) -> None:
    values, index = example(n, n_segments, wide)
    index = index.sort()[0] if ascending else index
    summed = segment_sum(values, index, n_segments, sorted=ascending)
    torch.testing.assert_close(summed, by_loop(values, index, n_segments), rtol=1e-14, atol=1e-14)
    assert segment_sum(values.float(), index, n_segments).dtype == torch.float32


@pytest.mark.parametrize("n_segments", [1, 7])
@pytest.mark.parametrize("ascending", [True, False])
def test_derivatives(n_segments: int, ascending: bool) -> None:
    values, index = example(12, n_segments)
    index = index.sort()[0] if ascending else index
    leaf = values.requires_grad_()

    def squared(v: Tensor) -> Tensor:
        return segment_sum(v * v, index, n_segments, sorted=ascending) ** 2

    assert torch.autograd.gradcheck(squared, leaf)
    assert torch.autograd.gradgradcheck(squared, leaf)


def test_largest_of_each_segment() -> None:
    values, index = example(30, 5, wide=False)
    expected = [float(values.abs()[index == s].max()) if (index == s).any() else 0.0
                for s in range(5)]  # fmt: skip
    assert segment_max(values.abs(), index, 5).tolist() == expected


def stand_in(calls: list[str]) -> ModuleType:
    """A module with torch-scatter's `segment_coo`, which says that it was called."""
    module = ModuleType("torch_scatter")

    def segment_coo(src: Tensor, index: Tensor, dim_size: int, reduce: str) -> Tensor:
        assert bool((index.diff() >= 0).all())
        calls.append(reduce)
        return src.new_zeros((dim_size, *src.shape[1:])).index_add(0, index, src)

    module.segment_coo = segment_coo  # type: ignore[attr-defined]
    module.__spec__ = ModuleSpec("torch_scatter", None)  # so that it can be found
    return module


def test_torch_scatter_is_used_for_sorted_indices_where_it_is_installed(
    replace_library: Callable[..., None],
) -> None:
    calls: list[str] = []
    replace_library("torch_scatter", stand_in(calls))
    values, index = example()
    ascending = index.sort()[0]
    expected = by_loop(values, ascending, 7)
    for backend in ("auto", "torch_scatter"):
        summed = segment_sum(values, ascending, 7, sorted=True, backend=backend)
        torch.testing.assert_close(summed, expected)
    assert calls == ["sum", "sum"]
    segment_sum(values, ascending, 7, sorted=True, backend="torch")
    segment_sum(values, index, 7)
    assert len(calls) == 2


@pytest.mark.skipif(not reduce.has_torch_scatter(), reason="torch-scatter is not installed")
def test_torch_scatter_itself() -> None:
    values, index = example()
    index = index.sort()[0]
    one = segment_sum(values, index, 7, sorted=True, backend="torch_scatter")
    torch.testing.assert_close(one, by_loop(values, index, 7))


def test_torch_scatter_that_cannot_be_used(uninstall: Callable[[str], None]) -> None:
    values, index = example()
    with pytest.raises(ConfigError, match="sorted index"):
        segment_sum(values, index, 7, backend="torch_scatter")
    uninstall("torch_scatter")
    with pytest.raises(ConfigError, match="installed=False"):
        segment_sum(values, index.sort()[0], 7, sorted=True, backend="torch_scatter")
