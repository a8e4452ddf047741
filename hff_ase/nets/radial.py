"""Radial basis and envelopes of short-range networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hff_ase.errors import ConfigError


class Envelope(nn.Module):
    """A factor that takes edges smoothly to zero at the cutoff, exactly zero beyond it.

    "cosine": (cos(pi x) + 1)/2 with x = r/cutoff; its second derivative jumps at the cutoff.
    "polynomial": 1 - 28 x^6 + 48 x^7 - 21 x^8 (Gasteiger et al., DimeNet, arXiv 2003.03123, eq. 8,
    p = 6), whose first two derivatives vanish there too.

    Raises:
        ConfigError: another name.
    """

    def __init__(self, cutoff: float, shape: str) -> None:
        super().__init__()
        if shape not in ("cosine", "polynomial"):
            raise ConfigError(f"expected the envelope 'cosine' or 'polynomial', got {shape!r}")
        self.cutoff, self.shape = cutoff, shape

    def forward(self, distance: Tensor) -> Tensor:
        """Values [...] for distances [...] in Angstrom."""
        x = (distance / self.cutoff).clamp(max=1.0)
        if self.shape == "cosine":
            return 0.5 * (torch.cos(math.pi * x) + 1.0)
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
