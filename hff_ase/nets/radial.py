"""Radial basis and envelopes of short-range networks."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hff_ase.errors import ConfigError

Shape = Literal["cosine", "polynomial", "smooth"]
SHAPES: tuple[str, ...] = get_args(Shape)
SMOOTH = tuple(float(math.comb(k + 3, 3)) for k in range(7, -1, -1))


class Envelope(nn.Module):
    """A factor that takes edges smoothly to zero at the cutoff, exactly zero beyond it.

    "cosine": (cos(pi x) + 1)/2 with x = r/cutoff; its second derivative jumps at the cutoff.
    "polynomial": 1 - 28 x^6 + 48 x^7 - 21 x^8 (Gasteiger et al., DimeNet, arXiv 2003.03123, eq. 8,
    p = 6), whose first two derivatives vanish there too.
    "smooth": (1 - x)^4 sum_k C(k + 3, 3) x^k, k = 0 ... 7: the one polynomial of degree 11 that is
    1 at x = 0 with seven vanishing derivatives and 0 at x = 1 with three. The sum is the series of
    (1 - x)^-4 up to x^7, so that the product is 1 + O(x^8); (1 - x)^4 does the rest. It is the
    regularised incomplete beta function I_{1-x}(4, 8), halves at the same x = 0.68 as
    "polynomial", and has no cancellation near the cutoff.

    Raises:
        ConfigError: another name.
    """

    def __init__(self, cutoff: float, shape: str) -> None:
        super().__init__()
        if shape not in SHAPES:
            raise ConfigError(f"expected an envelope among {SHAPES}, got {shape!r}")
        self.cutoff, self.shape = cutoff, shape

    def forward(self, distance: Tensor) -> Tensor:
        """Values [...] for distances [...] in Angstrom."""
        x = (distance / self.cutoff).clamp(max=1.0)
        if self.shape == "cosine":
            return 0.5 * (torch.cos(math.pi * x) + 1.0)
        if self.shape == "smooth":
            series = torch.zeros_like(x)
            for coefficient in SMOOTH:  # Horner's rule
                series = series * x + coefficient
            return (1.0 - x).square().square() * series
        x6 = x.square() * x.square() * x.square()
        return 1.0 + x6 * (-28.0 + x * (48.0 - 21.0 * x))


class ExpNormalBasis(nn.Module):
    """exp(-beta_k (exp(-5 r / cutoff) - mu_k)^2) with trainable mu and beta.

    Unke & Meuwly, J. Chem. Theory Comput. 2019, 15, 3678 (PhysNet), eq. 8, without the envelope.
    """

    def __init__(self, n_radial: int, cutoff: float) -> None:
        super().__init__()
        self.decay = 5.0 / cutoff
        start = math.exp(-5.0)
        width = 2.0 / n_radial * (1.0 - start)
        self.means = nn.Parameter(torch.linspace(start, 1.0, n_radial))
        self.betas = nn.Parameter(torch.full((n_radial,), width**-2))

    def forward(self, distance: Tensor) -> Tensor:
        """Basis values [..., n_radial] for distances [...] in Angstrom."""
        spread = torch.exp(-self.decay * distance)[..., None] - self.means
        return torch.exp(-self.betas * spread.square())


class BesselBasis(nn.Module):
    """sqrt(2 / cutoff) sin(w_k r) / r, w_k = k pi / cutoff at the start, trainable.

    Gasteiger et al., DimeNet, arXiv 2003.03123, eq. 7, without the envelope.
    """

    def __init__(self, n_radial: int, cutoff: float) -> None:
        super().__init__()
        self.factor = math.sqrt(2.0 / cutoff)
        self.frequencies = nn.Parameter(torch.arange(1, n_radial + 1) * (math.pi / cutoff))

    def forward(self, distance: Tensor) -> Tensor:
        """Basis values [..., n_radial] for distances [...] in Angstrom, larger than zero."""
        r = distance[..., None]
        return self.factor * torch.sin(self.frequencies * r) / r
