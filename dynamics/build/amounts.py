"""Amounts in recipes: a number, a unit in one of its many spellings, and a name."""

from __future__ import annotations

import re
from dataclasses import dataclass

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"

_LITRE = r"(?:lit(?:er|re)|[Ll]|dm\^?3)"
_PER_LITRE = rf"(?:\s*/\s*|\s+per\s+){_LITRE}|\s*(?:[Ll]\^?-1|dm\^?-3)"
_MASS = r"(?:wt|w|mass|weight)"
_VOLUME = r"(?:vol|v|volume)"
_MOLE = r"(?:mol|mole|x)"
_CENT = r"(?:%|per\s?cent)"


def _percent(word: str, pair: str) -> str:
    """Spellings of "wt%": wt%, wt.%, weight percent, % w/w, % (w/w), % by weight."""
    by = rf"by\s+{word}s?"
    return rf"(?i:{word}\.?\s*{_CENT}|{_CENT}\s*\(?(?:{pair}|{word}\.?|{by})\)?(?!\w))"


# Unit of the recipe, what it is multiplied by, spellings; the first that matches counts.
_UNITS: tuple[tuple[str, float, str], ...] = (
    ("wt%", 1.0, _percent(_MASS, "w/w")),
    ("vol%", 1.0, _percent(_VOLUME, "v/v")),
    ("mol%", 1.0, _percent(_MOLE, "mol/mol|n/n")),
    ("%", 1.0, rf"(?i:{_CENT})"),
    ("M", 1e-3, rf"mM(?!\w)|mmol(?:{_PER_LITRE})"),
    ("mol/kg", 1.0, r"mol(?:\s*/\s*|\s+per\s+)kg|mol\s*kg\^?-1|molal(?!\w)|m(?!\w)"),
    ("M", 1.0, rf"M(?!\w)|mol(?:{_PER_LITRE})|(?i:molar)(?!\w)"),
)
_UNIT = "|".join(f"(?:{spelling})" for _, _, spelling in _UNITS)
_FIRST = re.compile(rf"(?P<number>{NUMBER})\s*(?P<unit>{_UNIT})(?:\s*of\s+|\s*)(?P<name>\S.*)")
_LAST = re.compile(rf"(?P<name>\S.*?)\s+(?P<number>{NUMBER})\s*(?P<unit>{_UNIT})")
# 2 % VC by weight
_AROUND = re.compile(
    rf"(?P<number>{NUMBER})\s*(?P<cent>{_CENT})\s*(?P<name>\S.*?)\s+"
    r"(?P<unit>(?i:by\s+\w+|w/w|v/v|mol/mol))"
)


@dataclass(frozen=True)
class Amount:
    """``unit`` is "M", "mol/kg", "wt%", "vol%", "mol%", or "%" without a basis."""

    number: float
    unit: str
    name: str
    text: str = ""  # as it was written


def read_amount(text: str) -> Amount | None:
    """ "0.5 M LiFSI", "VC 2 wt%", "2 % VC by weight": number, unit, name; None for other text."""
    around = _AROUND.fullmatch(text)
    if around is not None:
        unit = unit_of(f"{around['cent']} {around['unit']}")
        if unit is not None:
            return Amount(float(around["number"]), unit[0], around["name"], text)
    match = _FIRST.fullmatch(text) or _LAST.fullmatch(text)
    if match is None:
        return None
    unit = unit_of(match["unit"])
    if unit is None:
        return None
    # 50 mM is 0.05 M, not 0.05000000000000001
    number = float(f"{float(match['number']) * unit[1]:.12g}")
    return Amount(number, unit[0], match["name"].strip(), text)


def unit_of(text: str) -> tuple[str, float] | None:
    """Unit and factor of a spelling: "mmol/L" is ("M", 0.001)."""
    for unit, factor, spelling in _UNITS:
        if re.fullmatch(spelling, text.strip()):
            return unit, factor
    return None
