"""The grammar of a recipe for a liquid.

    recipe   = [ salt { "+" salt } "in" ] solvents
    salt     = number unit name             1.0 M LiPF6      0.5 mol/kg NaFSI
    unit     = "M" | "mol/L" | "m" | "molal" | "mol/kg"
    solvents = name { ":" name } [ number { ":" number } basis ]
    basis    = "v/v" | "w/w" | "mol/mol"    (repeated, as in v/v/v, means the same)

M is mol per litre of solution, m (mol/kg) is mol per kg of solvent. Names are the library's in
any case, or ``smiles:...`` for a solvent.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal

from hff_ase.errors import RecipeError

from .library import find_salt, find_solvent

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
UNITS = {"M": "M", "mol/L": "M", "mol/l": "M", "m": "mol/kg", "molal": "mol/kg", "mol/kg": "mol/kg"}
BASES = ("v/v", "w/w", "mol/mol")

# A SMILES may hold ':' inside brackets, [CH3:1], but not outside: there it ends the name.
_NAME = re.compile(r"smiles:(?:\[[^\]]*\]|[^:\[\]])*|[^:/,;]+", re.IGNORECASE)
_SALT = re.compile(rf"(?P<number>{NUMBER})\s*(?P<rest>.*)")


@dataclass(frozen=True)
class SaltAmount:
    """A salt by name and its concentration, in the recipe's ``unit``."""

    concentration: float
    name: str


@dataclass(frozen=True)
class Recipe:
    """A liquid: salts in solvents.

    ``unit`` is "M" or "mol/kg" ("" without salt), ``basis`` one of v/v, w/w, mol/mol ("" for a
    single solvent, whose ratio is (1.0,)). ``str(recipe)`` reads back as the same recipe.
    """

    salts: tuple[SaltAmount, ...]
    unit: str
    solvents: tuple[str, ...]
    ratio: tuple[float, ...]
    basis: str

    def __str__(self) -> str:
        salts = " + ".join(f"{_plain(s.concentration)} {self.unit} {s.name}" for s in self.salts)
        text = f"{salts} in " if salts else ""
        text += ":".join(self.solvents)
        if self.basis:
            text += f" {':'.join(_plain(part) for part in self.ratio)} {self.basis}"
        return text


def parse_recipe(text: str) -> Recipe:
    """Read a recipe such as "0.5 M LiPF6 + 0.5 M LiFSI in EC:EMC 3:7 w/w", or "DMC".

    Raises RecipeError, in one line, for anything that is not one.
    """
    text = " ".join(text.split())
    if not text:
        raise RecipeError("expected a recipe such as '1.0 M LiPF6 in EC:DMC 1:1 v/v', got nothing")
    salt_text, separator, solvent_text = text.rpartition(" in ")
    if not separator and re.match(NUMBER, text):
        raise RecipeError(f"expected 'in' and a solvent after the salt, got {text!r}")
    salts, unit = _parse_salts(salt_text) if separator else ((), "")
    solvents, ratio, basis = _parse_solvents(solvent_text)
    return Recipe(salts, unit, solvents, ratio, basis)


def _parse_salts(text: str) -> tuple[tuple[SaltAmount, ...], str]:
    parsed = [_parse_salt(part.strip()) for part in text.split("+")]
    units = list(dict.fromkeys(unit for _, unit in parsed))
    if len(units) > 1:
        raise RecipeError(f"expected one unit for all salts, got {' and '.join(units)} in {text!r}")
    salts = tuple(salt for salt, _ in parsed)
    _reject_repeats("salt", [salt.name for salt in salts])
    return salts, units[0]


def _parse_salt(text: str) -> tuple[SaltAmount, str]:
    match = _SALT.fullmatch(text)
    if match is None:
        raise RecipeError(f"expected a salt such as '1.0 M LiPF6' before 'in', got {text!r}")
    words = match["rest"].split()
    if not words or words[0] not in UNITS:
        raise RecipeError(
            f"expected a unit, M (mol/L) or m (mol/kg), after {match['number']}, got {text!r}"
        )
    if len(words) != 2:
        raise RecipeError(f"expected one salt after '{match['number']} {words[0]}', got {text!r}")
    concentration = float(match["number"])
    if not 0 < concentration < math.inf:
        raise RecipeError(
            f"expected a positive concentration, got {match['number']} {words[0]} {words[1]}"
        )
    return SaltAmount(concentration, find_salt(words[1]).name), UNITS[words[0]]


def _parse_solvents(text: str) -> tuple[tuple[str, ...], tuple[float, ...], str]:
    names_text, *tail = re.sub(r"\s*:\s*", ":", text.strip()).split(" ", 1)
    names = [find_solvent(name).name for name in _split_names(names_text)]
    _reject_repeats("solvent", names)
    words = tail[0].strip("() ").split() if tail else []
    if not words:
        if len(names) > 1:
            raise RecipeError(
                f"expected a ratio for {len(names)} solvents, as in "
                f"'{names_text} {':'.join('1' * len(names))} v/v', got none"
            )
        return (names[0],), (1.0,), ""
    ratio = _parse_ratio(words[0], names)
    if len(words) != 2 or (basis := _basis(words[1], len(names))) is None:
        got = " ".join(words[1:]) or "none"
        raise RecipeError(f"expected v/v, w/w or mol/mol after ratio {words[0]}, got {got!r}")
    # the ratio of a single solvent says nothing
    return (tuple(names), ratio, basis) if len(names) > 1 else ((names[0],), (1.0,), "")


def _split_names(text: str) -> list[str]:
    """EC:smiles:CC[CH2:1]O:DMC -> its three names; empty ones are errors."""
    names: list[str] = []
    at = 0
    while True:
        match = _NAME.match(text, at)
        ended = match is not None and text[match.end() : match.end() + 1] in ("", ":")
        if match is None or not ended:
            raise RecipeError(f"expected solvents separated by ':', as in EC:DMC, got {text!r}")
        names.append(match[0])
        if match.end() == len(text):
            return names
        at = match.end() + 1


def _parse_ratio(text: str, names: list[str]) -> tuple[float, ...]:
    parts = text.split(":")
    if not all(re.fullmatch(NUMBER, part) for part in parts):
        raise RecipeError(f"expected a ratio such as 1:1 after the solvents, got {text!r}")
    if len(parts) != len(names):
        raise RecipeError(
            f"expected {len(names)} numbers for {':'.join(names)}, got {len(parts)} in {text!r}"
        )
    ratio = tuple(float(part) for part in parts)
    if not 0 < min(ratio) <= max(ratio) < math.inf:
        raise RecipeError(f"expected positive numbers in the ratio, got {text!r}")
    return ratio


def _basis(text: str, n_solvents: int) -> str | None:
    letters = text.lower().split("/")
    basis = f"{letters[0]}/{letters[0]}"
    same = len(set(letters)) == 1 and 2 <= len(letters) <= max(2, n_solvents)
    return basis if same and basis in BASES else None


def _reject_repeats(kind: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(f"expected each {kind} once, got {name} {names.count(name)} times")


def _plain(number: float) -> str:
    """Shortest decimal text that reads back as the number, never with an exponent."""
    return format(Decimal(repr(number)), "f").removesuffix(".0")
