"""Reading recipes as people type them; errors suggest a spelling that works."""

from __future__ import annotations

import math
import re
import unicodedata

from hff_ase.errors import RecipeError

from .amounts import NUMBER, Amount, read_amount
from .finding import UnknownNameError, WrongKindError, find_component, find_salt
from .mixture import (
    OPAQUE,
    Mixture,
    RefusedError,
    check_salts_in_mixture,
    is_ratio_or_basis,
    read_mixture,
)
from .recipe import PERCENT, Additive, Recipe, SaltAmount, plain

EXAMPLE = "1.0 M LiPF6 in EC:DMC 1:1 v/v"
_IN = re.compile(r"\s+(?:dissolved\s+)?in\s+(?!%)")
_AND = re.compile(r"\s*[+&;]\s*|\s*,\s+|\s+(?:and|plus|with)\s+")
_PLACE = 0xE000  # private characters stand for SMILES and paths while the rest is read


def parse_recipe(text: str) -> Recipe:
    """Read a recipe such as "1 M LiPF6 + 0.1 M LiFSI in EC/EMC 3:7 by weight, plus 2 wt% VC".

    Raises RecipeError, in one line, for anything that is not one; it ends with a recipe that is.
    """
    text = _clean(text)
    try:
        return _read(text)
    except UnknownNameError as error:
        attempts = [text.replace(error.name, meant, 1) for meant in error.meant]
        raise _answered(error, [*attempts, EXAMPLE] if attempts else []) from None
    except (RefusedError, WrongKindError) as error:
        raise _answered(error, [*getattr(error, "attempts", ()), EXAMPLE]) from None


def _answered(error: RecipeError, attempts: list[str]) -> RecipeError:
    """The error with the first attempt that can be read."""
    for attempt in attempts:
        try:
            _read(_clean(attempt))
        except RecipeError:
            continue
        return RecipeError(f"{error}; try '{attempt}'")
    return RecipeError(str(error))


def _clean(text: str) -> str:
    """One kind of digits, dashes and spaces: superscripts, full-width signs and the like go."""
    text = unicodedata.normalize("NFKC", text)
    text = re.sub("[\u2010-\u2015\u2212]", "-", text).replace("\u00b7", " ").replace("\u22c5", " ")
    return " ".join(text.split()).removesuffix(".").strip()


def _read(text: str) -> Recipe:
    if not text:
        raise RefusedError("expected a recipe, got nothing")
    opaque: list[str] = []

    def hide(match: re.Match[str]) -> str:
        opaque.append(match[0])
        return chr(_PLACE + len(opaque) - 1)

    shown = text
    if not any(_PLACE <= ord(character) < _PLACE + 0x1900 for character in text):
        text = OPAQUE.sub(hide, text)
    if comma := re.search(r"(?<![\w,.])(\d+),(\d+)(?=\s|[A-Za-z%:])", text):
        number = f"{comma[1]}.{comma[2]}"
        raise RefusedError(
            f"expected a unit and a name after a number such as {number}, got {comma[0]!r}",
            shown.replace(comma[0], number),
        )
    text = _without_parentheses(text)
    sides = _IN.split(text)
    if len(sides) > 2:
        raise RefusedError(f"expected one 'in', between salts and solvents, got {shown!r}")

    def name_of(part: str) -> str:
        return "".join(
            opaque[ord(c) - _PLACE] if 0 <= ord(c) - _PLACE < len(opaque) else c for c in part
        )

    salts, mixture, added = _sides([[name_of(p) for p in _AND.split(s)] for s in sides], shown)
    return _assemble(salts, mixture, added, shown)


def _without_parentheses(text: str) -> str:
    """ "EC:DMC (1:1, v/v)" without its parentheses; those of Mg(TFSI)2 stay."""

    def open_up(match: re.Match[str]) -> str:
        return f" {match[1]} " if is_ratio_or_basis(match[1]) else match[0]

    text = re.sub(r"\(([^()]*)\)", open_up, text)
    text = re.sub(r"(?:^|(?<=\s))\(([^()]*)\)(?=$|[\s,;+])", r" \1 ", text)
    return " ".join(text.split())


def _sides(sides: list[list[str]], shown: str) -> tuple[list[Amount], Mixture, list[Amount]]:
    """Amounts before "in", the mixture, and the amounts that follow it."""
    salts = [_amount(part, shown) for part in sides[0]] if len(sides) == 2 else []
    parts: list[str] = []
    for part in sides[-1]:  # "EC:DMC, 1:1 v/v": a ratio belongs to what precedes it
        if parts and is_ratio_or_basis(part):
            parts[-1] += f" {part}"
        else:
            parts.append(part)
    amounts = [read_amount(part) for part in parts]
    if amounts[0] is None:
        if len(sides) == 1 and re.match(rf"{NUMBER}\s*[A-Za-z%]", parts[0]):
            _refuse_without_in(shown)
        return salts, read_mixture(parts[0]), [_amount(part, shown) for part in parts[1:]]
    whole = [amount for amount in amounts if amount is not None]
    if len(whole) < len(parts) or {amount.unit for amount in whole} - set(PERCENT):
        _refuse_without_in(shown)
    return salts, _mixture_of_percent(whole), []


