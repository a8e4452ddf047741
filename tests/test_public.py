"""What is public: the reference pages, ``__all__`` of their modules, docstrings that say enough."""

from __future__ import annotations

import importlib
import inspect
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, get_args

import pytest

PAGES = Path(__file__).resolve().parents[1] / "docs" / "api"
ENTRY = re.compile(r"^\.\. auto(\w+):: (hff_ase[\w.]*)\n((?:   :.*\n)*)", re.M)
OPTIONAL = {"hff_ase.dynamics.torchsim": "torch_sim", "hff_ase.dynamics.pimd": "ipi"}


def entries() -> dict[str, dict[str, str]]:
    """Name by name of what the pages hold, by module, with the options of each entry."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for page in sorted(PAGES.glob("*.md")):
        for kind, path, options in ENTRY.findall(page.read_text(encoding="utf-8")):
            if kind != "module":
                module, _, name = path.rpartition(".")
                found[module][name] = options
    return found


def load(module: str) -> Any:
    if module in OPTIONAL:
        pytest.importorskip(OPTIONAL[module])
    return importlib.import_module(module)


PUBLIC = entries()
NAMES = {name for names in PUBLIC.values() for name in names}
THINGS = [(module, name) for module, names in PUBLIC.items() for name in names]


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_a_module_lists_what_its_page_holds(module: str) -> None:
    listed = set(load(module).__all__)
    assert set(PUBLIC[module]) <= listed
    # what another module's entry documents, or a table of such things, may be listed as well
    assert {name for name in listed - NAMES if not name.isupper()} == set()


def words_missing(thing: Any, documentation: str) -> list[str]:
    """Arguments that a docstring does not mention."""
    parameters = list(inspect.signature(thing).parameters)
    given = ("self", "cls", "args", "kwargs")
    asked = [name for name in parameters if name not in given and not name.startswith("_")]
    fields = getattr(thing, "model_fields", {})  # settings are described where they are declared
    asked = [name for name in asked if name not in fields or not is_described(fields[name])]
    return [name for name in asked if not re.search(rf"\b{name}\b", documentation)]


def is_described(field: Any) -> bool:
    """Whether a setting has a description, or is a section, whose class has one."""
    kinds = (field.annotation, *get_args(field.annotation))
    return bool(field.description) or any(hasattr(kind, "model_fields") for kind in kinds)


@pytest.mark.parametrize(("module", "name"), THINGS)
def test_what_is_public_says_what_it_takes(module: str, name: str) -> None:
    thing = getattr(load(module), name)
    documentation = inspect.getdoc(thing) or ""
    assert documentation, "no docstring"
    if inspect.isclass(thing):
        documentation += inspect.getdoc(thing.__init__) or ""
    missing = words_missing(thing, documentation) if not issubclass_of(thing, Exception) else []
    # one argument is explained by the sentence
    assert missing == [] or len(inspect.signature(thing).parameters) == 1


def issubclass_of(thing: Any, kind: type) -> bool:
    return inspect.isclass(thing) and issubclass(thing, kind)


@pytest.mark.parametrize(
    ("module", "name"), [(m, n) for m, n in THINGS if ":no-members:" not in PUBLIC[m][n]]
)
def test_methods_of_public_classes_say_what_they_take(module: str, name: str) -> None:
    thing = getattr(load(module), name)
    if not inspect.isclass(thing):
        return
    for member, value in vars(thing).items():
        if member.startswith("_"):
            continue
        function = getattr(value, "__func__", value)
        if not (inspect.isfunction(function) or isinstance(value, property)):
            continue
        documentation = inspect.getdoc(getattr(thing, member)) or ""
        assert documentation, f"{member}: no docstring"
        inherited = any(hasattr(base, member) for base in thing.__mro__[1:])
        if isinstance(value, property) or inherited:
            continue  # its contract is that of the base
        missing = words_missing(function, documentation)
        own = ("self", "cls")
        n_arguments = len([p for p in inspect.signature(function).parameters if p not in own])
        assert missing == [] or n_arguments == 1, f"{member}: {missing}"
