"""Settings as given by a user, with the place of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hff_ase.errors import ConfigError
from hff_ase.settings.declare import names_of, section_at
from hff_ase.settings.explain import close_names
from hff_ase.settings.yaml_text import read_yaml


class Given(Mapping[str, Any]):
    """A mapping, in sections as yaml has them, that knows where its entries come from.

    Args:
        values: name -> value, or a section's name -> mapping.
        places: full name such as ``optimizer.learning_rate`` -> ``train.yaml:7`` or ``--timestep``.
    """

    def __init__(self, values: Mapping[str, Any], places: Mapping[str, str] | None = None) -> None:
        self.values_given, self.places = dict(values), dict(places or {})

    def __getitem__(self, name: str) -> Any:
        return self.values_given[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_given)

    def __len__(self) -> int:
        return len(self.values_given)

    def __repr__(self) -> str:
        return f"Given({self.values_given})"

    @classmethod
    def of(cls, source: Mapping[str, Any] | str | Path) -> Given:
        """Settings of a mapping, or of a yaml file.

        Raises:
            ConfigError: the file cannot be read.
        """
        if isinstance(source, Given):
            return source
        if isinstance(source, Mapping):
            return cls(source)
        values, lines = read_yaml(source)
        return cls(values, {name: f"{source}:{line}" for name, line in lines.items()})

    def over(self, below: Mapping[str, Any], *models: type[BaseModel]) -> Given:
        """These settings, completed by those below.

        Sections and mappings are merged; of settings that exclude each other
        (`Section.alternatives`) only those that are given here stay.
        """
        places = {**getattr(below, "places", {}), **self.places}
        return Given(layered(models, below, self), places)

    def take(self, model: type[BaseModel]) -> tuple[Given, Given]:
        """The settings of a model, and the rest."""
        names = names_of(model)
        own = {name: value for name, value in self.items() if name in names}
        rest = {name: value for name, value in self.items() if name not in names}
        return Given(own, self.places), Given(rest, self.places)

    def only(self, *names: str) -> Given:
        """Only some of the settings."""
        return Given({name: self[name] for name in names if name in self}, self.places)

    def without(self, *names: str) -> Given:
        """All settings except some."""
        rest = {name: value for name, value in self.items() if name not in names}
        return Given(rest, self.places)

    def where(self, name: str) -> str:
        """The place of a setting, as the beginning of a message; empty if unknown."""
        return f"{self.places[name]}: " if name in self.places else ""

    def check_names(self, known: Sequence[str]) -> None:
        """Refuse unknown settings.

        Raises:
            ConfigError: says where it stands, and what is spelt similarly.
        """
        for name in self:
            if name not in known:
                close = close_names(name, known)
                raise ConfigError(f"{self.where(name)}unknown setting {name!r}{close}")


def layered(
    models: Sequence[type[BaseModel]], below: Mapping[str, Any], above: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings of which those above count where both are given; what is in a mapping as well."""
    merged = dict(below)
    for model in models:
        groups: Sequence[Sequence[str]] = getattr(model, "alternatives", ())
        chosen = [group for group in groups if not above.keys().isdisjoint(group)]
        for group in groups if chosen else ():
            if group not in chosen:
                merged = {name: value for name, value in merged.items() if name not in group}
    for name, value in above.items():
        before, section = merged.get(name), section_at(models, name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            merged[name] = layered((section,) if section else (), before, value)
        else:
            merged[name] = value
    return merged


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by full names (``optimizer.learning_rate``) in their sections.

    Raises:
        ConfigError: a name is that of a value and of a section.
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        *sections, last = name.split(".")
        inner = found
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"expected a section {section!r} for {name!r}, got {inner!r:.60}")
        inner[last] = value
    return found
