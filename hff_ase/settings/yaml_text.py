"""Settings from and to yaml, with the line of each key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hff_ase.errors import ConfigError

if TYPE_CHECKING:
    import yaml


@cache
def loader() -> type[yaml.SafeLoader]:
    """A reader without what runs code; yaml 1.1 takes 1e-4 for a text, but everybody means the
    number."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
        list("-+0123456789."),
    )
    return Loader


def read_yaml(path: str | Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The settings in a yaml file, unchecked, and the line of each key ("a.b" -> line).

    Raises:
        ConfigError: the file cannot be read, is not yaml, or holds no mapping.
    """
    import yaml

    try:
        reader = loader()(Path(path).read_text(encoding="utf-8"))
        try:
            node = reader.get_single_node()
            content = reader.construct_document(node) if node is not None else {}
        finally:
            reader.dispose()
    except OSError as error:
        raise ConfigError(f"cannot read the settings in {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else f"{path}"
        reason = getattr(error, "problem", None) or "no text"
        raise ConfigError(f"{place}: expected yaml, got something else: {reason}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected 'setting: value' lines, got {content!r:.60}")
    lines = {} if node is None else dict(_lines(node, ""))
    return {str(key): value for key, value in content.items()}, lines


def _lines(node: yaml.Node, prefix: str) -> list[tuple[str, int]]:
    import yaml

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


def yaml_value(text: str) -> Any:
    """The value of a text in yaml.

    Raises:
        ConfigError: it is none.
    """
    import yaml

    try:
        return yaml.load(text, loader())
    except yaml.YAMLError:
        raise ConfigError(f"expected a value as in yaml, got {text!r}") from None


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Settings such as ``optimizer.learning_rate=1e-3``, as `Section.load` takes them.

    Raises:
        ConfigError: an invalid text.
    """
    found = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not all(name.strip().split(".")):
            raise ConfigError(f"expected section.key=value, got {text!r}")
        found[name.strip()] = yaml_value(value)
    return found


def to_yaml(content: Mapping[str, Any]) -> str:
    """Yaml text, keys in the order given."""
    import yaml

    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
