"""The damping functions of D3: how -C6/r^6 - C8/r^8 behaves at short range.

Each is a frozen set of published parameters (lengths in Bohr, as in the literature) that gives,
per pair of elements, constants to be looked up once, and per pair the attraction per C6.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from hff_ase.errors import ConfigError
from hff_ase.terms.dispersion.reference import ReferenceTables
from hff_ase.units import BOHR


class Damping(Protocol):
    """-E_ij / C6_ij as a function of the distance."""

    def constants(self, tables: ReferenceTables) -> tuple[Tensor, ...]:
        """Constants of each two elements, each float64 [n_species, n_species]."""

    def attraction(self, distance: Tensor, constants: tuple[Tensor, ...]) -> Tensor:
        """-E_ij/C6_ij [n_pairs] in Angstrom^-6, from constants looked up for each pair."""


@dataclass(frozen=True)
class RationalDamping:
    """Becke-Johnson damping: s6/(r^6 + f^6) + s8 (C8/C6)/(r^8 + f^8), f = a1 sqrt(C8/C6) + a2.

    Grimme, Ehrlich, Goerigk, J. Comput. Chem. 32, 1456 (2011), eqs. 5 and 6. a2 in Bohr.
    """

    s8: float
    a1: float
    a2: float
    s6: float = 1.0

    name: ClassVar[str] = "bj"

    def constants(self, tables: ReferenceTables) -> tuple[Tensor, ...]:
        """s8 C8/C6, f^6 and f^8."""
        radius = self.a1 * tables.c8_over_c6.sqrt() + self.a2 * BOHR
        return self.s8 * tables.c8_over_c6, radius**6, radius**8

    def attraction(self, distance: Tensor, constants: tuple[Tensor, ...]) -> Tensor:
        """See `Damping`."""
        scaled_ratio, radius6, radius8 = constants
        r2 = distance.square()
        r6 = r2 * r2 * r2
        return self.s6 / (r6 + radius6) + scaled_ratio / (r6 * r2 + radius8)


@dataclass(frozen=True)
class ZeroDamping:
    """Damping to zero: s_n C_n/C6 r^-n / (1 + 6 (r/(rs_n R0))^-alpha_n), alpha_8 = alpha_6 + 2.

    Grimme, Antony, Ehrlich, Krieg, J. Chem. Phys. 132, 154104 (2010), eqs. 3 and 4.
    """

    s8: float
    rs6: float
    rs8: float = 1.0
    alpha6: float = 14.0
    s6: float = 1.0

    name: ClassVar[str] = "zero"

    def __post_init__(self) -> None:
        if not self.alpha6 >= 8:
            raise ConfigError(f"expected alpha6 of at least 8, got {self.alpha6}")

    def constants(self, tables: ReferenceTables) -> tuple[Tensor, ...]:
        """s8 C8/C6, 6 (rs6 R0)^alpha6 and 6 (rs8 R0)^alpha8."""
        wall6 = 6.0 * (self.rs6 * tables.vdw_radius) ** self.alpha6
        wall8 = 6.0 * (self.rs8 * tables.vdw_radius) ** (self.alpha6 + 2.0)
        return self.s8 * tables.c8_over_c6, wall6, wall8

    def attraction(self, distance: Tensor, constants: tuple[Tensor, ...]) -> Tensor:
        """See `Damping`; written so that nothing is infinite at any distance."""
        scaled_ratio, wall6, wall8 = constants
        r2 = distance.square()
        r6 = r2 * r2 * r2
        excess = r2 ** (0.5 * self.alpha6 - 3.0)  # r^(alpha_n - n), the same for both n
        return excess * (
            self.s6 / (r6 * excess + wall6) + scaled_ratio / (r6 * r2 * excess + wall8)
        )


@dataclass(frozen=True)
class CSODamping:
    """C6-only damping: [s6 + a1/(1 + exp(r - a2 R0))] / (r^6 + (a3 R0 + a4)^6), R0 = sqrt(C8/C6).

    Schroeder, Creon, Schwabe, J. Chem. Theory Comput. 11, 3163 (2015), eq. 12; the exponent is in
    Bohr, as is a4.
    """

    a1: float
    a2: float = 2.5
    a3: float = 0.0
    a4: float = 6.25
    s6: float = 1.0

    name: ClassVar[str] = "cso"

    def constants(self, tables: ReferenceTables) -> tuple[Tensor, ...]:
        """a2 R0 in Bohr and (a3 R0 + a4)^6."""
        radius = tables.c8_over_c6.sqrt()
        return self.a2 * radius / BOHR, (self.a3 * radius + self.a4 * BOHR) ** 6

    def attraction(self, distance: Tensor, constants: tuple[Tensor, ...]) -> Tensor:
        """See `Damping`."""
        reach, radius6 = constants
        r2 = distance.square()
        scale = self.s6 + self.a1 * torch.sigmoid(reach - distance / BOHR)
        return scale / (r2 * r2 * r2 + radius6)


DAMPINGS: dict[str, type[RationalDamping | ZeroDamping | CSODamping]] = {
    damping.name: damping for damping in (RationalDamping, ZeroDamping, CSODamping)
}


def make_damping(
    name: str, parameters: dict[str, Any]
) -> RationalDamping | ZeroDamping | CSODamping:
    """The damping of a name with its parameters.

    Raises:
        ConfigError: an unknown name or parameter, one missing, or a value that is not a number.
    """
    if name not in DAMPINGS:
        raise ConfigError(f"expected a damping among {sorted(DAMPINGS)}, got {name!r}")
    for key, value in parameters.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e6:
            raise ConfigError(f"expected a number for the D3 parameter {key!r}, got {value!r}")
    try:
        return DAMPINGS[name](**parameters)
    except TypeError:
        known = [field.name for field in fields(DAMPINGS[name])]
        raise ConfigError(
            f"expected the parameters {known} for {name!r} damping, got {sorted(parameters)}"
        ) from None
