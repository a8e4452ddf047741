"""Commands built from declared settings: every setting is an option and a key of ``--config``.

    class BoxSettings(Settings):
        density: float | None = setting(None, "Instead of the expected one.", unit="g/cm3", gt=0)

    @command(BoxSettings)
    def build(config: BoxSettings) -> None:
        "Build a box."

    app.command()(build)

`hff_ase.settings.setting` is the one place where a setting is added.
"""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from hff_ase.settings.base import Section
from hff_ase.settings.declare import DeclaredSetting, declared
from hff_ase.settings.given import Given, nested

CONFIG = "config"
CONFIG_PANEL = "Settings file"
# what the help calls a value of a kind
METAVARS = {"number": "NUMBER", "whole number": "WHOLE", "text": "TEXT", "time": "TIME",
            "duration": "TIME", "mapping": "KEY=VALUE"}  # fmt: skip
Callback = Callable[..., None]


@dataclass(frozen=True)
class Part:
    """The settings of a model in a command.

    Attributes:
        model: declares them.
        without: names that the command does not have.
        only: or the names that it has.
        several: names that may have a list here, where the model has one value.
        defaults: instead of those of the declarations.
    """

    model: type[Section]
    without: Sequence[str] = ()
    only: Sequence[str] = ()
    several: Sequence[str] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> list[DeclaredSetting]:
        """The declarations."""
        found = declared(self.model, without=self.without, defaults=self.defaults)
        return [
            replace(one, kind="list", item=one.kind, commas=one.kind == "number", one_of_many=True)
            if one.name in self.several
            else one
            for one in found
            if not self.only or one.name in self.only
        ]


def command(*parts: type[Section] | Part) -> Callable[[Callback], Callback]:
    """A command of typer with an option for every setting of some models, called with each model
    loaded from ``--config`` and the options, which come first. What several models have under the
    same name, such as a seed, is reported once (by the first) and goes to all of them."""
    shown = _parts(parts)

    def decorate(function: Callback) -> Callback:
        def run(given: Given) -> None:
            function(*(part.model.load(given.take(part.model)[0]) for part in shown))

        return _typer_function(function, run, shown)

    return decorate


def command_of_run(
    *parts: type[Section] | Part, switches: type[Section]
) -> Callable[[Callback], Callback]:
    """A command that starts or resumes a run, called with what was given, unchecked (the defaults
    of a run that is resumed are its own), and with its switches, such as ``--resume``."""
    shown = _parts(parts)

    def decorate(function: Callback) -> Callback:
        def run(given: Given) -> None:
            own, rest = given.take(switches)
            function(rest, switches.load(own))

        return _typer_function(function, run, [*shown, Part(switches)])

    return decorate


def _parts(given: Sequence[type[Section] | Part]) -> list[Part]:
    return [part if isinstance(part, Part) else Part(part) for part in given]


def settings_of(callback: Any) -> list[DeclaredSetting]:
    """The settings of a command."""
    return list(getattr(callback, "settings", ()))


def _typer_function(
    function: Callback, run: Callable[[Given], None], parts: Sequence[Part]
) -> Callback:
    settings = [setting for part in parts for setting in part.settings()]
    models = [part.model for part in parts]
    by_parameter = {_parameter(setting): setting for setting in settings}
    known = list(dict.fromkeys(setting.name.split(".")[0] for setting in settings))

    def read(**options: Any) -> Given:
        file = options.pop(CONFIG)
        below = Given({}) if file is None else Given.of(file)
        below.check_names(known)
        values, places = {}, {}
        for parameter, texts in options.items():
            setting = by_parameter[parameter]
            if texts is None or texts == []:
                continue
            values[setting.name] = value_of(setting, texts)
            places[setting.name] = setting.name.upper() if setting.positional else setting.flag
        return Given(nested(values), places).over(below, *models)

    def call(**options: Any) -> None:
        run(read(**options))

    parameters = [_signature(name, setting) for name, setting in by_parameter.items()]
    parameters.append(_config_option())
    parameters.sort(key=lambda one: not by_positional(by_parameter.get(one.name)))
    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__module__ = function.__module__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    call.settings, call.parts, call.read = settings, parts, read  # type: ignore[attr-defined]
    return call


