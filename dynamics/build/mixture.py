"""The mixture of a recipe: names, ratio and basis, in the orders and spellings that occur."""

from __future__ import annotations

import math
import re

from hff_ase.errors import RecipeError

from .amounts import NUMBER
from .finding import UnknownNameError, find_component
from .salts import Salt

# A SMILES may hold ':', '+' and '.' inside brackets; outside, ':', '+' and ',' end the name.
OPAQUE = re.compile(r"(?i:smiles:)(?:\[[^\]\s]*\]|[^:\[\]\s,;+])*|(?i:file:)[^:\s,;+]+")
_NAME = re.compile(rf"{OPAQUE.pattern}|[^:/]+")
_PART = rf"{NUMBER}\s?%?"
RATIO = rf"{_PART}(?:\s*[:/]\s*{_PART})+"
# Basis -> spellings: v/v, v:v:v, vol, vol%, by volume, volume ratio.
_WORDS = {
    "v/v": r"v|vol|volumes?",
    "w/w": r"w|wt|weight|mass|m",
    "mol/mol": r"mol|moles?|molar|n|number|molecules",
}


def _spellings(words: str) -> str:
    pair = "|".join(rf"{word}\.?(?:[:/]{word}\.?)+" for word in words.split("|"))
    longer = "|".join(word for word in words.split("|") if len(word) > 1)
    return (
        rf"(?:in\s+|by\s+)?(?:{pair}|(?:{longer})\.?(?:\s*%|\s+ratio)?|(?:{words})%"
        rf"|%\s*(?:by\s+)?(?:{longer}))"
    )


_BASIS = {basis: _spellings(words) for basis, words in _WORDS.items()}
BASIS = "(?i:" + "|".join(f"(?:{spelling})" for spelling in _BASIS.values()) + ")"
_RATIO_GROUP = re.compile(rf"(?:{RATIO}|{NUMBER})?[\s,]*(?:{BASIS})?")
_TAIL = re.compile(rf"(?:(?P<ratio>{RATIO}|{NUMBER})|(?P<basis>{BASIS}))(?=[\s=;]|,(?:\s|$)|$)")


class RefusedError(RecipeError):
    """Text that is not a recipe; ``attempts`` are recipes that may have been meant."""

    def __init__(self, message: str, *attempts: str) -> None:
        super().__init__(message)
        self.attempts = attempts


Mixture = tuple[tuple[str, ...], tuple[float, ...], str]


def is_ratio_or_basis(text: str) -> bool:
    """Whether a piece of text is a ratio, a basis or both: "3:7", "v/v", "3:7, by weight"."""
    return bool(text.strip()) and _RATIO_GROUP.fullmatch(text.strip()) is not None


def read_mixture(text: str) -> Mixture:
    """Names, ratio and basis of "EC:EMC 3:7 w/w", "EC/EMC = 3/7 by weight", "3:7 vol EC:EMC".

    A single name has ratio (1.0,) and no basis.

    Raises RecipeError (`RefusedError` with attempts) where one of the three is missing or wrong.
    """
    names_text, ratios, bases = _three_parts(text)
    names = _read_names(names_text, ratios, bases)
    names_text = ":".join(names)
    if len(ratios) > 1 or len(bases) > 1:
        raise RefusedError(
            f"expected one ratio and one basis, got {' '.join(ratios + bases)!r}",
            f"{names_text} {ratios[0] if ratios else '1:1'} {bases[0] if bases else 'v/v'}",
        )
    if len(names) == 1:
        _check_single(names[0], text)
        return names, (1.0,), ""
    equal = ":".join("1" * len(names))
    if not ratios:
        raise RefusedError(
            f"expected a ratio for {len(names)} solvents, got none in {text!r}",
            f"{names_text} {equal} {bases[0] if bases else 'v/v'}",
        )
    ratio = _read_ratio(ratios[0], names, bases)
    if not bases:
        raise RefusedError(
            f"expected v/v, w/w or mol/mol after ratio {ratios[0]}, got none",
            f"{names_text} {ratios[0].replace('/', ':')} v/v",
            f"{names_text} {ratios[0].replace('/', ':')} mol/mol",
        )
    check_salts_in_mixture(names, ratios[0], bases[0])
    return names, ratio, bases[0]


def check_salts_in_mixture(names: tuple[str, ...], ratio: str, basis: str) -> None:
    """Refuse parts by volume of a salt that is not a liquid."""
    solid = [n for n in names if isinstance(s := find_component(n), Salt) and not s.is_ionic_liquid]
    if basis == "v/v" and solid:
        raise RefusedError(
            f"expected mol/mol or w/w for a mixture with the salt {solid[0]}, got v/v",
            f"{':'.join(names)} {ratio} mol/mol",
        )


