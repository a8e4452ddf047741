""".hff files: what is in them, their digest, and the domain that can be read and replaced alone.

An .hff file is a safetensors file. Its tensors are the weights (``weights.<name>``) and a few
reference structures with their results (``reference.<k>.<name>``); its metadata holds, as JSON,
the terms and their configuration, what the model is and where it comes from, and a SHA-256 of all
of it. `hff_ase.checkpoint` makes models of them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hff_ase.domain import Domain
from hff_ase.domain_json import domain_from_dict, domain_to_dict
from hff_ase.errors import CheckpointError, ConfigError
from hff_ase.files import write_whole

FORMAT_VERSION = 1
# What a description holds at least, beside its format version.
CONTENTS: dict[str, type | tuple[type, ...]] = {
    "package_version": str,
    "elements": (list, type(None)),
    "terms": list,
    "info": dict,
    "n_references": int,
}


def write_file(path: Path, description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write an .hff file, whole or not at all.

    Raises:
        CheckpointError: it cannot be written.
    """
    # Keys stay in order: a term's tables may set the order of its weights.
    text = json.dumps(description, indent=1)
    metadata = {"hff": text, "sha256": digest(text, tensors)}
    try:
        write_whole(path, save(tensors, metadata=metadata))
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"expected to write {path}, got: {reason}") from None


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors of an .hff file, its digest checked; nothing is built from it.

    Raises:
        CheckpointError: as `load_model`.
    """
    if not path.is_file():
        raise CheckpointError(f"expected an .hff model file, got no file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"expected an .hff model file, got {path}, which is damaged or no such file: {error}"
        ) from None
    if "hff" not in metadata:
        raise CheckpointError(
            f"expected an .hff model file, got a safetensors file without its description: {path}"
        )
    try:
        description = json.loads(metadata["hff"])
        version = int(description["format_version"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"expected a readable description in {path}, got damaged JSON"
        ) from None
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"expected .hff format {FORMAT_VERSION} or older, got format {version} in {path}, "
            f"written by hff_ase {description.get('package_version')}: update hff_ase"
        )
    for key, kind in CONTENTS.items():
        if not isinstance(description.get(key), kind):
            raise CheckpointError(
                f"expected a description with {key!r} in {path}, got {description.get(key)!r:.60}"
            )
    for entry in description["terms"]:
        if not (isinstance(entry, dict) and {"name", "kind", "config"} <= entry.keys()):
            raise CheckpointError(
                f"expected terms with name, kind and config in {path}, got {entry!r:.60}"
            )
    if description["n_references"] < 1:
        raise CheckpointError(f"expected at least one reference structure in {path}, got none")
    if digest(metadata["hff"], tensors) != metadata.get("sha256"):
        raise CheckpointError(
            f"expected the contents that {path} was saved with, got others: "
            "its SHA-256 does not match"
        )
    return description, tensors


def digest(text: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over a description and named tensors."""
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        sha.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def domain_in(description: dict[str, Any]) -> Domain | None:
    """The domain in a description that `read_file` gave; None where the file has none.

    Raises:
        CheckpointError: a damaged one.
    """
    content = description.get("domain")
    try:
        return None if content is None else domain_from_dict(content)
    except ConfigError as error:
        raise CheckpointError(f"expected a readable domain in a model file: {error}") from None


def write_domain(path: str | Path, domain: Domain | None) -> None:
    """Give an .hff file another domain; weights and stored results stay unchanged, bit for bit.

    Raises:
        CheckpointError: no such model, or it cannot be written.
    """
    path = Path(path)
    description, tensors = read_file(path)
    description["domain"] = None if domain is None else domain_to_dict(domain)
    write_file(path, description, tensors)
