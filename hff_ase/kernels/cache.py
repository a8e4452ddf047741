"""Compiled kernels on disk: numba's cache, made safe against damaged files and full disks.

numba trusts what lies in its cache folder: a file cut short ends every later run in a traceback, a
flipped bit in machine code does anything at all, and two processes that begin at once may give
different signatures one name. Here a file is named after its signature and carries its digest;
damaged files are compiled again, and what cannot be written goes to another folder or nowhere, with
one warning.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from hff_ase.errors import HFFWarning
from hff_ase.kernels.numba_internals import FunctionCache, cache_place, dumps

DIGEST = 32  # bytes of a SHA-256
SAID: set[str] = set()  # kinds of warnings that this process has given


def say_once(message: str) -> None:
    """Warn about the cache, once per process."""
    kind = message.split(":")[0]
    if kind not in SAID:
        SAID.add(kind)
        warnings.warn(message, HFFWarning, stacklevel=2)


class KernelFiles:
    """The compiled variants of one function in one folder, a file for each signature.

    A file is named by its signature, processor and the function's code, so that processes that
    compile different variants at the same time write different files, without an index between
    them. Its digest covers these, the source's stamp and numba's version as well: a file that was
    damaged, or that another source or version wrote, is as good as none.

    Args:
        folder: where the files lie.
        base: what their names begin with.
        stamp: of the source file.
    """

    def __init__(self, folder: Path, base: str, stamp: tuple[Any, ...]) -> None:
        self.folder, self._base, self._stamp = folder, base, stamp

    def load(self, key: Any) -> Any:
        """The saved result for a signature; None where it is missing or damaged."""
        try:
            raw = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        digest, content = raw[:DIGEST], raw[DIGEST:]
        return pickle.loads(content) if self._digest(key, content) == digest else None

    def save(self, key: Any, data: Any) -> None:
        """Keep the result for a signature; the file is replaced whole.

        Raises:
            OSError: the folder cannot be written.
        """
        content: bytes = dumps(data)
        self.folder.mkdir(exist_ok=True, parents=True)
        path = self._path(key)
        own = path.with_name(f"{path.name}.tmp.{uuid.uuid4().hex[:16]}")  # of this process alone
        try:
            own.write_bytes(self._digest(key, content) + content)
            os.replace(own, path)
        finally:
            own.unlink(missing_ok=True)

    def _path(self, key: Any) -> Path:
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return self.folder / f"{self._base}.{name}.nbc"

    def _digest(self, key: Any, content: bytes) -> bytes:
        of = repr((numba.__version__, self._stamp, key)).encode()
        return hashlib.sha256(hashlib.sha256(of).digest() + content).digest()


class SafeCache(FunctionCache):
    """numba's cache of one function, in its own folder or else in one of this user under /tmp."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file: Any  # numba's, one of `_files` whenever it is used
        folder, base, stamp = cache_place(self)
        spare = Path(spare_folder()) / folder.name
        self._files = [KernelFiles(path, base, stamp) for path in (folder, spare)]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """A compiled function from the first folder with an intact copy; None to compile."""
        for file in self._files:
            self._cache_file = file
            if file is not self._files[0] and not _is_ours(file.folder.parent):
                continue
            try:
                found = super().load_overload(sig, target_context)
            except Exception:  # whole, yet not what this numba can take: it is compiled again
                continue
            if found is not None:
                return found
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save it in the first writable folder."""
        reasons = []
        for file in self._files:
            self._cache_file = file
            try:
                if file is not self._files[0]:
                    _make(file.folder)
                super().save_overload(sig, data)
            except OSError as error:
                reasons.append(f"{file.folder} ({error.strerror or error})")
                continue
            if reasons:
                say_once(
                    f"compiled kernels are cached elsewhere: cannot write {reasons[0]}, took "
                    f"{file.folder}"
                )
            return
        say_once(
            "compiled kernels are not cached, every process compiles again: cannot write "
            f"{' or '.join(reasons)}; set NUMBA_CACHE_DIR to a folder with room"
        )


def spare_folder() -> str:
    """A folder for temporary files that only this user can access."""
    return os.path.join(tempfile.gettempdir(), f"hff_ase-kernels-{os.getuid()}")


def _make(folder: Path) -> None:
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    if not _is_ours(folder.parent):
        raise OSError(f"{folder.parent} belongs to another user")
    folder.mkdir(exist_ok=True)


def _is_ours(folder: Path) -> bool:
    """Whether no other user can have put a file there: unpickling runs code."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return folder.is_dir() and found.st_uid == os.getuid() and not found.st_mode & 0o022