def _three_parts(text: str) -> tuple[str, list[str], list[str]]:
    """Names text, ratios and bases: pieces that stand by themselves between spaces."""
    text = re.sub(r"\s*:\s*", ":", text.strip())
    text = re.sub(r"\s*/\s*", "/", text)
    names, ratios, bases = [], [], []
    at = 0
    while at < len(text):
        match = _TAIL.match(text, at)
        if match is None:
            word = re.compile(r"\S+").match(text, at)
            end = word.end() if word else at + 1
            names.append(text[at:end].strip(" =,;"))
        elif match["ratio"]:
            ratios.append(re.sub(r"[\s%]", "", match["ratio"]))
            end = match.end()
        else:
            basis = next(b for b, s in _BASIS.items() if re.fullmatch(s, match["basis"], re.I))
            bases.append(basis)
            end = match.end()
        at = end
        while at < len(text) and text[at] in " =,;":
            at += 1
    return " ".join(name for name in names if name), ratios, bases


def _read_names(text: str, ratios: list[str], bases: list[str]) -> tuple[str, ...]:
    parts = _split_names(text)
    try:
        names = tuple(find_component(part).name for part in parts)
    except UnknownNameError as error:
        _refuse_words(parts, ratios, bases)
        raise error
    for name in names:
        if names.count(name) > 1:
            raise RefusedError(f"expected each solvent once, got {name} {names.count(name)} times")
    return names


def _split_names(text: str) -> list[str]:
    """EC:smiles:CC[CH2:1]O/DMC -> its three names; empty ones are errors."""
    names: list[str] = []
    at = 0
    while True:
        match = _NAME.match(text, at)
        if match is None or not match[0].strip() or text[match.end() : match.end() + 1] not in ":/":
            parts = [part.strip() for part in re.split("[:/]", text) if part.strip()]
            raise RefusedError(
                f"expected solvents separated by ':', as in EC:DMC, got {text!r}",
                f"{':'.join(parts)} {':'.join('1' * len(parts))} v/v",
            )
        names.append(match[0].strip())
        if match.end() == len(text):
            return names
        at = match.end() + 1


def _refuse_words(parts: list[str], ratios: list[str], bases: list[str]) -> None:
    """State what is too much where some words are solvents; nothing where none is."""
    words = [word for part in parts for word in re.split(r"[\s-]+", part) if word]
    known = [word for word in words if _is_known(word)]
    together, equal = ":".join(known), ":".join("1" * len(known))
    ratio = ratios[0] if ratios else equal
    basis = bases[0] if bases else "v/v"
    attempts = [f"{together} {r} {basis}" for r in (ratio, equal)]
    if len(words) == len(known) > len(parts):
        got = ":".join(parts)
        raise RefusedError(
            f"expected solvents separated by ':', as in {together}, got {got!r}", *attempts
        )
    spaced = any(re.search(r"\s", part) and not _is_known(part) for part in parts)
    if known and spaced and any(_is_known(part.split()[0]) for part in parts):
        got = " ".join(word for word in words if word not in known)
        raise RefusedError(
            f"expected a ratio and v/v, w/w or mol/mol after {together}, got {got!r}", *attempts
        )


def _is_known(name: str) -> bool:
    try:
        find_component(name)
    except RecipeError:
        return False
    return True


def _check_single(name: str, text: str) -> None:
    component = find_component(name)
    if isinstance(component, Salt) and not component.is_ionic_liquid:
        raise RefusedError(
            f"{component.name} is a salt, not a solvent: expected a concentration and a solvent, "
            f"got {text!r}",
            f"1.0 M {component.name} in EC:DMC 1:1 v/v",
        )


def _read_ratio(text: str, names: tuple[str, ...], bases: list[str]) -> tuple[float, ...]:
    ratio = tuple(float(part) for part in re.split("[:/]", text))
    together, basis = ":".join(names), bases[0] if bases else "v/v"
    if len(ratio) != len(names):
        numbers = (text.replace("/", ":").split(":") + ["1"] * len(names))[: len(names)]
        raise RefusedError(
            f"expected {len(names)} numbers for {together}, got {len(ratio)} in {text!r}",
            f"{together} {':'.join(numbers)} {basis}",
        )
    if not 0 < min(ratio) <= max(ratio) < math.inf:
        raise RefusedError(
            f"expected positive numbers in the ratio, got {text!r}",
            f"{together} {':'.join('1' * len(names))} {basis}",
        )
    return ratio
