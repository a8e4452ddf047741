"""Base classes of all configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hff_ase.errors import ConfigError
from hff_ase.settings.declare import names_of
from hff_ase.settings.explain import explain
from hff_ase.settings.given import Given, layered, nested
from hff_ase.settings.yaml_text import to_yaml


class Section(BaseModel):
    """Settings that belong together: unknown names are errors.

    Class attributes:
        alternatives: groups of names that exclude each other; where one is given over a file, the
            others of the file do not count.
        defaults: instead of those of declarations that are inherited.
    """

    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, frozen=True, validate_by_name=True
    )
    alternatives: ClassVar[Sequence[Sequence[str]]] = ()
    defaults: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def load(
        cls,
        source: Self | Mapping[str, Any] | str | Path | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Self:
        """A checked configuration of anything.

        Args:
            source: one already, a mapping, a yaml file; None for the defaults only.
            overrides: settings that replace those of the source; names may be full ones, such as
                ``optimizer.learning_rate``.

        Raises:
            ConfigError: an unknown setting or a value that makes no sense; names the setting, and
                file and line, or the flag, where it was given.
        """
        if isinstance(source, cls):
            if not overrides:
                return source
            source = source.model_dump(exclude_unset=True, by_alias=True)
        given = Given.of(source if isinstance(source, (str, Path, Mapping)) else {})
        if overrides:
            above = overrides if isinstance(overrides, Given) else Given(nested(overrides))
            given = above.over(given, cls)
        try:
            return cls(**given)
        except ValidationError as error:
            raise ConfigError(explain(error, cls, given.places)) from error
        except ConfigError as error:
            cause = error.__cause__
            if isinstance(cause, ValidationError):
                raise ConfigError(explain(cause, cls, given.places)) from cause
            raise

    @classmethod
    def names(cls) -> list[str]:
        """Names of the settings."""
        return names_of(cls)

    def to_yaml(self) -> str:
        """Every setting with its value, as a valid configuration."""
        return to_yaml(self.model_dump(mode="json", by_alias=True))


class Settings(Section):
    """A whole configuration, which can also be made of keywords: ``MDConfig(time="50ps", ...)``."""

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**layered((type(self),), self.defaults, options))
        except ValidationError as error:
            raise ConfigError(explain(error, type(self))) from error
