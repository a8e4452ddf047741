"""Layers of E3Net that act on one atom: linear maps per degree, the gate, many-body products."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from hff_ase.nets.e3_algebra import coupling, dimension, paths, rows, weights_of_paths

# Second moments of silu(z) and sigmoid(z) of a normal z to the power -1/2: activations keep the
# variance of their input, as in e3nn.
SILU = 1.6765324703306
SIGMOID = 1.8462285453380
# Bases times envelope are small numbers at most distances; with this factor the sum over the
# neighbours in a liquid starts with components of about one.
GAIN = 4.0


class RadialNetwork(nn.Module):
    """Matrices with silu between them and no bias: what is zero at the cutoff stays zero.

    Args:
        sizes: widths of input, hidden layers and output.
    """

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(a, b) / math.sqrt(a)) for a, b in pairwise(sizes)]
        )
        with torch.no_grad():
            self.weights[0] *= GAIN

    def forward(self, x: Tensor) -> Tensor:
        """[n_edges, width of the output] from [n_edges, width of the input]."""
        x = x @ self.weights[0]
        for weight in self.weights[1:]:
            x = (SILU * nn.functional.silu(x)) @ weight
        return x

    def with_slopes(self, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Output and its derivative from those of the input, in the input's precision."""
        first, *others = (weight.to(x.dtype) for weight in self.weights)
        x, slope = x @ first, slope @ first
        for weight in others:
            gate = torch.sigmoid(x)
            silu = x * gate
            slope = (SILU * (gate + silu * (1.0 - gate)) * slope) @ weight
            x = (SILU * silu) @ weight
        return x, slope


class Linear(nn.Module):
    """A matrix between channels for each degree; no bias, which a vector could not have.

    Args:
        channels: of the input.
        widths: output channels of degree 0, 1, ...; the input may have more degrees, not fewer.
    """

    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(channels, width) / math.sqrt(channels)) for width in widths]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """One tensor [n, 2 l + 1, width] per degree from features [n, rows, channels]."""
        return [times(x[:, rows(degree)], weight) for degree, weight in enumerate(self.weights)]


class ElementLinear(nn.Module):
    """`Linear` with matrices of each species, between features of one width.

    Args:
        n_species: number of species.
        channels: of input and output.
        l_max: highest degree that is mapped.
    """

    def __init__(self, n_species: int, channels: int, l_max: int) -> None:
        super().__init__()
        self.l_max = l_max
        shape = (n_species, l_max + 1, channels, channels)
        self.weight = nn.Parameter(torch.randn(shape) / math.sqrt(channels))

    def forward(self, x: Tensor, species: Tensor) -> list[Tensor]:
        """One tensor [n, 2 l + 1, channels] per degree."""
        if x.device.type == "cpu":
            return self._by_species(x, species)
        own = self.weight.index_select(0, species)  # [atom, degree, channel, channel]
        return [torch.bmm(x[:, rows(degree)], own[:, degree]) for degree in range(self.l_max + 1)]

    def _by_species(self, x: Tensor, species: Tensor) -> list[Tensor]:
        """Without a matrix per atom: atoms of a species together (a GPU would wait for counts)."""
        order = torch.argsort(species, stable=True)
        counts = torch.bincount(species, minlength=len(self.weight)).tolist()
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
        sorted_x, found = x.index_select(0, order), []
        for degree in range(self.l_max + 1):
            groups = sorted_x[:, rows(degree)].split(counts)
            parts = [
                times(own, matrix)
                for own, matrix in zip(groups, self.weight[:, degree], strict=True)
                if len(own)
            ]
            found.append(torch.cat(parts).index_select(0, back))
        return found


