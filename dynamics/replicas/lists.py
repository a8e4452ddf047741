"""Settings of replicas that may be lists: files, and numbers such as "280,300"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hff_ase.errors import ConfigError
from hff_ase.settings import Given

Check = Callable[[list[Any], str], list[Any]]


def listed(value: object) -> list[Any]:
    """A list as it is, anything else as a list of one."""
    if isinstance(value, (list, tuple)):
        return list(value)
    return [value]


def files(value: object, given: Given, check: Check) -> tuple[str | None, ...]:
    """Structure files.

    Args:
        given: knows where they stand.
        check: refuses what may not be twice.

    Raises:
        ConfigError: no files, or something that is not text.
    """
    found = listed(value)
    if found == [None] or (found and all(entry is None for entry in found)):
        return tuple(found)
    if not found or not all(isinstance(entry, str) for entry in found):
        raise ConfigError(f"{given.where('structure')}expected structure files, got {value!r}")
    return tuple(check(found, "structure"))


def numbers(name: str, value: object, given: Given, check: Check) -> tuple[float, ...]:
    """One number or several, from a list or a text such as "280,300".

    Args:
        given: knows where it stands.
        check: refuses what may not be twice.

    Raises:
        ConfigError: something else, or a number twice.
    """
    parts = value.split(",") if isinstance(value, str) else listed(value)
    try:
        found = [float(part) for part in parts]
    except (TypeError, ValueError):
        found = []
    if not found:
        raise ConfigError(
            f"{given.where(name)}expected numbers such as 280,300 for {name}, got {value!r}"
        )
    return tuple(check(found, name))


def unique(values: list[Any], name: str) -> list[Any]:
    """The values.

    Raises:
        ConfigError: a repeated value.
    """
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(
                f"expected every {name} once (replicas makes several of each; combine: paired "
                f"takes lists side by side), got {value} again"
            )
    return values


def repeated(values: list[Any], name: str) -> list[Any]:
    """The values; repeated ones are allowed."""
    return values
