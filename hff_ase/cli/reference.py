"""The commands with their settings, for the reference and for tests."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from hff_ase.cli.command import settings_of
from hff_ase.settings.declare import DeclaredSetting


def commands() -> dict[str, tuple[str, list[DeclaredSetting]]]:
    """Name, such as ``label clusters`` -> the first sentence of its help, and its settings."""
    from hff_ase.cli import app

    return dict(_commands(app, ""))


def _commands(
    app: typer.Typer, prefix: str
) -> Iterator[tuple[str, tuple[str, list[DeclaredSetting]]]]:
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _commands(group.typer_instance, f"{prefix}{group.name} ")
    for command in app.registered_commands:
        callback = command.callback
        settings = settings_of(callback)
        if callback is not None and settings:
            name = command.name or callback.__name__.replace("_", "-")
            summary = (callback.__doc__ or "").strip().split("\n\n")[0]
            yield f"{prefix}{name}", (" ".join(summary.split()), settings)