def _refuse_without_in(shown: str) -> None:
    words = shown.split()
    raise RefusedError(
        f"expected 'in' and a solvent after the salt, got {shown!r}",
        *(" ".join([*words[:k], "in", *words[k:]]) for k in range(2, len(words))),
        f"{shown} in EC:DMC 1:1 v/v",
    )


def _mixture_of_percent(amounts: list[Amount]) -> Mixture:
    """ "30 wt% EC + 70 wt% EMC" as EC:EMC 30:70 w/w."""
    names = tuple(find_component(amount.name).name for amount in amounts)
    total = math.fsum(amount.number for amount in amounts)
    units = {amount.unit for amount in amounts}
    ratio = ":".join(plain(amount.number) for amount in amounts)
    basis = PERCENT[amounts[0].unit]
    if len(units) > 1 or abs(total - 100.0) > 0.5 or min(a.number for a in amounts) <= 0:
        raise RefusedError(
            f"expected parts that add up to 100 {amounts[0].unit}, got {plain(total)}",
            f"{':'.join(names)} {ratio} {basis}" if len(names) > 1 else names[0],
        )
    if len(names) == 1:
        return read_mixture(names[0])
    check_salts_in_mixture(names, ratio, basis)
    return names, tuple(amount.number for amount in amounts), basis


def _amount(part: str, shown: str) -> Amount:
    """A salt or an additive; anything else is refused, with what it may have meant."""
    amount = read_amount(part)
    if amount is not None and amount.unit != "%":
        return amount
    if amount is not None:
        number = plain(amount.number)
        raise RefusedError(
            f"expected per cent by weight, volume or mole, as in '{number} wt% {amount.name}', "
            f"got {part!r}",
            shown.replace(part, f"{number} wt% {amount.name}"),
        )
    match = re.fullmatch(rf"({NUMBER})\s*(.*)", part)
    if match is None:
        raise RefusedError(
            f"expected a salt such as '1.0 M LiPF6' or an additive such as '2 wt% VC', "
            f"got {part!r}",
            shown.replace(part, f"1.0 M {part}"),
            shown.replace(part, f"2 wt% {part}"),
            re.sub(r"\s*(?:[+&;]|,\s)\s*", ":", shown),
        )
    rest = match[2].split()
    raise RefusedError(
        f"expected a unit, M (mol/L) or m (mol/kg), after {match[1]}, or wt%, got {part!r}",
        *(
            shown.replace(part, f"{match[1]} {unit} {' '.join(words)}")
            for words in (rest, rest[1:])
            for unit in ("M", "wt%")
            if words
        ),
    )


def _assemble(salts: list[Amount], mixture: Mixture, added: list[Amount], shown: str) -> Recipe:
    names, ratio, basis = mixture
    amounts = [*salts, *added]
    for amount in amounts:
        if not 0 < amount.number < math.inf:
            raise RefusedError(
                f"expected a positive concentration, got {plain(amount.number)} {amount.unit} "
                f"{amount.name}",
                shown.replace(plain(amount.number), "1"),
            )
    dissolved = [amount for amount in amounts if amount.unit not in PERCENT]
    units = list(dict.fromkeys(amount.unit for amount in dissolved))
    if len(units) > 1:
        unit = units[0]
        parts = " + ".join(f"{plain(a.number)} {unit} {a.name}" for a in dissolved)
        raise RefusedError(
            f"expected one unit for all salts, got {' and '.join(units)} in {shown!r}",
            str(Recipe((), "", names, ratio, basis)).join([f"{parts} in ", ""]),
        )
    recipe = Recipe(
        tuple(SaltAmount(a.number, _salt_name(a, shown)) for a in dissolved),
        units[0] if units else "",
        names,
        ratio,
        basis,
        tuple(
            Additive(a.number, a.unit, find_component(a.name).name)
            for a in amounts
            if a.unit in PERCENT
        ),
    )
    _check_whole(recipe)
    return recipe


def _salt_name(amount: Amount, shown: str) -> str:
    try:
        return find_salt(amount.name).name
    except UnknownNameError:
        words = amount.name.split()
        unit = f"{plain(amount.number)} {amount.unit}"
        if len(words) > 1:
            raise RefusedError(
                f"expected one salt after '{unit}', got {amount.name!r}",
                shown.replace(amount.name, f" + {unit} ".join(words)),
                shown.replace(amount.name, words[0]),
            ) from None
        raise
    except WrongKindError as error:
        raise RefusedError(str(error), shown.replace(amount.text, f"2 wt% {amount.name}")) from None


def _check_whole(recipe: Recipe) -> None:
    """Refuse a name that comes twice, and additives that leave nothing of the mixture."""
    kinds = {
        **dict.fromkeys(recipe.solvents, "solvent"),
        **{s.name: "salt" for s in recipe.salts},
    }
    for name in recipe.names:
        if recipe.names.count(name) > 1:
            kind = kinds.get(name, "additive")
            raise RefusedError(
                f"expected each {kind} once, got {name} {recipe.names.count(name)} times"
            )
    for unit in PERCENT:
        total = math.fsum(a.percent for a in recipe.additives if a.unit == unit)
        if total >= 100.0:
            raise RefusedError(
                f"expected additives of less than 100 {unit} in all, got {plain(total)}",
                str(Recipe(recipe.salts, recipe.unit, recipe.solvents, recipe.ratio, recipe.basis)),
            )
