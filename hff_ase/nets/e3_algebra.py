"""Tensors of O(3) as e3nn defines them: couplings, paths, spherical harmonics.

Features are [..., (l_max + 1)^2, channels]: degree l in rows l^2 ... (l + 1)^2 - 1, in e3nn's order
and basis. Every degree has the parity of the spherical harmonics, (-1)^l, so that a rotation with
inversion acts as e3nn's irreps 0e, 1o, 2e, 3o ... say. Channels come last: what a loop over edges
reads is one row of them.

e3nn takes more than a second to import and is imported where it is first needed.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


class Path(NamedTuple):
    """One coupling l1 x l2 -> l3."""

    l1: int
    l2: int
    l3: int


def dimension(l_max: int) -> int:
    """Rows of features up to a degree."""
    return (l_max + 1) ** 2


def rows(degree: int) -> slice:
    """The rows of one degree."""
    return slice(degree**2, (degree + 1) ** 2)


def paths(l1_max: int, l2_max: int, l3_max: int, symmetric: bool = False) -> tuple[Path, ...]:
    """All couplings of degrees up to the given ones that keep the natural parity.

    Args:
        symmetric: both factors are the same tensor; l1 <= l2 is enough.
    """
    return tuple(
        Path(l1, l2, l3)
        for l3 in range(l3_max + 1)
        for l1 in range(l1_max + 1)
        for l2 in range(l1 if symmetric else 0, l2_max + 1)
        if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
    )


@lru_cache(maxsize=256)
def coupling(path: Path) -> Tensor:
    """Clebsch-Gordan coefficients [2 l1 + 1, 2 l2 + 1, 2 l3 + 1], float64, e3nn's up to the norm.

    Normalised so that factors with components of variance one give components of variance one:
    sqrt(2 l3 + 1) times the 3j symbol. Not to be changed in place.
    """
    from e3nn.o3 import wigner_3j

    with torch.no_grad():
        symbol = wigner_3j(*path, dtype=torch.float64, device="cpu").clone()
    symbol[symbol.abs() < 1e-12] = 0.0  # rounding of the tables
    return symbol * math.sqrt(2 * path.l3 + 1)


def weights_of_paths(chosen: tuple[Path, ...]) -> list[float]:
    """For each path 1/sqrt(n), n the number of paths into its degree: sums have variance one."""
    into = [path.l3 for path in chosen]
    return [1.0 / math.sqrt(into.count(path.l3)) for path in chosen]


def spherical_harmonics(l_max: int, vector: Tensor) -> Tensor:
    """e3nn's real spherical harmonics [n, (l_max + 1)^2] of the directions of vectors [n, 3].

    The squares of one degree's components sum to 2 l + 1.
    """
    from e3nn import o3

    degrees = list(range(l_max + 1))
    result: Tensor = o3.spherical_harmonics(degrees, vector, True, "component")
    return result


def irreps(channels: int, l_max: int) -> str:
    """The features in e3nn's notation, e.g. 32x0e+32x1o+32x2e."""
    return "+".join(f"{channels}x{degree}{'eo'[degree % 2]}" for degree in range(l_max + 1))
