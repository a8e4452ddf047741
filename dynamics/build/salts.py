"""Salts: whole numbers of one kind of cation and one kind of anion that make a neutral unit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from .library import Molecule, ions, spellings


@dataclass(frozen=True, eq=False)
class Salt:
    """A neutral formula unit, such as Li PF6 or Mg (TFSI)2.

    ``name`` is how recipes call it; ``n_cations`` of ``cation`` and ``n_anions`` of ``anion`` make
    it neutral.
    """

    name: str
    cation: Molecule
    anion: Molecule
    n_cations: int = 1
    n_anions: int = 1

    def __len__(self) -> int:
        return self.n_cations * len(self.cation) + self.n_anions * len(self.anion)

    @property
    def ions(self) -> tuple[tuple[Molecule, int], tuple[Molecule, int]]:
        """Its cation and its anion, each with its number in a formula unit."""
        return (self.cation, self.n_cations), (self.anion, self.n_anions)

    @property
    def extent(self) -> float:
        """Length of its longer ion, Angstrom."""
        return max(self.cation.extent, self.anion.extent)

    @property
    def mass(self) -> float:
        """Molar mass in g/mol."""
        return sum(n * ion.mass for ion, n in self.ions)

    @property
    def molar_volume(self) -> float:
        """Apparent molar volume in solution, cm3/mol."""
        return sum(n * ion.molar_volume for ion, n in self.ions)

    @property
    def is_ionic_liquid(self) -> bool:
        """Whether its cation is organic: such salts are liquids, or nearly, by themselves."""
        return "C" in self.cation.symbols


def salt_of(cation: Molecule, anion: Molecule, name: str | None = None) -> Salt:
    """The smallest neutral unit of two ions, named by its formula unless ``name`` is given."""
    common = math.lcm(cation.charge, -anion.charge)
    n_cations, n_anions = common // cation.charge, common // -anion.charge
    if name is None:
        name = _formula(cation.name, anion.name, n_cations, n_anions, "C" in cation.symbols)
    return Salt(name, cation, anion, n_cations, n_anions)


@cache
def salts() -> dict[str, Salt]:
    """Every cation with every anion, by name: LiPF6, Mg(TFSI)2, Li2SO4, EMIM-TFSI ..."""
    return {salt.name: salt for salt in (salt_of(c, a) for c, a in _pairs())}


@cache
def salt_spellings() -> dict[str, str]:
    """Every accepted spelling -> name of the salt; aliases of both ions in all combinations."""
    found: dict[str, str] = {}
    for cation, anion in _pairs():
        salt = salt_of(cation, anion)
        for c in spellings("ions", cation.name):
            for a in spellings("ions", anion.name):
                text = _formula(c, a, salt.n_cations, salt.n_anions, False)
                found.setdefault(text, salt.name)
    return found


def _pairs() -> list[tuple[Molecule, Molecule]]:
    cations = [ion for ion in ions().values() if ion.charge > 0]
    anions = [ion for ion in ions().values() if ion.charge < 0]
    return [(c, a) for c in cations for a in anions]


def _formula(cation: str, anion: str, n_cations: int, n_anions: int, hyphen: bool) -> str:
    return _times(cation, n_cations) + ("-" if hyphen else "") + _times(anion, n_anions)


def _times(name: str, number: int) -> str:
    """Li2, Cl2, (TFSI)2, (NH4)2."""
    if number == 1:
        return name
    is_element = len(name) <= 2 and name[1:] == name[1:].lower()
    return f"{name}{number}" if is_element else f"({name}){number}"
