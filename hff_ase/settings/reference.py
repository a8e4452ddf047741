"""The reference of settings, as tables in Markdown, from their declarations."""

from __future__ import annotations

from collections.abc import Sequence

from hff_ase.settings.declare import DeclaredSetting

HEADER = ("setting", "default", "unit", "values", "meaning")


def table(settings: Sequence[DeclaredSetting]) -> str:
    """A row for each setting: name, default, unit, what is possible, meaning."""
    rows = [HEADER, ("---",) * len(HEADER), *map(row, settings)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(setting: DeclaredSetting) -> tuple[str, ...]:
    """The cells of a setting."""
    default = "required" if setting.required else setting.shown_default
    unit = setting.unit
    default = default.removesuffix(f" {unit}") if unit and not setting.shown else default
    cells = (f"`{setting.name}`", default, unit, values_of(setting), setting.help)
    return tuple(cell.replace("|", "\\|").replace("\n", " ") for cell in cells)


def values_of(setting: DeclaredSetting) -> str:
    """The allowed values, in words."""
    if setting.choices and setting.kind != "mapping":
        words = ", ".join(f"`{choice}`" for choice in setting.choices)
    elif setting.kind == "switch":
        words = "true, false"
    elif setting.kind == "time":
        words = "fs, or text with a unit"
    elif setting.kind == "duration":
        words = "text with a unit (fs, ps, ns, us)"
    else:
        words = setting.item if setting.kind == "list" and setting.item else setting.kind
    if setting.kind == "list":
        words = f"one or several: {words}" if setting.one_of_many else f"list: {words}"
    return f"{words}, {setting.bounds}" if setting.bounds else words
