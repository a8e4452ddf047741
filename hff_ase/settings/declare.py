"""One declaration per setting, and what can be read from it."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from hff_ase.settings.times import Femtoseconds, LengthOfTime

REQUIRED: Any = ...
SIGNS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def setting(
    default: Any,
    help: str,
    *,
    unit: str = "",
    panel: str = "",
    short: str = "",
    positional: bool = False,
    commas: bool = False,
    metavar: str = "",
    shown: str = "",
    **bounds: Any,
) -> Any:
    """Declare a setting, as the default of an annotated attribute of a `Section`.

    Args:
        default: `REQUIRED` where there is none.
        help: what it is, in a sentence for the command line and the reference, without the unit
            and the default.
        unit: of a number.
        panel: of the help on the command line.
        short: a further flag such as ``-o``.
        positional: given on the command line by its place, without a flag.
        commas: several values can be given in one text, ``280,300``.
        metavar: what the help calls a value, such as FILE.
        shown: what the help says the default is, where it is not the value itself.
        bounds: ``ge``, ``gt``, ``le``, ``lt`` and ``alias`` of pydantic.
    """
    about: dict[str, Any] = {
        "unit": unit,
        "panel": panel,
        "short": short,
        "positional": positional,
        "commas": commas,
        "metavar": metavar,
        "shown": shown,
    }
    return Field(default, description=help, json_schema_extra=about, **bounds)


@dataclass(frozen=True)
class DeclaredSetting:
    """The contents of a declaration.

    Attributes:
        name: key in yaml, with those of its sections: ``optimizer.learning_rate``.
        kind: switch, number, whole number, choice, text, time (of an integrator), duration, list
            or mapping.
        item: of a list: the kind of its entries.
        choices: the texts that are possible.
        bounds: in words.
        default: None if there is none, or where it is required.
        one_of_many: a list whose only entry can stand for it.
    """

    name: str
    help: str
    kind: str
    item: str = ""
    choices: tuple[str, ...] = ()
    bounds: str = ""
    unit: str = ""
    default: Any = None
    required: bool = False
    panel: str = ""
    short: str = ""
    positional: bool = False
    commas: bool = False
    metavar: str = ""
    shown: str = ""
    optional: bool = False
    one_of_many: bool = False

    @property
    def flag(self) -> str:
        """The option of the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def shown_default(self) -> str:
        """The default as help and reference show it; empty if there is none."""
        if self.shown:
            return self.shown
        if self.required or self.default in (None, (), [], {}, ""):
            return ""
        if self.kind == "switch":
            return "yes" if self.default else "no"
        unit = f" {self.unit}" if self.unit else ""
        if isinstance(self.default, (tuple, list)):
            return ", ".join(str(entry) for entry in self.default) + unit
        return (
            f"{self.default:g}" if isinstance(self.default, float) else f"{self.default}"
        ) + unit


def declared(
    model: type[BaseModel],
    *,
    without: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    prefix: str = "",
    panel: str = "",
) -> list[DeclaredSetting]:
    """The settings of a model and of its sections, in order.

    Args:
        without: names to leave out.
        defaults: instead of those of the declarations.
    """
    defaults = {**getattr(model, "defaults", {}), **(defaults or {})}
    found: list[DeclaredSetting] = []
    for attribute, field in model.model_fields.items():
        name = field.alias or attribute
        if name in without:
            continue
        section = section_in(field.annotation)
        if section is not None:
            inner = defaults.get(name) or {}
            full = f"{prefix}{name}"
            found += declared(section, defaults=inner, prefix=f"{full}.", panel=full)
        else:
            found.append(_declared(prefix + name, field, panel, defaults.get(name, REQUIRED)))
    return found


def _declared(name: str, field: FieldInfo, panel: str, replaced: Any) -> DeclaredSetting:
    extra = field.json_schema_extra
    about: dict[str, Any] = dict(extra) if isinstance(extra, dict) else {}
    about["panel"] = about.get("panel") or panel
    marks = list(field.metadata)
    alternatives = [part for part in parts_of(field.annotation, marks) if part is not type(None)]
    kind, item, choices = kind_of(alternatives, marks)
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if replaced is not REQUIRED:
        default = replaced
    return DeclaredSetting(
        name=name,
        help=field.description or "",
        kind=kind,
        item=item,
        choices=choices,
        bounds=bounds_of(marks),
        default=default,
        required=field.is_required() and replaced is REQUIRED,
        optional=type(None) in parts_of(field.annotation, []),
        **about,
    )


def parts_of(annotation: Any, marks: list[Any]) -> list[Any]:
    """The alternatives of a type; annotations are collected in the marks."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        marks += metadata
        return parts_of(inner, marks)
    if origin in (Union, types.UnionType):
        return [part for entry in get_args(annotation) for part in parts_of(entry, marks)]
    return [annotation]


def kind_of(alternatives: list[Any], marks: list[Any]) -> tuple[str, str, tuple[str, ...]]:
    """Kind of a setting, kind of its entries, and its choices."""
    choices = tuple(
        str(choice)
        for part in alternatives
        if get_origin(part) is Literal
        for choice in get_args(part)
    )
    if any(isinstance(mark, Femtoseconds) for mark in marks):
        return "time", "", ()
    if any(isinstance(mark, LengthOfTime) for mark in marks):
        return "duration", "", ()
    for part in alternatives:
        origin = get_origin(part) or part
        if origin in (tuple, list):
            inner = [entry for entry in get_args(part) if entry is not ...]
            entries = parts_of(inner[0] if inner else str, [])
            item, _, of_items = kind_of(entries, [])
            return "list", item, of_items
        is_section = isinstance(part, type) and issubclass(part, BaseModel)
        if origin in (dict, Mapping) or is_section:
            return "mapping", "", choices
    if choices:
        return "choice", "", choices
    for kind, name in ((bool, "switch"), (float, "number"), (int, "whole number")):
        if kind in alternatives:
            return name, "", ()
    return "text", "", ()


def bounds_of(marks: Sequence[Any]) -> str:
    """The allowed values, in words."""
    words = []
    for mark in marks:
        if isinstance(mark, Femtoseconds):
            words.append(f"{mark.least:g} to {mark.most:g} fs")
        words += [
            f"{sign} {getattr(mark, name):g}"
            for name, sign in SIGNS.items()
            if getattr(mark, name, None) is not None
        ]
    return ", ".join(words)


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section of an annotation, if it is one; lists and mappings of sections are not."""
    for part in parts_of(annotation, []):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def names_of(*models: type[BaseModel]) -> list[str]:
    """Keys of models in yaml."""
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def section_at(models: Sequence[type[BaseModel]], name: str) -> type[BaseModel] | None:
    """The section of this name in one of the models, if there is one."""
    for model in models:
        for attribute, field in model.model_fields.items():
            if (field.alias or attribute) == name:
                return section_in(field.annotation)
    return None
