"""The edge sum of E3Net: sender features times spherical harmonics times radial weights.

out_i = sum_j sum_p R_p(r_ij) [x_j^{l1} (x) Y^{l2}(r_ij)]^{l3} per channel, p = (l1, l2, l3): e3nn's
tensor product with the connection 'uvu' of `channels` copies and one harmonic, its weights given
per edge, the paths into one degree summed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from hff_ase.nets.e3_algebra import Path, coupling, dimension, paths, rows, weights_of_paths


@dataclass(frozen=True)
class E3Edges:
    """The edge data of the layers.

    Attributes:
        i, j: int64 [n_edges], receiver and sender, receivers in ascending order.
        harmonics: [n_edges, (l_edge + 1)^2].
        radial: [n_edges, n_radial], basis times envelope.
        fast: use the fused loops where there are some (two derivatives, CPU).
    """

    i: Tensor
    j: Tensor
    harmonics: Tensor
    radial: Tensor
    fast: bool


@dataclass(frozen=True, eq=False)
class Couplings:
    """The non-zero coefficients of some paths, one after another, ordered by path and output row.

    Attributes:
        paths: the couplings.
        l_in, l_edge, l_out: highest degrees of features, harmonics and result.
        coefficient: float64 [(l_edge + 1)^2, n_terms]: harmonics @ coefficient are the factors of
            the terms.
        row_in: int32 [n_terms], row of the features that a term reads.
        path, row_out, start: int32 [n_groups], [n_groups], [n_groups + 1]: terms start[g] ...
            start[g + 1] - 1 have one path and output row.
    """

    paths: tuple[Path, ...]
    l_in: int
    l_edge: int
    l_out: int
    coefficient: Tensor
    row_in: Tensor
    path: Tensor
    row_out: Tensor
    start: Tensor


@lru_cache(maxsize=64)
def couplings(l_in: int, l_edge: int, l_out: int) -> Couplings:
    """The couplings of an edge sum between the given highest degrees."""
    chosen = paths(l_in, l_edge, l_out)
    columns, row_in, group_path, group_out, start = [], [], [], [], [0]
    for p, (path, weight) in enumerate(zip(chosen, weights_of_paths(chosen), strict=True)):
        table = coupling(path) * weight  # [m1, m2, m3]
        for m3 in range(2 * path.l3 + 1):
            for m1 in range(2 * path.l1 + 1):
                if table[m1, :, m3].any():
                    column = torch.zeros(dimension(l_edge), dtype=torch.float64)
                    column[rows(path.l2)] = table[m1, :, m3]
                    columns.append(column)
                    row_in.append(path.l1**2 + m1)
            group_path.append(p)
            group_out.append(path.l3**2 + m3)
            start.append(len(columns))

    def index(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32)

    coefficient = torch.stack(columns, dim=1)
    return Couplings(
        chosen,
        l_in,
        l_edge,
        l_out,
        coefficient,
        *map(index, (row_in, group_path, group_out, start)),
    )


@lru_cache(maxsize=64)
def coefficient_on(
    l_in: int, l_edge: int, l_out: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """`Couplings.coefficient` in a precision, on a device."""
    return couplings(l_in, l_edge, l_out).coefficient.to(device, dtype)


def factors_of(harmonics: Tensor, table: Couplings) -> Tensor:
    """Factors [n_edges, n_terms] of all terms from harmonics up to l_edge or more."""
    l_in, l_edge, l_out = table.l_in, table.l_edge, table.l_out
    own = harmonics[:, : dimension(l_edge)]
    return own @ coefficient_on(l_in, l_edge, l_out, own.dtype, own.device)


def convolve(x: Tensor, weights: Tensor, edges: E3Edges, l_edge: int, l_out: int) -> Tensor:
    """The edge sum [n_atoms, (l_out + 1)^2, channels].

    Args:
        x: [n_atoms, (l_in + 1)^2, channels].
        weights: [n_edges, n_paths, channels], of the paths in `couplings`.
        l_edge: highest degree of the harmonics that is used.
    """
    l_in = round(x.shape[1] ** 0.5) - 1
    table = couplings(l_in, l_edge, l_out)
    factors = factors_of(edges.harmonics, table)
    function: Callable[..., Tensor] = reference
    if edges.fast and x.device.type == "cpu":
        from hff_ase.backends import backend_for

        if backend_for(x.device) is not None:
            from hff_ase.kernels.e3.convolution import fused as function
    return function(x, weights, factors, edges.i, edges.j, table)


def reference(
    x: Tensor, weights: Tensor, factors: Tensor, i: Tensor, j: Tensor, table: Couplings
) -> Tensor:
    """The edge sum in plain torch, differentiable any number of times.

    Args:
        x, weights: as in `convolve`.
        factors: [n_edges, n_terms].
        i, j: receiver and sender.
    """
    sender = x.index_select(0, j)
    pieces: list[Tensor | None] = [None] * dimension(table.l_out)
    start = table.start.tolist()
    for g, (p, row) in enumerate(zip(table.path.tolist(), table.row_out.tolist(), strict=True)):
        own = slice(start[g], start[g + 1])
        terms = sender[:, table.row_in[own].long().to(x.device)] * factors[:, own, None]
        piece = terms.sum(1) * weights[:, p]
        known = pieces[row]
        pieces[row] = piece if known is None else known + piece
    message = torch.stack([piece for piece in pieces if piece is not None], dim=1)
    return x.new_zeros(x.shape[0], *message.shape[1:]).index_add(0, i, message)
