r"""1/r^n as a part that ends at a cutoff and a smooth one with a lattice sum, for even n and n = 1.

.. math:: \frac{1}{r^n} = \frac{g_n(\alpha r)}{r^n} + \frac{h_n(\alpha r)}{r^n}

with g_1 = erfc(x) and, for even n, g_n(x) = exp(-x^2) sum_{k < n/2} x^2k/k! (Williams, Acta Cryst.
A27, 452 (1971)). The Fourier transform of the smooth part is

.. math:: \psi_n(k) = \frac{\pi^{3/2}}{\Gamma(n/2)} \Bigl(\frac{k}{2}\Bigr)^{n-3}
    \Gamma\Bigl(\frac{3-n}{2}, \frac{k^2}{4\alpha^2}\Bigr),

4 pi exp(-k^2/4 alpha^2)/k^2 for n = 1 and, for n = 6, that of Essmann et al., J. Chem. Phys. 103,
8577 (1995), eq. 5.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SERIES = 2.0  # below which a fraction is summed from its first term, not as 1 less the others
TERMS = 18  # of that series: the next is less than 1e-13 of the sum


def missing_fraction(n: int, x: Tensor) -> Tensor:
    """1 - exp(-x) sum_{k <= n} x^k/k!, for x >= 0 of any shape: ~ x^(n+1)/(n+1)! for small x."""
    small = x < SERIES
    low = torch.where(small, x, 0.0)
    high = torch.where(small, SERIES, x)
    series = torch.ones_like(x)
    for k in range(n + 1 + TERMS, n + 1, -1):
        series = 1.0 + series * low / k
    series = torch.exp(-low) * low ** (n + 1) / math.factorial(n + 1) * series
    return torch.where(small, series, 1.0 - torch.exp(-high) * exponential_sum(n, high))


def exponential_sum(n: int, x: Tensor) -> Tensor:
    """sum_{k <= n} x^k/k!."""
    total = torch.ones_like(x)
    for k in range(n, 0, -1):
        total = 1.0 + total * x / k
    return total


def smooth_fraction(n: int, alpha: float, r: Tensor) -> Tensor:
    """h_n of even n: the smooth part's share of 1/r^n."""
    return missing_fraction(n // 2 - 1, (alpha * r) ** 2)


def wave_weight(n: int, alpha: float, k2: Tensor) -> Tensor:
    """psi_n(k) of k^2 > 0, Angstrom^(3-n), n = 1 or even."""
    if n == 1:
        return 4.0 * math.pi * torch.exp(k2 / (-4.0 * alpha**2)) / k2
    # (k/2)^(n-3) Gamma((3-n)/2, b^2) = alpha^(n-3) u_m with u_m = b^2m-1 Gamma(1/2 - m, b^2):
    # u_0 = sqrt(pi) erfc(b)/b and u_m = (exp(-b^2) - b^2 u_(m-1)) / (m - 1/2)
    square = k2 / (4.0 * alpha**2)
    b = square.sqrt()
    gauss, found = torch.exp(-square), math.sqrt(math.pi) * torch.erfc(b) / b
    for m in range(1, n // 2):
        found = (gauss - square * found) / (m - 0.5)
    return math.pi**1.5 / math.gamma(n / 2) * alpha ** (n - 3) * found


def at_origin(n: int, alpha: float) -> float:
    """h_n(alpha r)/r^n at r = 0, Angstrom^-n: what a source does to itself."""
    if n == 1:
        return 2.0 * alpha / math.sqrt(math.pi)
    return float(alpha**n / math.gamma(n / 2 + 1))


def zero_wave(n: int, alpha: float) -> float:
    """psi_n(0), Angstrom^(3-n); for n = 1 what is left of it beside a neutralising background."""
    if n == 1:
        return -math.pi / alpha**2
    return float(2.0 * math.pi**1.5 * alpha ** (n - 3) / ((n - 3) * math.gamma(n / 2)))


def splitting_of_power(n: int, cutoff: float, tolerance: float) -> float:
    """alpha in 1/Angstrom with g_n(alpha cutoff) = tolerance, for even n."""
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        x = torch.tensor(middle**2, dtype=torch.float64)
        above = float(torch.exp(-x) * exponential_sum(n // 2 - 1, x)) > tolerance
        low, high = (middle, high) if above else (low, middle)
    return high / cutoff
