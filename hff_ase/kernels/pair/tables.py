"""Functions of a distance as piecewise cubics in r^2: one lookup instead of exp, erf and powers.

Knots divide every octave of r^2 + 2^-14 A^2 into 256 equal intervals, so that the relative
resolution is the same at 0.1 and at 10 Angstrom, and the interval of a distance is read off the
leading bits of that number: its exponent and 8 bits of the mantissa. A table from 0 to 10 Angstrom
has 5,376 intervals, of which a liquid touches a fifth; uniform knots of the same accuracy at 0.7
Angstrom would be some 20,000. From 0.7 Angstrom on, energies deviate by at most 5e-10 and forces by
2e-7 of the largest that a function has there (docs/decisions/pair-kernels.md).

The cubics are Hermite interpolants: values and slopes at the knots are exact. The force is the
derivative of the interpolant, so that energy is conserved however coarse the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

KNOT_BITS = 8  # 2^8 intervals per octave
LOWEST_EXPONENT = -14
# Added to r^2: the first octave then holds r = 0, and no distance needs a special case.
OFFSET = 2.0**LOWEST_EXPONENT
TABLE_END = 2.0**25  # Angstrom, the end of tables without a cutoff


@dataclass(frozen=True, eq=False)
class Table:
    """Piecewise cubics a0 + d (a1 + d (a2 + d a3)), d in Angstrom^2 from the interval's lower knot.

    Attributes:
        coefficients: float64 [n_functions, n_intervals, 4].
        cutoff: Angstrom, where the functions end (pairs at it or beyond count nothing).
    """

    coefficients: Tensor
    cutoff: float

    @cached_property
    def single(self) -> Tensor:
        """The coefficients in float32, for a GPU."""
        return self.coefficients.float()


def knots(reach: float) -> Tensor:
    """r^2 + OFFSET of the knots up to the first power of two beyond reach^2, Angstrom^2."""
    _, highest = math.frexp(reach * reach + OFFSET)
    octaves = 2.0 ** torch.arange(LOWEST_EXPONENT, highest, dtype=torch.float64)
    steps = 1.0 + torch.arange(2**KNOT_BITS, dtype=torch.float64) / 2**KNOT_BITS
    inner = (octaves[:, None] * steps).reshape(-1)
    return torch.cat([inner, torch.tensor([2.0**highest], dtype=torch.float64)])


def tabulate(
    function: Callable[[Tensor], Tensor],
    cutoff: float,
    n_functions: int = 1,
    device: torch.device | str = "cpu",
) -> Table:
    """The table of differentiable functions.

    Below 2^-7 = 0.008 Angstrom, where they may be singular, they are continued by their tangents in
    r^2: finite at r = 0, with the same sign of the force.

    Args:
        function: distances [n_functions, n] in Angstrom to values, element by element. One that
            ends sharply at the cutoff must continue smoothly for one interval.
        cutoff: Angstrom, or infinity.
        device: of what the function computes with, and of the table.
    """
    # also where the caller has switched gradients off
    with torch.inference_mode(False), torch.enable_grad():
        w = knots(min(cutoff, TABLE_END)).to(device).repeat(n_functions, 1)
        square = (w - OFFSET).clamp(min=OFFSET)
        r = square.sqrt().requires_grad_()
        value = function(r)
        (slope,) = torch.autograd.grad(value.sum(), r)
    slope = slope / (2.0 * r.detach())
    value = value.detach() + slope * (w - OFFSET - square)
    return Table(hermite(w, value, slope), cutoff)


def hermite(w: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """Coefficients [n_functions, n_intervals, 4] of the cubics with given values and slopes in r^2
    [n_functions, n_intervals + 1] at the knots w [n_intervals + 1], or as many rows of them."""
    step = w.diff(dim=-1)
    mean = value.diff(dim=1) / step
    first, last = slope[:, :-1], slope[:, 1:]
    parts = (
        value[:, :-1],
        first,
        (3.0 * mean - 2.0 * first - last) / step,
        (first + last - 2.0 * mean) / step**2,
    )
    return torch.stack(parts, 2).contiguous()


def interpolated(table: Table, function: Tensor, r: Tensor) -> Tensor:
    """The kernels' interpolation of a table, in torch: [n], differentiable in r.

    Args:
        table: of several functions.
        function: int64 [n], which one.
        r: float64 [n], Angstrom, below the table's end.
    """
    w = knots(min(table.cutoff, TABLE_END)).to(r.device)
    square = r * r + OFFSET
    interval = torch.searchsorted(w, square.detach(), right=True) - 1
    d = square - w[interval]
    a0, a1, a2, a3 = table.coefficients[function, interval].unbind(1)
    return a0 + d * (a1 + d * (a2 + d * a3))
