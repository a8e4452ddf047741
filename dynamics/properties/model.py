"""Facts about the model of a run, for the page."""

from __future__ import annotations

import hashlib
from typing import Any

from hff_ase.errors import HFFError


def model_facts(name: str | None) -> dict[str, Any] | None:
    """Description, licence, provenance and hash of a model; None where it cannot be read.

    Args:
        name: a shipped model or the path of an .hff file.
    """
    if name is None:
        return None
    from hff_ase.model_file import read_file
    from hff_ase.models import model_path

    try:
        path = model_path(name)
        description, _ = read_file(path)
        content = path.read_bytes()
    except (HFFError, OSError):
        return None
    about = description["info"]
    card = path.with_suffix(".md")
    return {
        "name": about.get("name", name),
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "description": about.get("description", ""),
        "provenance": about.get("provenance", ""),
        "licence": about.get("licence", ""),
        "terms": [f"{term['name']} ({term['kind']})" for term in description["terms"]],
        "card": card.read_text(encoding="utf-8") if card.is_file() else "",
    }
