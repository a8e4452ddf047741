"""Finished labels on disk, one file each, so that nothing is computed twice."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np

from hff_ase.errors import ConfigError
from hff_ase.files import write_whole
from hff_ase.labels.labeller import Label


class LabelStore:
    """A folder with one ``<key>.npz`` per label, written whole the moment it is finished.

    Workers write into it themselves: a file that is there is a calculation that is done, whatever
    becomes of the worker, of the process that sent it the work, or of the machine.

    Args:
        folder: made where it does not exist; on a cluster all machines must see it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"expected a folder for finished labels, got {folder}: {error.strerror}"
            ) from error

    def path(self, key: str) -> Path:
        """Where the label with this key is."""
        return self.folder / f"{key}.npz"

    def write(self, key: str, label: Label) -> None:
        """Write a label; the file is there as a whole or not at all."""
        content = BytesIO()
        facts = json.dumps({"status": label.status, "info": label.info})
        np.savez_compressed(content, facts=np.array(facts), **label.arrays)  # type: ignore[arg-type]
        write_whole(self.path(key), content.getvalue())

    def read(self, key: str) -> Label | None:
        """The label with this key; None where there is none, or a file that cannot be read."""
        try:
            with np.load(self.path(key), allow_pickle=False) as file:
                facts = json.loads(str(file["facts"]))
                arrays = {name: file[name] for name in file.files if name != "facts"}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None  # damaged on disk: computed again
        return Label(facts["status"], arrays, facts["info"])

    def keys(self) -> Iterator[str]:
        """Keys of everything that is there."""
        return (path.stem for path in self.folder.glob("*.npz"))
