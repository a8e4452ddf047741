"""``hff models``: the shipped models, or the contents of one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from hff_ase.cli.command import command
from hff_ase.settings import setting
from hff_ase.settings.common import OUTPUT, PrintSettings


class ModelsSettings(PrintSettings):
    """Which model, and how much of it."""

    name: str | None = setting(
        None,
        "Name of a shipped model or path of a file; all models if left out.",
        positional=True,
        metavar="MODEL",
    )
    card: bool = setting(False, "Print the whole model card.", panel=OUTPUT)


@command(ModelsSettings)
def models(config: ModelsSettings) -> None:
    """List the shipped models, or show one: terms, elements, provenance, licence."""
    import json

    from hff_ase.errors import ConfigError
    from hff_ase.model_file import read_file
    from hff_ase.models import available_models, model_path

    name = config.name
    if config.card:
        if name is None:
            raise ConfigError("expected a model's name with --card, got none")
        path = model_path(name).with_suffix(".md")
        if not path.is_file():
            raise ConfigError(f"expected a model card beside {model_path(name)}, got none")
        typer.echo(path.read_text())
        return
    names = available_models() if name is None else [name]
    descriptions = {n: read_file(model_path(n))[0] for n in names}
    if config.json_:
        typer.echo(json.dumps(descriptions, indent=1))
        return
    for model, description in descriptions.items():
        typer.echo(_as_text(model, description))


def _domain(content: object) -> list[str]:
    """Lines about what a model may be used for."""
    from hff_ase.domain_json import domain_from_dict
    from hff_ase.dynamics.build.naming import name_of

    if content is None:
        return ["  molecules  not said: nothing is refused"]
    domain = domain_from_dict(content)
    lines = [f"  molecules  {' '.join(molecule.called(name_of) for molecule in domain.molecules)}"]
    ranges = ((domain.temperature, "K"), (domain.density, "g/cm3"), (domain.pressure, "bar"))
    known = [f"{low:g}-{high:g} {unit}" for r, unit in ranges if r for low, high in [r]]
    return lines + ([f"  trained at {', '.join(known)}"] if known else [])


def _as_text(name: str, description: dict[str, Any]) -> str:
    about = description["info"]
    lines = [name, f"  {about.get('description', '')}"]
    lines.append(f"  elements   {' '.join(description['elements'] or ['any'])}")
    lines += _domain(description.get("domain"))
    terms = ", ".join(f"{term['name']} ({term['kind']})" for term in description["terms"])
    lines.append(f"  terms      {terms}")
    lines += [f"  {key:<10} {about[key]}" for key in ("provenance", "licence") if about.get(key)]
    lines += [f"  note       {note}" for note in notes_of(description["terms"])]
    lines.append(f"  written by hff_ase {description['package_version']}")
    return "\n".join(lines)


def notes_of(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Notes of the terms of a model, as its file describes them."""
    from hff_ase.terms import TERMS

    known = (entry for entry in entries if entry["kind"] in TERMS)
    notes = [TERMS[entry["kind"]].note_for(entry["config"]) for entry in known]
    return [note for note in notes if note]
