"""A recipe for a liquid: what it holds, and its canonical text.

    recipe    = [ salt { "+" salt } "in" ] mixture { "+" additive }
    salt      = number unit name               1.0 M LiPF6      0.5 mol/kg Mg(TFSI)2
    unit      = "M" | "mol/kg"
    mixture   = name [ ":" name ... ratio basis ]      EC:EMC 3:7 w/w
    basis     = "v/v" | "w/w" | "mol/mol"
    additive  = number percent name            2 wt% VC
    percent   = "wt%" | "vol%" | "mol%"

M is mol per litre of the whole solution, mol/kg is mol per kg of its solvents, and per cent are of
the whole solution, salt and additives included. A mixture may hold salts, as in
``LiFSI:DMC:TTE 1:1.1:3 mol/mol``. `parsing` reads this and many other spellings of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

BASES = ("v/v", "w/w", "mol/mol")
PERCENT = {"wt%": "w/w", "vol%": "v/v", "mol%": "mol/mol"}  # per cent -> what they are of


@dataclass(frozen=True)
class SaltAmount:
    """A salt by name and its concentration, in the recipe's ``unit``."""

    concentration: float
    name: str


@dataclass(frozen=True)
class Additive:
    """A solvent or salt by name and its share of the whole solution, ``percent``.

    ``unit`` is "wt%", "vol%" or "mol%" (of formula units).
    """

    percent: float
    unit: str
    name: str


@dataclass(frozen=True)
class Recipe:
    """A liquid: salts in a mixture of solvents, with additives.

    ``unit`` is "M" or "mol/kg" ("" without salt), ``basis`` one of v/v, w/w, mol/mol ("" for a
    single solvent, whose ratio is (1.0,)). ``str(recipe)`` reads back as the same recipe.
    """

    salts: tuple[SaltAmount, ...]
    unit: str
    solvents: tuple[str, ...]
    ratio: tuple[float, ...]
    basis: str
    additives: tuple[Additive, ...] = ()

    def __str__(self) -> str:
        salts = " + ".join(f"{plain(s.concentration)} {self.unit} {s.name}" for s in self.salts)
        text = f"{salts} in " if salts else ""
        text += ":".join(self.solvents)
        if self.basis:
            text += f" {':'.join(plain(part) for part in self.ratio)} {self.basis}"
        return text + "".join(f" + {plain(a.percent)} {a.unit} {a.name}" for a in self.additives)

    @property
    def names(self) -> tuple[str, ...]:
        """Salts, solvents and additives, each once, in this order."""
        return (
            *(salt.name for salt in self.salts),
            *self.solvents,
            *(additive.name for additive in self.additives),
        )


def plain(number: float) -> str:
    """Shortest decimal text that reads back as the number, never with an exponent."""
    return format(Decimal(repr(number)), "f").removesuffix(".0")
