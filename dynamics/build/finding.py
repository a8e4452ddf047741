"""From a name in a recipe to a molecule or salt: library names, ``smiles:...``, ``file:...``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache

from hff_ase.errors import RecipeError

from .library import FILE_PREFIX, SMILES_PREFIX, Molecule, ions, solvents, spellings
from .salts import Salt, salt_spellings, salts

# A name of up to this many letters is an abbreviation: one wrong letter makes another molecule.
SHORT = 5
SIMILAR = 0.75  # least similarity (difflib) of a longer name to what it may have meant
ELSE = "any molecule goes as 'smiles:...' (its SMILES) or 'file:molecule.xyz'"
ELSE_SALT = "any salt goes as 'smiles:[Li+].F[P-](F)(F)(F)(F)F'"


class UnknownNameError(RecipeError):
    """An unknown name; ``meant`` lists what may have been meant, best first."""

    def __init__(self, message: str, name: str, meant: list[str]) -> None:
        super().__init__(message)
        self.name, self.meant = name, meant


class WrongKindError(RecipeError):
    """A salt or an ion where a solvent is expected, or the reverse."""


def find_solvent(name: str) -> Molecule:
    """The neutral molecule called ``name``.

    That is a library name, alias or full name in any case, ``smiles:...``, or ``file:PATH`` with
    a structure file of one molecule.

    Raises RecipeError for an unknown name (with the nearest ones), a salt or an ion.
    """
    if name.lower().startswith(SMILES_PREFIX):
        from .from_smiles import solvent_from_smiles  # RDKit is an optional extra

        return solvent_from_smiles(name[len(SMILES_PREFIX) :])
    if name.lower().startswith(FILE_PREFIX):
        from .from_file import molecule_from_file

        return molecule_from_file(name[len(FILE_PREFIX) :])
    if (known := _solvent_names().get(folded(name))) is not None:
        return solvents()[known]
    if (salt := _salt_names().get(folded(name))) is not None:
        raise WrongKindError(
            f"{salt} is a salt, not a solvent: give it a concentration, as in '1.0 M {salt} in EC'"
        )
    if (ion := _ion_names().get(folded(name))) is not None:
        raise WrongKindError(f"{ion} is an ion: expected a neutral solvent or a salt such as LiPF6")
    raise unknown("solvent", name, _solvent_names(), ELSE)


def find_salt(name: str) -> Salt:
    """The salt called ``name`` (LiPF6, Mg(TFSI)2, EMIM-TFSI ...), or ``smiles:...`` of its ions.

    Case, brackets and hyphens do not matter. Raises RecipeError for an unknown name, with the
    nearest ones.
    """
    if name.lower().startswith(SMILES_PREFIX):
        from .from_smiles import salt_from_smiles

        return salt_from_smiles(name[len(SMILES_PREFIX) :])
    if (known := _salt_names().get(folded(name))) is not None:
        return salts()[known]
    if name.lower().startswith(FILE_PREFIX) or folded(name) in _solvent_names():
        raise WrongKindError(f"{name} is a solvent, not a salt: expected a salt such as LiPF6")
    raise unknown("salt", name, _salt_names(), ELSE_SALT)


def find_component(name: str) -> Molecule | Salt:
    """A solvent or a salt; RecipeError as `find_solvent` where it is neither."""
    if name.lower().startswith(SMILES_PREFIX) and "." in name and "+" in name:
        return find_salt(name)
    if (known := _salt_names().get(folded(name))) is not None:
        return salts()[known]
    return find_solvent(name)


def folded(name: str) -> str:
    """A spelling without case, brackets, hyphens or spaces, to compare names."""
    return re.sub(r"[\s()\[\]_-]", "", name).casefold()


def unknown(kind: str, name: str, known: Mapping[str, str], otherwise: str) -> UnknownNameError:
    """The error for a name that is not among ``known`` (folded spelling -> name)."""
    meant = nearest(folded(name), known)
    hint = f"did you mean {' or '.join(meant)}?"
    if not meant:
        hint = f"not in `hff build --list`, {otherwise}"
    return UnknownNameError(f"unknown {kind} {name!r}: {hint}", name, meant)


def nearest(name: str, known: Mapping[str, str]) -> list[str]:
    """Up to three names with a similar spelling, or that begin or end with what was typed."""
    if len(name) < 2:
        return []
    slips = [key for key in known if _one_slip(name, key)]
    if len(name) > SHORT:
        slips += difflib.get_close_matches(name, known, n=3, cutoff=SIMILAR)
        slips += [key for key in known if len(key) > SHORT and _begins_or_ends(key, name)]
    return list(dict.fromkeys(known[key] for key in slips))[:3]


def _begins_or_ends(text: str, part: str) -> bool:
    return text.startswith(part) or text.endswith(part)


def _one_slip(a: str, b: str) -> bool:
    """Whether one letter more, less or other, or two in the other order, make a into b."""
    if abs(len(a) - len(b)) > 1 or min(len(a), len(b)) < 2:
        return False
    start = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    rest_a, rest_b = a[start:], b[start:]
    swapped = rest_a[:2] == rest_b[1::-1] and rest_a[2:] == rest_b[2:]
    return swapped or rest_b in (rest_a[1:], rest_a) or rest_b[1:] in (rest_a[1:], rest_a)


@cache
def _solvent_names() -> dict[str, str]:
    return _folded_names((s, name) for name in solvents() for s in spellings("solvents", name))


@cache
def _ion_names() -> dict[str, str]:
    return _folded_names((s, name) for name in ions() for s in spellings("ions", name))


@cache
def _salt_names() -> dict[str, str]:
    return _folded_names(salt_spellings().items())


def _folded_names(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Folded spelling -> name; the first one with a spelling keeps it."""
    names: dict[str, str] = {}
    for spelling, name in pairs:
        names.setdefault(folded(spelling), name)
    return names
