"""Functions of a distance as piecewise cubics, from zero to a cutoff.

Between knots they are the cubic Hermite interpolants of values and slopes with a continuous first
derivative; kernels use the derivative of the interpolant, so that forces are the gradient of the
energy that is computed, not of the one that is approximated.

The error of such an interpolant is h^4 |e''''| / 384, and that of its slope h^3 |e''''| / (72
sqrt 3), at a spacing h.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Intervals are halved until, where atoms meet, the slope's error is this fraction of the largest
# slope: some 1e-6 of the forces. Fewer intervals are faster: the table should stay in the cache.
TOLERANCE = 2e-6
FEWEST, MOST = 256, 16384
NEAREST = 0.5  # Angstrom; H2 is 0.74 long
# Intervals in training, where there is no time to refine them at every step
# (docs/decisions/training-gradients.md); float64 is for tests.
TRAINING, TRAINING_FLOAT64 = 384, 8192

# Values and slopes (per Angstrom) [n, width] at distances float64 [n].
Radial = Callable[[Tensor], tuple[Tensor, Tensor]]


def training_intervals(dtype: torch.dtype) -> int:
    """Number of intervals in a training step."""
    return TRAINING_FLOAT64 if dtype == torch.float64 else TRAINING


def tabulated(
    function: Radial, cutoff: float, device: torch.device, n_intervals: int | None = None
) -> Tensor:
    """Coefficients float64 [n_intervals, 4, width] of a function that vanishes at the cutoff.

    Args:
        n_intervals: between 0 and the cutoff; None for as many as `TOLERANCE` asks for.
    """
    n = n_intervals or FEWEST
    coefficients = _interpolant(function, cutoff, device, n)
    while n_intervals is None and n < MOST:
        if slope_error(function, cutoff, coefficients) <= TOLERANCE:
            break
        n *= 2
        coefficients = _interpolant(function, cutoff, device, n)
    return coefficients


def _interpolant(function: Radial, cutoff: float, device: torch.device, n: int) -> Tensor:
    r = torch.linspace(0.0, cutoff, n + 1, dtype=torch.float64, device=device)
    value, slope = function(r)
    # at the cutoff: zero to rounding already
    inside = (torch.arange(n + 1, device=device) < n)[:, None]
    value, slope = value.where(inside, 0.0), slope.where(inside, 0.0)
    return cubics(value, slope * (cutoff / n))


def cubics(value: Tensor, slope: Tensor) -> Tensor:
    """Coefficients [n, 4, m] from values and slopes (per interval) at n + 1 knots [n + 1, m]."""
    step, a, b = value.diff(dim=0), slope[:-1], slope[1:]
    return torch.stack([value[:-1], a, 3 * step - 2 * a - b, a + b - 2 * step], dim=1)


def slope_error(function: Radial, cutoff: float, coefficients: Tensor) -> float:
    """The largest error of any slope relative to the largest slope."""
    n, t = coefficients.shape[0], 0.2113  # 1/2 - 1/sqrt(12)
    first = int(NEAREST / cutoff * n)
    knots = torch.arange(first, n, dtype=torch.float64, device=coefficients.device)
    _, exact = function((knots + t) * (cutoff / n))
    _, c1, c2, c3 = coefficients[first:].unbind(1)
    slope = (c1 + t * (2 * c2 + 3 * t * c3)) * (n / cutoff)
    return float((slope - exact).abs().max() / exact.abs().max().clamp(min=1e-300))