def by_positional(setting: DeclaredSetting | None) -> bool:
    """Whether a setting is a positional argument."""
    return setting is not None and setting.positional


def _parameter(setting: DeclaredSetting) -> str:
    """A name that Python allows."""
    name = setting.name.replace(".", "__")
    return f"{name}_" if keyword.iskeyword(name) else name


def _config_option() -> inspect.Parameter:
    option = typer.Option(
        "--config",
        metavar="FILE",
        help="Yaml file with any of these settings; the command line overrides it.",
        rich_help_panel=CONFIG_PANEL,
        show_default=False,
    )
    return inspect.Parameter(
        CONFIG,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Path | None, option],
    )


def _signature(name: str, setting: DeclaredSetting) -> inspect.Parameter:
    """How typer takes a setting: as text, which the model of the setting checks."""
    several = setting.kind in ("list", "mapping")
    options: dict[str, Any] = {"help": help_of(setting), "show_default": False}
    kind: Any
    if setting.kind == "switch":
        kind = bool | None
        flags = [f"{setting.flag}/--no-{setting.flag.removeprefix('--')}"]
    else:
        kind = list[str] | None if several else str | None
        flags = [setting.flag]
        options["metavar"] = metavar_of(setting)
    if setting.short:
        flags.append(setting.short)
    if setting.positional:
        declaration = typer.Argument(**options)
    else:
        declaration = typer.Option(*flags, rich_help_panel=setting.panel or None, **options)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind, declaration],
    )


def help_of(setting: DeclaredSetting) -> str:
    """The help of an option."""
    text, default = setting.help, setting.shown_default
    if default:
        text = f"{text.removesuffix('.')} (default: {default})."
    elif setting.unit:
        text = f"{text.removesuffix('.')}, {setting.unit}."
    if setting.kind == "list" and not setting.positional:
        text += " Several: a,b,c, or again." if setting.commas else " May be given again."
    return text


def metavar_of(setting: DeclaredSetting) -> str:
    """The name of a value in the help."""
    if setting.metavar:
        return setting.metavar
    if setting.choices and setting.kind != "mapping":
        return "|".join(setting.choices)
    kind = setting.item if setting.kind == "list" else setting.kind
    return METAVARS.get(kind, "TEXT")


def value_of(setting: DeclaredSetting, texts: Any) -> Any:
    """A value of the command line, as it would be in yaml."""
    if setting.kind == "switch":
        return texts
    words = texts if isinstance(texts, list) else [texts]
    if setting.optional and setting.kind != "text" and words in (["none"], ["null"]):
        return None
    if setting.kind == "mapping":
        return _mapping(setting, texts)
    if setting.kind == "list":
        if setting.item == "mapping" or texts[0].startswith("["):
            return _structured(setting, " ".join(texts))
        if setting.commas:
            texts = [part for text in texts for part in text.split(",")]
        return texts[0] if setting.one_of_many and len(texts) == 1 else texts
    return texts


def _structured(setting: DeclaredSetting, text: str) -> Any:
    from hff_ase.errors import ConfigError
    from hff_ase.settings.yaml_text import yaml_value

    try:
        return yaml_value(text)
    except ConfigError as error:
        raise ConfigError(f"{setting.flag}: {error}") from None


def _mapping(setting: DeclaredSetting, texts: Sequence[str]) -> Any:
    """``A=1`` and ``B.C=2`` as a mapping; or one as yaml has it, or one of its choices."""
    if len(texts) == 1 and (texts[0].startswith("{") or texts[0] in setting.choices):
        return _structured(setting, texts[0])
    found = {}
    for text in texts:
        key, _, value = text.partition("=")
        found[key] = _structured(setting, value) if value else None
    return nested(found)
