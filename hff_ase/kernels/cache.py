"""Compiled kernels on disk: numba's cache, which neither damage nor a full disk may end a run.

numba trusts what lies in its cache folder: a file cut short ends every later run in a traceback,
and a flipped bit in machine code does anything at all. Here each file carries its digest, what is
damaged is compiled anew, and what cannot be written goes to another folder or nowhere, said once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile

from hff_ase.errors import HFFWarning

DIGEST = 32  # bytes of a SHA-256
_said: set[str] = set()


def say_once(message: str) -> None:
    """Warn of something about the cache, the first time in a process."""
    kind = message.split(":")[0]
    if kind not in _said:
        _said.add(kind)
        warnings.warn(message, HFFWarning, stacklevel=2)


class DamagedError(Exception):
    """A file that is not what was written."""


class CheckedFile(IndexDataCacheFile):
    """numba's index and data files, data with a digest in front.

    The index holds names only; whatever it says, data of another function or cut short are refused.
    """

    def _dump(self, obj: Any) -> bytes:
        content: bytes = super()._dump(obj)
        return hashlib.sha256(content).digest() + content

    def _load_index(self) -> dict[Any, str]:
        try:
            with open(self._index_path, "rb") as file:
                version, rest = pickle.load(file), file.read()
        except FileNotFoundError:
            return {}
        if version != self._version:
            return {}
        stamp, overloads = pickle.loads(_checked(rest))
        return overloads if stamp == self._source_stamp else {}

    def _load_data(self, name: str) -> Any:
        return pickle.loads(_checked(Path(self._data_path(name)).read_bytes()))

    def discard(self) -> None:
        """Forget what is there: the next `save` begins anew."""
        with contextlib.suppress(OSError):
            os.unlink(self._index_path)


def _checked(raw: bytes) -> bytes:
    digest, content = raw[:DIGEST], raw[DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise DamagedError("another digest")
    return content


class SafeCache(FunctionCache):
    """numba's cache of one function, in its own folder or else in one of this user under /tmp."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        first = self._cache_file
        base = self._impl.filename_base
        folder = os.path.join(spare_folder(), os.path.basename(self._cache_path))
        self._files = [
            CheckedFile(path, base, first._source_stamp) for path in (self._cache_path, folder)
        ]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """A compiled function from the first folder that has it whole; None to compile."""
        for file in self._files:
            self._cache_file = file
            if file is not self._files[0] and not _is_ours(Path(file._cache_path).parent):
                continue
            try:
                found = super().load_overload(sig, target_context)
            except Exception:  # unpickling what is damaged raises anything
                file.discard()
                continue
            if found is not None:
                return found
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep it in the first folder that can be written."""
        reasons = []
        for file in self._files:
            self._cache_file = file
            try:
                if file is not self._files[0]:
                    _make(Path(file._cache_path))
                self._save_in(file, sig, data)
            except OSError as error:
                reasons.append(f"{file._cache_path} ({error.strerror or error})")
                continue
            if reasons:
                say_once(
                    f"compiled kernels are kept elsewhere: cannot write {reasons[0]}, took "
                    f"{file._cache_path}"
                )
            return
        say_once(
            "compiled kernels are not kept, every process compiles anew: cannot write "
            f"{' or '.join(reasons)}; set NUMBA_CACHE_DIR to a folder with room"
        )

    def _save_in(self, file: CheckedFile, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError:
            raise
        except Exception:  # the index that is there is damaged
            file.discard()
            super().save_overload(sig, data)


def spare_folder() -> str:
    """A folder of this user alone where temporary files lie."""
    return os.path.join(tempfile.gettempdir(), f"hff_ase-kernels-{os.getuid()}")


def _make(folder: Path) -> None:
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    if not _is_ours(folder.parent):
        raise OSError(f"{folder.parent} belongs to somebody else")
    folder.mkdir(exist_ok=True)


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can have put a file there: what is unpickled can do anything."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return folder.is_dir() and found.st_uid == os.getuid() and not found.st_mode & 0o022
