"""Starting values for charge equilibration, from atomic data.

Electronegativities chi, idempotentials J and Slater exponents zeta of Rappe and Goddard, J. Phys.
Chem. 95, 3358 (1991), Table I. The Gaussian of an element has the mean square radius of its ns
Slater density, 3 s^2 = (2n + 1)(2n + 2)/(4 zeta^2), but a width of at most 1.3 Angstrom: alkali
atoms in an electrolyte are ions that have lost their diffuse shell. The hardness is what is left of
J, which contains the Gaussian's self-interaction: eta = J - k_e/(sqrt(pi) s), at least J/10.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from hff_ase.errors import ConfigError
from hff_ase.units import BOHR, COULOMB_CONSTANT


class AtomicData(NamedTuple):
    """chi and J in eV, shell n, Slater exponent in 1/bohr."""

    electronegativity: float
    idempotential: float
    shell: int
    exponent: float


RAPPE_GODDARD = {
    "H": AtomicData(4.5280, 13.8904, 1, 1.0698),
    "Li": AtomicData(3.006, 4.772, 2, 0.4174),
    "C": AtomicData(5.343, 10.126, 2, 0.8563),
    "N": AtomicData(6.899, 11.760, 2, 0.9089),
    "O": AtomicData(8.741, 13.364, 2, 0.9745),
    "F": AtomicData(10.874, 14.948, 2, 0.9206),
    "Na": AtomicData(2.843, 4.592, 3, 0.4364),
    "Si": AtomicData(4.168, 6.974, 3, 0.7737),
    "P": AtomicData(5.463, 8.000, 3, 0.8257),
    "S": AtomicData(6.928, 8.972, 3, 0.8690),
    "Cl": AtomicData(8.564, 9.892, 3, 0.9154),
    "K": AtomicData(2.421, 3.840, 4, 0.4524),
    "Br": AtomicData(7.790, 8.850, 4, 1.0253),
    "Rb": AtomicData(2.331, 3.692, 5, 0.5162),
    "I": AtomicData(6.822, 7.524, 5, 1.0726),
    "Cs": AtomicData(2.183, 3.422, 6, 0.5663),
}
WIDEST = 1.3  # Angstrom


def rappe_goddard(elements: Iterable[str]) -> dict[str, dict[str, float]]:
    """The arguments ``electronegativity``, ``hardness`` (eV) and ``width`` (Angstrom) of `QEq`.

    Raises:
        ConfigError: an element that is not in the table.
    """
    tables: dict[str, dict[str, float]] = {"electronegativity": {}, "hardness": {}, "width": {}}
    for symbol in elements:
        if symbol not in RAPPE_GODDARD:
            raise ConfigError(
                f"expected elements with QEq parameters ({' '.join(RAPPE_GODDARD)}), got {symbol!r}"
            )
        chi, idempotential, shell, exponent = RAPPE_GODDARD[symbol]
        spread = math.sqrt((2 * shell + 1) * (2 * shell + 2) / 12.0) / exponent * BOHR
        width = min(spread, WIDEST)
        rest = idempotential - COULOMB_CONSTANT / (math.sqrt(math.pi) * width)
        tables["electronegativity"][symbol] = chi
        tables["hardness"][symbol] = max(rest, 0.1 * idempotential)
        tables["width"][symbol] = width
    return tables
