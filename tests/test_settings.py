"""One declaration per setting: every command takes it as an option and in yaml, says what it is,
and refuses what it cannot be in one line that says where that stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel, TypeAdapter

from hff_ase.cli import app
from hff_ase.cli.reference import commands
from hff_ase.errors import ConfigError
from hff_ase.settings import DeclaredSetting, Given, Section, Settings, declared, setting
from hff_ase.settings.declare import REQUIRED, section_in
from hff_ase.settings.given import nested
from hff_ase.settings.reference import table
from hff_ase.settings.yaml_text import read_yaml, to_yaml

COMMANDS = commands()
PROGRAM: Any = typer.main.get_command(app)
WRONG = {
    "switch": "perhaps", "number": "warm", "whole number": "many", "choice": "no-such",
    "time": "long", "duration": "5 parsecs", "text": ["a"], "list": {"a": 1}, "mapping": 5,
}  # fmt: skip
DUMMIES = {"text": "dummy", "list": ["dummy"], "whole number": 1, "number": 1.0}
ALL = [(name, one) for name, (_, settings) in COMMANDS.items() for one in settings]
each_setting = pytest.mark.parametrize(
    ("command", "one"), ALL, ids=[f"{name} {one.name}" for name, one in ALL]
)


def program(command: str) -> Any:
    """The command as typer has it."""
    found = PROGRAM
    for word in command.split():
        found = found.commands[word]
    return found


def run(command: str, *arguments: str) -> None:
    """Run a command in this process; errors come through."""
    PROGRAM.main([*command.split(), *arguments], standalone_mode=False)


def needed(command: str, but: str = "") -> dict[str, Any]:
    """Values for what a command cannot do without."""
    settings = [one for one in COMMANDS[command][1] if one.required and "." not in one.name]
    return {one.name: DUMMIES[one.kind] for one in settings if one.name != but}


def refused(command: str, settings: dict[str, Any], folder: Path, *arguments: str) -> str:
    """The message with which a command refuses a file of settings."""
    file = folder / "settings.yaml"
    file.write_text(to_yaml(nested(settings)))
    with pytest.raises(ConfigError) as error:
        run(command, "--config", str(file), *arguments)
    message = str(error.value)
    assert "\n" not in message
    return message


def line_of(folder: Path, name: str) -> int:
    """Where a setting stands in the file that `refused` wrote."""
    return read_yaml(folder / "settings.yaml")[1][name]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is_and_its_default(command: str) -> None:
    options = {flag: p for p in program(command).params for flag in p.opts}
    for one in COMMANDS[command][1]:
        assert one.help, one.name
        shown = next(
            (p for flag, p in options.items() if flag == one.flag),
            options.get(one.name.replace(".", "__")),
        )
        assert shown is not None, one.name
        text = " ".join((shown.help or "").split())
        assert one.help.removesuffix(".").split(".")[0] in text
        if one.shown_default:
            assert f"(default: {one.shown_default})" in text
        elif one.unit:
            assert one.unit in text
    assert "--config" in options


@each_setting
def test_wrong_types_are_refused_with_file_and_line(
    command: str, one: DeclaredSetting, tmp_path: Path
) -> None:
    settings = {**needed(command, one.name), one.name: WRONG[one.kind]}
    message = refused(command, settings, tmp_path)
    where = f"{tmp_path}/settings.yaml:{line_of(tmp_path, one.name)}: "
    assert message.startswith(where), message
    assert "expected" in message


def beyond(one: DeclaredSetting) -> str | None:
    """A number out of the bounds of a setting."""
    if one.kind == "time":
        return "1e9"
    for words, shift in (("at least", -1), ("above", -1), ("at most", 1), ("below", 1)):
        found = re.search(rf"{words} (\S+?)(,|$)", one.bounds)
        if found:
            number = float(found[1]) + shift
            whole = "whole number" in (one.kind, one.item)
            return str(int(number)) if whole else str(number)
    return None


@each_setting
def test_options_out_of_bounds_are_refused_by_their_flag(
    command: str, one: DeclaredSetting, tmp_path: Path
) -> None:
    wrong = WRONG[one.kind if one.kind != "list" else one.item] if one.kind != "switch" else None
    value = beyond(one) or (wrong if isinstance(wrong, str) and not one.positional else None)
    if value is None:
        return
    message = refused(command, needed(command, one.name), tmp_path, one.flag, value)
    assert message.startswith(f"{one.flag}: "), message
    assert "expected" in message


@pytest.mark.parametrize("command", COMMANDS)
def test_misspelt_names_are_refused_with_the_nearest(command: str, tmp_path: Path) -> None:
    for one in COMMANDS[command][1]:
        *sections, name = one.name.split(".")
        wrong = ".".join([*sections, f"{name}x"])
        message = refused(command, {**needed(command), wrong: 1}, tmp_path)
        where = f"{tmp_path}/settings.yaml:{line_of(tmp_path, wrong)}: "
        assert message.startswith(f"{where}unknown setting {wrong!r}; did you mean "), message
        assert name in message
    with pytest.raises(typer.TyperException) as error:
        run(command, "--no-such-option", "1")
    assert "--no-such-option" in str(error.value)


def field_of(command: str, name: str) -> TypeAdapter[Any]:
    """What checks a setting."""
    first, *rest = name.split(".")
    callback = callback_of(command)
    model = next(p.model for p in callback.parts if any(d.name == name for d in p.settings()))
    found: type[BaseModel] = model
    for part in (first, *rest):
        attribute, field = next(
            (key, f) for key, f in found.model_fields.items() if (f.alias or key) == part
        )
        section = section_in(field.annotation)
        if section is None:
            return TypeAdapter(field.rebuild_annotation())
        found = section
    raise AssertionError(attribute)


def callback_of(command: str) -> Any:
    found: Any = app
    words = command.split()
    for word in words[:-1]:
        found = next(g.typer_instance for g in found.registered_groups if g.name == word)
    for one in found.registered_commands:
        if (one.name or one.callback.__name__.replace("_", "-")) == words[-1]:
            return one.callback
    raise AssertionError(command)


def sample(one: DeclaredSetting) -> tuple[Any, list[str]]:
    """A value in yaml, and the same on the command line."""
    number = 0.5 if "below 1" in one.bounds or "at most 1" in one.bounds else 2.0
    if "at least 1.00784" in one.bounds or "above 1" in one.bounds:
        number = 3.0
    if one.name == "temperature":
        number = 300.0  # where it is that of a liquid, one that can be only Celsius is refused
    values: dict[str, tuple[Any, list[str]]] = {
        "switch": (True, []), "number": (number, [str(number)]), "whole number": (2, ["2"]),
        "time": (2.0, ["2fs"]), "duration": ("2ps", ["2ps"]), "text": ("a b", ["a b"]),
        "mapping": ({"a": {"b": 1}}, ["a.b=1"]),
    }  # fmt: skip
    if one.choices and one.kind != "mapping":
        return ([one.choices[0]] if one.kind == "list" else one.choices[0], [one.choices[0]])
    if one.kind != "list":
        return values[one.kind]
    if one.item == "mapping":
        return [{"start": 0.5}], ["[{start: 0.5}]"]
    value, words = values[one.item]
    return [value, value], words * 2


@each_setting
def test_yaml_and_option_say_the_same(command: str, one: DeclaredSetting, tmp_path: Path) -> None:
    value, words = sample(one)
    file = tmp_path / "settings.yaml"
    file.write_text(to_yaml(nested({one.name: value})))
    name = re.sub(r"\W", "__", one.name)
    parameter = next(p for p in (name, f"{name}_") if p in parameters(command))
    read = callback_of(command).read
    several = one.kind in ("list", "mapping")
    option = True if one.kind == "switch" else words if several else words[0]
    in_file = read(config=file)
    on_line = read(config=None, **{parameter: option})
    for part in one.name.split("."):
        in_file, on_line = in_file[part], on_line[part]
    if one.one_of_many:
        assert [*map(str, in_file)] == [*map(str, on_line)]
    elif one.name.endswith(("add_elements", "formal_charges", "train_as", "reference_energies")):
        assert in_file == on_line
    else:
        check = field_of(command, one.name)
        assert check.validate_python(in_file) == check.validate_python(on_line)


def parameters(command: str) -> set[str]:
    return {p.name for p in program(command).params}


def test_the_reference_lists_every_setting_with_unit_and_default() -> None:
    for _, settings in COMMANDS.values():
        rows = [line.split(" | ") for line in table(settings).splitlines()[2:]]
        assert len(rows) == len(settings)
        for row, one in zip(rows, settings, strict=True):
            assert row[0] == f"| `{one.name}`"
            assert row[2] == one.unit
            if one.required:
                assert row[1] == "required"
            elif one.shown_default:
                assert row[1] in one.shown_default


def test_the_page_of_the_reference_is_made_of_it() -> None:
    page = (Path(__file__).parents[1] / "docs" / "settings.md").read_text()
    assert page.endswith("```{settings}\n```\n")


# --- the mechanism ---------------------------------------------------------------------------


class Inner(Section):
    alternatives = (("steps",), ("epochs",))

    steps: int | None = setting(None, "Length.", ge=1)
    epochs: int | None = setting(None, "Length.", ge=1)


class Outer(Settings):
    defaults = {"inner": {"epochs": 5}}  # noqa: RUF012

    name: str = setting(REQUIRED, "Of it.")
    radius: float = setting(2.0, "Of it.", unit="Angstrom", gt=0)
    inner: Inner = Inner()
    tables: dict[str, Any] = setting({}, "Of it.")


def test_one_way_to_make_any_configuration(tmp_path: Path) -> None:
    file = tmp_path / "outer.yaml"
    file.write_text("name: a\nradius: 1e-1\ntables: {x: {y: 1, z: 2}}\n")
    made = Outer.load(file, {"inner.steps": 3, "tables.x.y": 4})
    assert made == Outer(
        name="a", radius=0.1, inner={"steps": 3, "epochs": None}, tables={"x": {"y": 4, "z": 2}}
    )
    assert Outer.load(made) is made
    assert Outer.load({"name": "b"}).inner.epochs == 5
    assert Outer.load(made.model_dump()) == made
    (tmp_path / "again.yaml").write_text(made.to_yaml())
    assert Outer.load(tmp_path / "again.yaml") == made


def test_of_what_excludes_each_other_the_last_said_counts(tmp_path: Path) -> None:
    below = Given({"name": "a", "inner": {"epochs": 9}}, {"inner.epochs": "a.yaml:2"})
    above = Given({"inner": {"steps": 0}}, {"inner.steps": "--inner.steps"})
    with pytest.raises(ConfigError, match=r"^--inner\.steps: expected at least 1, got 0$"):
        Outer.load(above.over(below, Outer))
    assert Outer.load(Given({"inner": {"steps": 2}}).over(below, Outer)).inner.epochs is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nradius: -1\n", r"outer.yaml:2: radius: expected more than 0, got -1$"),
        ("name: a\nraduis: 1\n", r"outer.yaml:2: unknown setting 'raduis'; did you mean radius\?$"),
        ("name: a\ninner: {steps: x}\n", r"outer.yaml:2: inner.steps: expected a whole number"),
        ("radius: 1\n", r"name: expected a value, got none$"),
        ("name: a\nradius: .nan\n", r"outer.yaml:2: radius: expected a finite number, got nan$"),
        ("name: [\n", r"outer.yaml:2: expected yaml, got something else"),
        ("- name\n", r"outer.yaml: expected 'setting: value' lines, got \['name'\]$"),
        ("name: a\ninner: 5\n", r"outer.yaml:2: inner: expected a section with settings, got 5$"),
    ],
)
def test_errors_say_where(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "outer.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        Outer.load(tmp_path / "outer.yaml")


def test_declarations_can_be_read() -> None:
    radius = next(one for one in declared(Outer) if one.name == "radius")
    assert (radius.flag, radius.unit, radius.bounds) == ("--radius", "Angstrom", "above 0")
    assert radius.shown_default == "2 Angstrom"
    epochs = next(one for one in declared(Outer) if one.name == "inner.epochs")
    assert (epochs.default, epochs.kind, epochs.panel) == (5, "whole number", "inner")
