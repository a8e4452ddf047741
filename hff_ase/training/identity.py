"""The identity of a training, kept in its folder: only the same training can be resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from hff_ase.data.dataset import DatabaseDataset
from hff_ase.data.labels import result_of
from hff_ase.errors import ConfigError
from hff_ase.files import write_whole
from hff_ase.training.config import TrainConfig
from hff_ase.training.loop.state import STATE
from hff_ase.training.model import Start

FILE = "run.json"
LABELS = ("energy", "forces", "stress", "charges", "dipole")
TOLD = ("charge", "weight", "esp", "method")  # of a frame's info, what a training looks at
NAMES = ("name", "description", "licence", "provenance", "start")  # say nothing of what is trained


def identity_of(config: TrainConfig, start: Start | None, frames: str) -> dict[str, Any]:
    """The model, the weights that it starts from and the digest of the frames; the other settings
    are compared with the saved state."""
    model = {} if config.model is None else config.model.model_dump(mode="json", exclude={*NAMES})
    return {
        "model": {key: value for key, value in model.items() if value},
        "start": None if start is None else _digest_of_weights(start),
        "frames": frames,
    }


def claim(folder: Path, identity: dict[str, Any] | None, resume: bool) -> None:
    """Record the identity of the run in a folder, or check that it is this one.

    Args:
        identity: None only sees whether the folder may be used.

    Raises:
        ConfigError: the folder holds a training and is not to be resumed, or another one.
    """
    begun = (folder / STATE).exists()
    if begun and not resume:
        raise ConfigError(
            f"expected an output folder without a training in it, got one in {folder}: continue "
            "it with --resume (resume=True) or choose another"
        )
    if identity is None:
        return
    path = folder / FILE
    if begun:
        known = json.loads(path.read_text()) if path.exists() else {}
        for name, value in identity.items():
            if known.get(name) != value:
                raise ConfigError(
                    f"expected the {name} of the training in {folder} to resume it, got another: "
                    "use another output"
                )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(identity, indent=1) + "\n").encode())


def _digest_of_weights(start: Start) -> str:
    sha = hashlib.sha256()
    for name, parameter in sorted(start.potential.state_dict().items()):
        sha.update(name.encode() + parameter.detach().cpu().double().numpy().tobytes())
    return sha.hexdigest()


def digest_of_frames(train: Sequence[Atoms], validation: Sequence[Atoms]) -> str:
    """Of frames as they were given: what is computed of them may differ in its last digits from
    machine to machine."""
    sha = hashlib.sha256()
    for part in (train, validation):
        sha.update(str(len(part)).encode())
        for atoms in part:
            for array in (atoms.numbers, atoms.positions, atoms.get_cell().array, atoms.pbc):
                sha.update(np.ascontiguousarray(array).tobytes())
            for name in LABELS:
                sha.update(f"{name} {_exact(result_of(atoms, name))}".encode())
            told = {key: atoms.info[key] for key in sorted(atoms.info) if key.startswith(TOLD)}
            sha.update(repr({key: _exact(value) for key, value in told.items()}).encode())
    return sha.hexdigest()


def _exact(value: Any) -> str:
    """A label in all its digits."""
    return "" if value is None else np.asarray(value, dtype=object).astype(str).tobytes().hex()


def digest_of_database(database: DatabaseDataset) -> str:
    """Of the rows of a database: their ids and sizes, and the size of the file, which says whether
    labels were rewritten without reading them all."""
    sha = hashlib.sha256(str(database.path.stat().st_size).encode())
    for array in (database.ids, database.n_atoms):
        sha.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
    return sha.hexdigest()
