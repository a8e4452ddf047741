"""Radial weights of E3Net as piecewise cubics in the distance (`hff_ase.kernels.cubics`).

The radial network of a layer sees only the distance: a table replaces basis, envelope and
matrix products of every edge, which took most of the time and memory of an edge.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor

from hff_ase.kept import Kept
from hff_ase.kernels.cubics import cubics, tabulated, training_intervals
from hff_ase.nets.e3 import E3Net, Interaction
from hff_ase.nets.radial import Envelope, Shape

Tables = tuple[Tensor, ...]  # per layer [n_intervals, n_paths, 4, channels], c0 ... c3 of each path
NEAREST = 1e-3  # Angstrom: the Bessel basis divides by the distance


def radial_input(net: E3Net, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Input of radial networks, basis times envelope, and its slope; [n, n_radial], float64."""
    r = distance.clamp(min=NEAREST)
    return _product(_with_slopes(net.basis, r), _with_slopes(net.envelope, r))


def _with_slopes(function: Callable[[Tensor], Tensor], r: Tensor) -> tuple[Tensor, Tensor]:
    """Values [n, width] at distances [n] and their slopes, differentiable in parameters."""
    value, slope = torch.func.jvp(function, (r,), (torch.ones_like(r),))[:2]
    return value.view(len(r), -1), slope.view(len(r), -1)


def _product(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return a[0] * b[0], a[1] * b[0] + a[0] * b[1]


@lru_cache(maxsize=16)
def _knots(cutoff: float, shape: Shape, n: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Distances at n + 1 knots, and there the envelope, zero at the last, and its slope."""
    r = torch.linspace(0.0, cutoff, n + 1, dtype=torch.float64).clamp(min=NEAREST)
    inside = (torch.arange(n + 1) < n)[:, None]
    value, slope = _with_slopes(Envelope(cutoff, shape), r)
    return r, (value.where(inside, 0.0), slope.where(inside, 0.0))


def radial_weights(net: E3Net, layer: Interaction, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of all paths [n, n_paths channels] and their slopes, float64."""
    return layer.radial.with_slopes(*radial_input(net, distance))


@torch.no_grad()
def make_tables(net: E3Net) -> Tables:
    """The tables, computed in float64, stored in the network's precision."""
    weight, cutoff, layers = net.embedding.weight, net.cutoff, net.interactions
    functions = [partial(radial_weights, net, layer) for layer in layers]
    found = [tabulated(function, cutoff, weight.device) for function in functions]
    n = max(len(table) for table in found)  # an edge has one place in all of them
    found = [
        table if len(table) == n else tabulated(function, cutoff, weight.device, n)
        for function, table in zip(functions, found, strict=True)
    ]
    pairs = zip(found, layers, strict=True)
    return tuple(_by_path(table, layer).to(weight.dtype) for table, layer in pairs)


_KEPT: Kept[Tables] = Kept()


def kept_tables(net: E3Net) -> Tables:
    """`make_tables`, recomputed when a parameter has changed."""
    return _KEPT.of(net, lambda: make_tables(net))


def live_tables(net: E3Net) -> Tables:
    """The tables of one training step, differentiable in the parameters."""
    dtype = net.embedding.weight.dtype
    n = training_intervals(dtype)
    r, envelope = _knots(net.cutoff, net.envelope.shape, n)
    value, slope = _product(_with_slopes(net.basis, r), envelope)
    found = []
    for layer in net.interactions:
        weights, slopes = layer.radial.with_slopes(value, slope * (net.cutoff / n))
        found.append(_by_path(cubics(weights, slopes), layer).to(dtype))
    return tuple(found)


def _by_path(coefficients: Tensor, layer: Interaction) -> Tensor:
    """[n_intervals, 4, n_paths channels] as [n_intervals, n_paths, 4, channels]."""
    shape = (layer.n_paths, layer.channels)
    return coefficients.unflatten(-1, shape).transpose(1, 2).contiguous()
