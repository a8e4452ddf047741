"""Frames in ASE databases: larger than memory, read by index.

SQLite (.db) needs nothing more; LMDB (.aselmdb) reads faster and needs ``ase-db-backends``. What
ASE keeps no column for, ``atoms.info`` and further arrays, is in the row's ``data``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ase.db
import numpy as np
from ase import Atoms

from hff_ase.errors import ConfigError, StructureError

SUFFIXES = {".db": "db", ".aselmdb": "aselmdb"}
SIZES = "hff_n_atoms"  # in the metadata: the sizes of all frames, to be known without reading them
OWN_COLUMNS = {"numbers", "positions", "momenta", "initial_charges", "initial_magmoms", "tags"}
# By process and file: connections do not survive a fork, and a file may have been replaced.
_OPEN: dict[tuple[Path, int, int], Any] = {}


def database_kind(path: Path) -> str:
    """ASE's name of the kind of database that a suffix stands for.

    Raises:
        ConfigError: another suffix.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"expected a database that ends in {' or '.join(SUFFIXES)}, got {path}")
    return SUFFIXES[path.suffix]


def write_database(frames: Iterable[Atoms], path: Path | str) -> None:
    """Write frames with their results and info to a database, whole or not at all.

    The frames are taken one after the other: an iterator over more than fits in memory will do.

    Raises:
        ConfigError: a suffix that stands for no database, or LMDB is not installed.
        OSError: it cannot be written.
    """
    path = Path(path)
    # ASE takes the kind from the argument; its lock file would stay behind.
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    sizes: list[int] = []
    try:
        with _connect(temporary, database_kind(path), use_lock_file=False) as database:
            for atoms in frames:
                database.write(atoms, data=_data_of(atoms))
                sizes.append(len(atoms))
        database = _connect(temporary, database_kind(path), use_lock_file=False)
        database.metadata = {SIZES: sizes}
        _close(database)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    finally:
        for leftover in path.parent.glob(f"{temporary.name}-*"):  # LMDB's lock
            leftover.unlink(missing_ok=True)


def open_database(path: Path) -> Any:
    """The database for reading, opened once per process.

    Raises:
        StructureError: the file does not exist or is not a database.
    """
    if not path.is_file():
        raise StructureError(f"expected a database of frames at {path}, got no such file")
    key = (path.resolve(), os.getpid(), path.stat().st_ino)
    if key not in _OPEN:
        kind = database_kind(path)
        options = {"readonly": True} if kind == "aselmdb" else {}
        try:
            database = _connect(path, kind, use_lock_file=False, **options)
            len(database)
        except ConfigError:
            raise
        except Exception as error:  # sqlite3 and lmdb have errors of their own
            raise StructureError(f"expected a database of frames in {path}, got {error}") from None
        _OPEN[key] = database
    return _OPEN[key]


def frame_sizes(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Row ids and numbers of atoms of all frames, int64 [n_frames] each.

    Raises:
        StructureError: no database, or an empty one.
    """
    database = open_database(path)
    n_frames = len(database)
    if n_frames == 0:
        raise StructureError(f"expected frames in {path}, got an empty database")
    sizes = database.metadata.get(SIZES, [])
    if len(sizes) == n_frames:  # as written by `write_database`, nothing added since
        return np.arange(1, n_frames + 1), np.array(sizes, dtype=np.int64)
    options = {"include_data": False} if database_kind(path) == "db" else {}
    rows = [(row.id, row.natoms) for row in database.select(**options)]
    ids, natoms = np.array(rows, dtype=np.int64).T
    return ids, natoms


def read_row(database: Any, row_id: int, source: str) -> Atoms:
    """One frame with its results, info, arrays and ``info["source"]``.

    Raises:
        StructureError: the row is damaged.
    """
    try:
        row = database.get(id=row_id)
        atoms = row.toatoms()
        data = dict(row.data)
        atoms.info.update(row.key_value_pairs)
    except Exception as error:  # a damaged row: whatever its decoder says
        raise StructureError(f"expected a frame in {source}, got {error!r:.200}") from None
    for name, array in data.pop("arrays", {}).items():
        atoms.set_array(name, np.asarray(array))
    atoms.info.update(data)
    atoms.info["source"] = source
    return atoms


def read_database(path: Path) -> list[Atoms]:
    """All frames of a database.

    Raises:
        StructureError: no database, an empty one, or a damaged row.
    """
    database, (ids, _) = open_database(path), frame_sizes(path)
    return [
        read_row(database, int(row_id), f"{path.stem}:{index}") for index, row_id in enumerate(ids)
    ]


def _data_of(atoms: Atoms) -> dict[str, Any]:
    arrays = {name: array for name, array in atoms.arrays.items() if name not in OWN_COLUMNS}
    return {name: _plain(value) for name, value in atoms.info.items()} | (
        {"arrays": arrays} if arrays else {}
    )


def _plain(value: Any) -> Any:
    """A copy without numpy scalars, which ASE's encoder does not accept."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value


def _connect(path: Path, kind: str, **options: Any) -> Any:
    try:
        return ase.db.connect(str(path), type=kind, **options)
    except ImportError:
        raise ConfigError(
            f"expected the package ase-db-backends for {path}, got none: "
            "pip install 'hff-ase[lmdb]', or use a .db file"
        ) from None


def _close(database: Any) -> None:
    if hasattr(database, "close"):
        database.close()
