"""Reading settings: yaml with line numbers, overrides, and messages that name key and line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from hff_ase.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """yaml 1.1 takes 1e-4 for a text; everybody means the number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read_yaml(
    path: str | Path, overrides: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, int]]:
    """The settings in a yaml file with some replaced, and the line of each key ("a.b" -> line).

    Raises:
        ConfigError: the file cannot be read, is no yaml, or holds no mapping; an override is not
            "key=value".
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            content = loader.construct_document(node) if node is not None else {}
        finally:
            loader.dispose()
    except OSError as error:
        raise ConfigError(f"cannot read the settings in {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        reason = getattr(error, "problem", None) or "no text"
        raise ConfigError(f"expected yaml in {path}, got something else: {reason}{place}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"expected 'section:' lines in {path}, got {content!r:.60}")
    lines = dict(_lines(node)) if node is not None else {}
    for override in overrides:
        _replace(content, override)
        lines.pop(override.partition("=")[0].strip(), None)
    return content, lines


def _lines(node: yaml.Node, prefix: str = "") -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            found += [(name, key.start_mark.line + 1), *_lines(value, name + ".")]
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            name = f"{prefix}{index}"
            found += [(name, value.start_mark.line + 1), *_lines(value, name + ".")]
    return found


def _replace(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"expected section.key=value, got {override!r}")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise ConfigError(f"expected a value in {override!r}, got {text!r}") from None
    for part in parts[:-1]:
        content = content.setdefault(part, {})
        if not isinstance(content, dict):
            raise ConfigError(f"expected a section {part!r} for {key!r}, got {content!r:.60}")
    content[parts[-1]] = value


def explain(
    error: ValidationError, model: type[BaseModel], lines: Mapping[str, int] | None = None
) -> str:
    """The first thing that is wrong, in one line that names key, line and what was expected."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    place = ""
    for end in range(len(location), 0, -1):  # the closest key that the file holds
        line = (lines or {}).get(".".join(location[:end]))
        if line is not None:
            place = f" (line {line})"
            break
    if first["type"] == "extra_forbidden":
        hint = close_names(location[-1], fields_at(model, location[:-1]))
        return f"unknown setting {key!r}{place}{hint}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{key}{place}: {message}" if key else message
    return f"{key}{place}: {message[0].lower()}{message[1:]}, got {first['input']!r:.60}"


def close_names(name: str, names: Sequence[str]) -> str:
    """A hint at the names that are spelt alike, or at all of them."""
    matches = difflib.get_close_matches(name.replace("-", "_"), names, n=2)
    if matches:
        return f"; did you mean {' or '.join(matches)}?"
    return f"; expected one of {', '.join(names)}" if names else ""


def fields_at(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Names of the fields of the (nested) model at a location."""
    found = model
    for part in location:
        field = found.model_fields.get(part)
        if field is None:
            continue  # an index in a list
        inner = _models_in(field.annotation)
        if inner is None:
            return []
        found = inner
    return list(found.model_fields)


def _models_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        inner = _models_in(part)
        if inner is not None:
            return inner
    return None
