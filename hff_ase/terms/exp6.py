"""Exchange repulsion, dispersion and charge transfer of ByteFF-Pol between molecules' atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hff_ase.declared import Declared
from hff_ase.terms.site_pairs import Parameters, SitePairTerm, geometric_mean

FACTORS = (0.0, 0.0, 0.5)  # for atoms 1, 2, 3 bonds apart
BEYOND_FOUR = (0.0, 0.0, 0.0, 0.0)  # atoms of one molecule count from 5 bonds on
DAMPING = 120.0  # of the dispersion: damped below 120^(1/6) r0
WALL_RADIUS = 1.5  # Angstrom, where the wall is WALL_HEIGHT
WALL_HEIGHT = 0.0433641042418  # eV, 1 kcal/mol


def _mixed(first: Parameters, second: Parameters) -> tuple[Tensor, list[Tensor]]:
    """The mean of the first parameters (radii), and geometric means of the others."""
    radius = 0.5 * (first[0] + second[0])
    pairs = zip(first[1:], second[1:], strict=True)
    return radius, [geometric_mean(a * b) for a, b in pairs]


class Exp6(SitePairTerm):
    r"""Repulsion and dispersion between all pairs of atoms.

    .. math:: E_{ij} = s_{ij} \Bigl\{ 6 \epsilon e^{\lambda (1 - r/r_0)} + w (r_w/r)^{12}
        - \frac{C_6}{c\, r_0^6 + r^6} \Bigr\}

    with r0 the mean of two atoms' radii, epsilon, lambda and C6 geometric means, c = 120, and a
    wall of 1 kcal/mol at 1.5 A that keeps nuclei apart (ByteFF-Pol, arXiv 2508.08575; Nat. Commun.
    2026).

    Args:
        molecules: with ``radius`` (A), ``epsilon`` (eV), ``steepness`` (1) and ``c6`` (eV A^6).
        factors, cutoff, switch_width, tail: see `SitePairTerm`.
        damping: c.
        wall: (r_w in Angstrom, w in eV).
    """

    kind = "exp6"
    names = ("radius", "epsilon", "steepness", "c6")
    parts = ("repulsion", "dispersion")

    def __init__(
        self,
        molecules: Sequence[Mapping[str, Any]],
        factors: Sequence[float] = FACTORS,
        cutoff: float = 10.0,
        switch_width: float = 1.0,
        tail: bool = False,
        damping: float = DAMPING,
        wall: tuple[float, float] = (WALL_RADIUS, WALL_HEIGHT),
    ) -> None:
        super().__init__(molecules, factors, cutoff, switch_width, tail)
        self.damping, self.wall = float(damping), (float(wall[0]), float(wall[1]))

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().config(), "damping": self.damping, "wall": list(self.wall)}

    def declared(self) -> dict[str, Declared]:
        """Sizes and strengths of atoms."""
        return {
            "values.radius.value": Declared("A", "log", 0.05, "radii"),
            "values.epsilon.value": Declared("eV", "log", 0.3, "strength of the repulsion"),
            "values.steepness.value": Declared("1", "log", 0.1, "steepness of the repulsion"),
            "values.c6.value": Declared("eV A^6", "log", 0.2, "dispersion coefficients"),
            "damping": Declared("1", "log", 0.3, "damping of the dispersion"),
            "wall_radius": Declared("A", "log", 0.03, "where the wall is as high as wall_height"),
            "wall_height": Declared("eV", "log", 0.3, "height of the wall"),
        }

    def constants(self) -> dict[str, str]:
        """Those that are the same for all atoms."""
        return {"damping": "damping", "wall_radius": "wall.0", "wall_height": "wall.1"}

    def energy_of(
        self, parts: tuple[str, ...], r: Tensor, first: Parameters, second: Parameters
    ) -> Tensor:
        """See the class; the wall is part of the repulsion."""
        r0, (epsilon, steepness, c6) = _mixed(first, second)
        energy = torch.zeros_like(r)
        if "repulsion" in parts:
            repulsion = 6.0 * epsilon * torch.exp(steepness * (1.0 - r / r0))
            energy = repulsion + self.wall[1] * (self.wall[0] / r) ** 12
        if "dispersion" in parts:
            energy = energy - c6 / (self.damping * r0**6 + r**6)
        return energy


class ChargeTransfer(SitePairTerm):
    r"""Charge transfer between molecules, E_ij = -epsilon r^-4 exp[-(lambda r/r0)^3].

    r0 is the mean of two atoms' radii, epsilon and lambda are geometric means; atoms of one
    molecule count from five bonds on (ByteFF-Pol, as `Exp6`). With published parameters lambda of
    Li is almost zero: it attracts as r^-4 up to the cutoff.

    Args:
        molecules: with ``radius`` (A), ``strength`` (eV A^4) and ``decay`` (1).
        factors, cutoff, switch_width, tail: see `SitePairTerm`.
    """

    kind = "charge_transfer"
    names = ("radius", "strength", "decay")

    def __init__(
        self,
        molecules: Sequence[Mapping[str, Any]],
        factors: Sequence[float] = BEYOND_FOUR,
        cutoff: float = 10.0,
        switch_width: float = 1.0,
        tail: bool = False,
    ) -> None:
        super().__init__(molecules, factors, cutoff, switch_width, tail)

    def declared(self) -> dict[str, Declared]:
        """Strengths and decays."""
        return {
            "values.radius.value": Declared("A", "log", 0.05, "radii"),
            "values.strength.value": Declared("eV A^4", "log", 0.5, "strength"),
            "values.decay.value": Declared("1", "log", 0.2, "decay"),
        }

    def energy(self, r: Tensor, first: Parameters, second: Parameters) -> Tensor:
        """See the class."""
        r0, (strength, decay) = _mixed(first, second)
        return -strength * r**-4 * torch.exp(-((decay * r / r0) ** 3))
