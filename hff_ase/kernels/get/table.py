"""Radial features of GET as piecewise cubics in the distance (`hff_ase.kernels.cubics`).

The feature of an edge, e(r) = silu(W basis(r) f(r)), and the envelope f(r) depend on the distance
alone, so that a table replaces the basis, the matrix product and the silu of every edge.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import torch
from torch import Tensor
from torch.nn import functional

from hff_ase.kernels.cubics import cubics, tabulated
from hff_ase.nets.get import GET
from hff_ase.nets.radial import Envelope, Shape


@dataclass(frozen=True)
class RadialTable:
    """Features and envelope at uniform knots from 0 to the cutoff.

    Channels are stored head-fastest, c' = d * heads + h: see `hff_ase.kernels.get.weights`.

    Attributes:
        coefficients: [n_intervals, 4, channels], the polynomial c0 + c1 t + c2 t^2 + c3 t^3 of each
            interval, t = r / spacing - knot from 0 to 1. Polynomials rather than values and slopes
            at knots: the difference of two rounded float32 values would leave 1e-4 of noise in the
            slope.
        envelope_coefficients: float64 [n_intervals, 4], the same for the envelope.
        spacing: Angstrom.
    """

    coefficients: Tensor
    envelope_coefficients: Tensor
    spacing: float

    @property
    def n_intervals(self) -> int:
        """Number of intervals between knots."""
        return self.coefficients.shape[0]

    @cached_property
    def flat(self) -> Tensor:
        """The coefficients as [n_intervals, 4 channels]: what an edge reads is one row."""
        return self.coefficients.reshape(self.n_intervals, -1)


def tabulate(net: GET, n_intervals: int | None = None) -> RadialTable:
    """The table of a network, computed in float64, stored in the network's precision.

    Args:
        n_intervals: between 0 and the cutoff; None for as many as
            `hff_ase.kernels.cubics.TOLERANCE` asks for.
    """
    device = net.radial.weight.device
    coefficients = tabulated(partial(radial_functions, net), net.cutoff, device, n_intervals)
    dtype, order = net.radial.weight.dtype, head_fastest(net.channels, net.options["heads"])
    features = coefficients[..., order.to(coefficients.device)]
    return RadialTable(
        coefficients=features.to(dtype).contiguous(),
        envelope_coefficients=coefficients[..., -1].contiguous(),
        spacing=net.cutoff / len(coefficients),
    )


def radial_functions(net: GET, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Features and, as one more column, the envelope, [n, channels + 1], and their slopes; float64.

    Args:
        distance: float64 [n], Angstrom.
    """
    weight = net.radial.weight.detach().double()
    basis = copy.deepcopy(net.basis).double()
    with torch.enable_grad():
        r = distance.detach().requires_grad_()
        cut = net.envelope(r)
        feature = functional.silu(functional.linear(basis(r) * cut[:, None], weight))
        value = torch.cat([feature, cut[:, None]], dim=1)
        # The derivative by the cotangent of a row's derivative: all columns in two passes.
        cotangent = torch.zeros_like(value, requires_grad=True)
        (mixed,) = torch.autograd.grad(value, r, cotangent, create_graph=True)
        (slope,) = torch.autograd.grad(mixed.sum(), cotangent)
    return value.detach(), slope


def live_table(net: GET, n_intervals: int) -> RadialTable:
    """The table with its graph: coefficients differentiable in the parameters of basis and layer.

    With z = W basis f, e = silu(z) and its slope silu'(z) W (basis f)'; the basis is a Gaussian of
    s(r), see `hff_ase.nets.radial.ExpNormalBasis`.
    """
    basis, heads = net.basis, net.options["heads"]
    knots = _knots(net.cutoff, net.envelope.shape, basis.decay, n_intervals)
    spread = knots.s - basis.means.double()
    betas = basis.betas.double()
    gauss = torch.exp(-betas * (spread * spread))  # the derivative of square() is a slow power
    rise = gauss * (knots.df - 2.0 * knots.f * knots.ds * betas * spread)
    weight = net.radial.weight.double()
    weight = weight.view(heads, -1, weight.shape[1]).transpose(0, 1).reshape(weight.shape)
    z, dz = functional.linear(torch.stack([gauss * knots.f, rise]), weight).unbind(0)
    gate = torch.sigmoid(z)
    value = z * gate
    coefficients = cubics(value, dz * (gate + value * (1.0 - gate)))
    return RadialTable(
        coefficients=coefficients.to(net.radial.weight.dtype),
        envelope_coefficients=knots.envelope,
        spacing=net.cutoff / n_intervals,
    )


@dataclass(frozen=True)
class _Knots:
    """The parts that do not depend on parameters, [n_intervals + 1, 1]: s = exp(-5 r / cutoff), the
    envelope f, and their slopes per interval; and the envelope's coefficients."""

    s: Tensor
    ds: Tensor
    f: Tensor
    df: Tensor
    envelope: Tensor


@lru_cache(maxsize=16)
def _knots(cutoff: float, shape: Shape, decay: float, n: int) -> _Knots:
    step = cutoff / n
    r = torch.linspace(0.0, cutoff, n + 1, dtype=torch.float64)
    with torch.enable_grad():
        leaf = r.clone().requires_grad_()
        f = Envelope(cutoff, shape)(leaf)
        (df,) = torch.autograd.grad(f.sum(), leaf)
    f, df = f.detach(), df * step
    f[-1], df[-1] = 0.0, 0.0
    s = torch.exp(-decay * r)
    return _Knots(
        s=s[:, None],
        ds=-decay * step * s[:, None],
        f=f[:, None],
        df=df[:, None],
        envelope=cubics(f[:, None], df[:, None])[..., 0].contiguous(),
    )


def head_fastest(channels: int, heads: int) -> Tensor:
    """The published channel, h * channels / heads + d, for each stored one, d * heads + h."""
    return torch.arange(channels).view(heads, channels // heads).T.reshape(-1)
