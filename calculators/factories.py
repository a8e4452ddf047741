"""ASE calculators by name: a function of a module or a file, or what a package has registered.

my_teacher.py:make                a function in a file
mace.calculators:mace_off         a function (or class) of an installed package
name                              an entry point of the group "hff_ase.calculators"
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from hff_ase.errors import ConfigError

GROUP = "hff_ase.calculators"
SOURCE = "hff_source"  # attribute: what a calculator was made by, which tells it from others


def names_factory(text: str) -> bool:
    """Whether a text names a factory rather than a model or its file."""
    if text.endswith(".hff"):
        return False
    return ":" in text or any(entry.name == text for entry in entry_points(group=GROUP))


def make_calculator(text: str) -> Any:
    """The calculator that a factory makes, called without arguments.

    Args:
        text: ``module:function``, ``path/to/file.py:function``, or the name of an entry point.

    Raises:
        ConfigError: no such module, file, function or entry point; or what it makes is no ASE
            calculator with forces. Errors of the factory itself go through, with their traceback.
    """
    factory = _find(text)
    calc = factory()
    if "forces" not in getattr(calc, "implemented_properties", ()):
        raise ConfigError(
            f"expected an ASE calculator with forces from {text}, got {type(calc).__name__}"
        )
    setattr(calc, SOURCE, text)
    return calc


def _find(text: str) -> Any:
    place, _, name = text.rpartition(":")
    if not place:
        for entry in entry_points(group=GROUP):
            if entry.name == text:
                return entry.load()
        raise ConfigError(
            f"expected module:function, file.py:function or an entry point of {GROUP}, got {text!r}"
        )
    found = getattr(_module(place), name, None)
    if not callable(found):
        raise ConfigError(f"expected a function {name!r} in {place}, got none")
    return found


def _module(place: str) -> Any:
    if not place.endswith(".py"):
        sys.path.insert(0, str(Path.cwd()))
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"expected a module {place!r} that can be imported, got: {error}"
            ) from None
        finally:
            sys.path.remove(str(Path.cwd()))
    path = Path(place)
    if not path.is_file():
        raise ConfigError(f"expected a file with a factory at {path}, got none")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"expected a Python file, got {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
