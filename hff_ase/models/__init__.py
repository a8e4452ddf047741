"""The models that the package ships, by name."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path

from hff_ase.domain import Domain
from hff_ase.domain_json import domain_from_dict
from hff_ase.errors import CheckpointError

__all__ = ["available_models", "model_path"]

FOLDER = Path(__file__).parent


def available_models() -> list[str]:
    """Names that `HybridFF.load` knows."""
    return sorted(path.stem for path in FOLDER.glob("*.hff"))


def shipped_domains() -> dict[str, Domain]:
    """What each shipped model may be used for, by its name; without those that have no domain.

    Reads the descriptions alone, so that nothing of torch is imported; `read_file` checks digests.
    """
    found = {}
    for name in available_models():
        with (FOLDER / f"{name}.hff").open("rb") as file:  # a safetensors file: length, then JSON
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        content = json.loads(header["__metadata__"]["hff"]).get("domain")
        if content is not None:
            found[name] = domain_from_dict(content)
    return found


def model_path(name_or_path: str | Path) -> Path:
    """The .hff file of a shipped model's name, or of a path.

    Raises:
        CheckpointError: neither a shipped model nor a file.
    """
    text = str(name_or_path)
    if text in available_models():
        return FOLDER / f"{text}.hff"
    path = Path(text)
    if path.suffix == ".hff" or path.exists():
        return path
    close = get_close_matches(text, available_models(), 1, 0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise CheckpointError(
        f"expected a shipped model ({', '.join(available_models()) or 'none'}) or a path to an "
        f".hff file, got {text!r}{hint}"
    )