def times(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight, [n, rows, width], as one product of matrices.

    Of three dimensions `matmul` makes one product or n of them, as the weight wants a gradient or
    not: a model that is trained and the same one loaded would differ in their last digits.
    """
    n, size, channels = x.shape
    return (x.reshape(-1, channels) @ weight).view(n, size, weight.shape[1])


def gate(parts: list[Tensor], channels: int) -> Tensor:
    """Gated nonlinearity: silu of scalars, tensors times the sigmoid of scalars of their own.

    Args:
        parts: degree 0 [n, 1, channels (1 + l_max)], then degree l [n, 2 l + 1, channels].

    Returns:
        [n, (l_max + 1)^2, channels].
    """
    scalars, *gates = parts[0].split(channels, dim=-1)
    out = [SILU * nn.functional.silu(scalars)]
    out += [SIGMOID * torch.sigmoid(g) * x for g, x in zip(gates, parts[1:], strict=True)]
    return torch.cat(out, dim=1)


class Product(nn.Module):
    """Products of a tensor with itself up to a correlation order, with weights of each species.

    T_1 = A and T_k = sum_p w_p(Z) [T_(k-1)^{l1} (x) A^{l2}]^{l3}; the result is the sum of all
    w(Z) T_k, k = 1 ... order. With A a sum over neighbours, order k holds terms of k + 1 bodies:
    the expansion of Batatia et al., MACE (arXiv 2206.07697, eq. 10), evaluated recursively.

    Args:
        n_species: number of species.
        channels: of input and output.
        l_in, l_out: highest degrees of A and of the result, l_out <= l_in.
        order: 2 or more.
    """

    def __init__(self, n_species: int, channels: int, l_in: int, l_out: int, order: int) -> None:
        super().__init__()
        self.l_in, self.l_out = l_in, l_out
        ends = [l_in] * (order - 2) + [l_out]
        counts = [len(paths(l_in, l_in, end, k == 0)) for k, end in enumerate(ends)]
        self.ends = ends
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(n_species, count, channels)) for count in counts]
        )
        self.scale = nn.Parameter(torch.ones(n_species, order, channels) / math.sqrt(order))

    def forward(self, a: Tensor, species: Tensor) -> Tensor:
        """[n, (l_out + 1)^2, channels] from A [n, (l_in + 1)^2, channels]."""
        n, size, channels = a.shape
        n_out = dimension(self.l_out)
        scale = self.scale.index_select(0, species)
        power, total = a, a[:, :n_out] * scale[:, :1]
        for k, (end, weight) in enumerate(zip(self.ends, self.weights, strict=True)):
            table, path_of = products(self.l_in, end, k == 0, a.dtype, a.device)
            outer = (power[:, :, None] * a[:, None]).view(n, size * size, channels)
            coupled = table @ outer  # [atom, coupled row, channel]
            own = weight.index_select(0, species).index_select(1, path_of)
            power = sum_rows(coupled * own, self.l_in, end, k == 0)
            total = total + power[:, :n_out] * scale[:, k + 1, None]
        return total


def sum_rows(values: Tensor, l_in: int, l_out: int, symmetric: bool) -> Tensor:
    """Rows of all paths [n, n_coupled, channels] to the rows of the result."""
    parts, first = [], 0
    chosen = paths(l_in, l_in, l_out, symmetric)
    for degree in range(l_out + 1):
        count, width = sum(path.l3 == degree for path in chosen), 2 * degree + 1
        own = values[:, first : first + count * width]
        parts.append(own.unflatten(1, (count, width)).sum(1))
        first += count * width
    return torch.cat(parts, dim=1)


@lru_cache(maxsize=64)
def products(
    l_in: int, l_out: int, symmetric: bool, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Coefficients [n_coupled, (l_in + 1)^4] of the products of two tensors, paths in the order of
    their degree l3, and the path of each row, int64 [n_coupled]."""
    chosen = paths(l_in, l_in, l_out, symmetric)
    size = dimension(l_in)
    blocks, path_of = [], []
    for p, (path, weight) in enumerate(zip(chosen, weights_of_paths(chosen), strict=True)):
        block = torch.zeros(2 * path.l3 + 1, size, size, dtype=torch.float64)
        block[:, rows(path.l1), rows(path.l2)] = coupling(path).permute(2, 0, 1) * weight
        blocks.append(block.flatten(1))
        path_of += [p] * (2 * path.l3 + 1)
    return torch.cat(blocks).to(device, dtype), torch.tensor(path_of, device=device)
