"""Errors in settings, in one line with the place, what was expected and what was got."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from hff_ase.settings.declare import names_of, section_in

EXPECTED: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    "missing": "expected a value, got none",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected a text",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a section with settings",
    "model_attributes_type": "expected a section with settings",
    "greater_than": lambda limit: f"expected more than {limit['gt']:g}",
    "greater_than_equal": lambda limit: f"expected at least {limit['ge']:g}",
    "less_than": lambda limit: f"expected less than {limit['lt']:g}",
    "less_than_equal": lambda limit: f"expected at most {limit['le']:g}",
    "literal_error": lambda limit: "expected " + limit["expected"].replace("'", ""),
}


def explain(
    error: ValidationError, model: type[BaseModel], places: Mapping[str, str] | None = None
) -> str:
    """The first thing that is wrong with the settings of a model: misspelt names come first, since
    the rest may follow from them, and what is missing last.

    Args:
        places: full name -> where it stands.
    """
    errors = error.errors(include_url=False)
    order = {"extra_forbidden": 0, "missing": 2}
    first = min(errors, key=lambda one: order.get(one["type"], 1))
    location = [str(part) for part in first["loc"] if is_name(part)]
    name = ".".join(location)
    place = place_of(location, places or {}) if location else file_of(places or {})
    if first["type"] == "extra_forbidden":
        known = names_at(model, location[:-1])
        where = f"{place}: " if place else ""
        return f"{where}unknown setting {name!r}{close_names(location[-1], known)}"
    where = "".join(f"{part}: " for part in (place, name) if part)
    if place.startswith("-"):  # the flag is the name
        where = f"{place}: "
    if first["type"] == "value_error":
        return where + first["msg"].removeprefix("Value error, ")
    expected = EXPECTED.get(first["type"], first["msg"][0].lower() + first["msg"][1:])
    text = expected if isinstance(expected, str) else expected(first.get("ctx", {}))
    got = "" if first["type"] == "missing" else f", got {first['input']!r:.60}"
    return where + text + got


def place_of(location: Sequence[str], places: Mapping[str, str]) -> str:
    """The place of a setting, or of the closest section around it that has one."""
    for end in range(len(location), 0, -1):
        place = places.get(".".join(location[:end]))
        if place is not None:
            return place
    return ""


def file_of(places: Mapping[str, str]) -> str:
    """The file that all settings come from, if it is a single one."""
    files = {place.rpartition(":")[0] for place in places.values()}
    return files.pop() if len(files) == 1 else ""


def is_name(part: int | str) -> bool:
    """Whether a part of a location is a name or an index, and not pydantic's name for a type."""
    return isinstance(part, int) or not (
        "[" in part or part in ("str", "int", "float", "bool", "none", "dict", "constrained-str")
    )


def close_names(name: str, names: Sequence[str]) -> str:
    """A hint at the names that are spelt similarly, or at all of them."""
    matches = difflib.get_close_matches(name.replace("-", "_"), names, n=2)
    if matches:
        return f"; did you mean {' or '.join(matches)}?"
    return f"; expected one of {', '.join(names)}" if names else ""


def names_at(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Names of the settings of the section at a location."""
    found: type[BaseModel] = model
    for part in location:
        field = found.model_fields.get(part)
        if field is None:
            continue  # an index in a list
        inner = section_in(field.annotation) or section_in_entries(field.annotation)
        if inner is None:
            return []
        found = inner
    return names_of(found)


def section_in_entries(annotation: Any) -> type[BaseModel] | None:
    """The section that the entries of a list or mapping are."""
    for part in getattr(annotation, "__args__", ()):
        found = section_in(part) or section_in_entries(part)
        if found is not None:
            return found
    return None
