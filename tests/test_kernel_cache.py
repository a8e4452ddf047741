"""The folder of compiled kernels: damaged, full, or not there, the numbers stay right."""

from __future__ import annotations

import errno
import importlib.util
import os
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hff_ase.errors import HFFWarning

cache = pytest.importorskip("hff_ase.kernels.cache", reason="numba is not installed")
SOURCE = """
from hff_ase.kernels.jit import jit

@jit
def doubled(x):
    return 2.0 * x
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "kernel.py").write_text(SOURCE)
    (tmp_path / "tmp").mkdir()
    config = pytest.importorskip("numba").config
    monkeypatch.setattr(config, "CACHE_DIR", "")  # beside the source, wherever tests keep theirs
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    cache.SAID.clear()
    return tmp_path


def spare(place: Path) -> Path:
    """The folder of this user among temporary files."""
    return place / "tmp" / f"hff_ase-kernels-{os.getuid()}"


def run(place: Path) -> tuple[float, Any]:
    """What a new process would compute, and the function's use of the cache."""
    spec = importlib.util.spec_from_file_location("kernel", place / "kernel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.doubled(3.0), module.doubled.stats


def kept(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.rglob(f"*{suffix}"))


def test_a_second_process_takes_what_the_first_compiled(place: Path) -> None:
    assert run(place)[0] == 6.0
    value, stats = run(place)
    assert value == 6.0
    assert sum(stats.cache_hits.values()) == 1


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_what_is_damaged_is_compiled_anew(place: Path, damage: str) -> None:
    run(place)
    (path,) = kept(place, ".nbc")
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle] ^= 1 if damage == "flipped" else 0
    changed = {"empty": b"", "cut": bytes(raw[:middle]), "other": b"what is this"}
    path.write_bytes(changed.get(damage, bytes(raw)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, stats = run(place)
    assert value == 6.0
    assert sum(stats.cache_hits.values()) == 0
    assert sum(run(place)[1].cache_hits.values()) == 1  # and is whole again


def test_changed_source_is_compiled_anew(place: Path) -> None:
    run(place)
    (place / "kernel.py").write_text(SOURCE.replace("2.0 * x", "3.0 * x"))
    assert run(place)[0] == 9.0
    assert sum(run(place)[1].cache_hits.values()) == 1


class Paused:
    """What pickles as a text, and runs something while it is pickled."""

    def __init__(self, text: str, meanwhile: Callable[[], Any]) -> None:
        self.text, self.meanwhile = text, meanwhile

    def __repr__(self) -> str:
        return self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other)

    def __reduce__(self) -> Any:
        self.meanwhile()
        return str, (self.text,)


def test_processes_with_different_signatures_do_not_mix_their_files(tmp_path: Path) -> None:
    # two processes that look into an empty folder at the same time: the second writes everything
    # after the first has chosen its file's name and before it writes its data
    folder, stamp = tmp_path / "__pycache__", (1.0, 2)
    first, second = (cache.KernelFiles(folder, "kernel", stamp) for _ in range(2))
    second_looked, first_named, second_done = (threading.Event() for _ in range(3))

    def save_second() -> None:
        def meanwhile() -> None:
            second_looked.set()
            first_named.wait(5.0)

        second.save(Paused("(float64,)", meanwhile), "float64")
        second_done.set()

    def write_data() -> None:
        first_named.set()
        second_done.wait(5.0)

    folder.mkdir()
    thread = threading.Thread(target=save_second)
    key = Paused("(float32,)", lambda: second_looked.wait(5.0))
    thread.start()
    first.save(key, Paused("float32", write_data))
    thread.join()
    again = cache.KernelFiles(folder, "kernel", stamp)
    assert again.load("(float64,)") in ("float64", None)
    assert again.load("(float32,)") in ("float32", None)


def fill(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let a disk be full below these folders."""
    write = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if any(self.is_relative_to(folder) for folder in folders):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)


def test_a_full_folder_makes_way_for_another(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, place / "__pycache__")
    with pytest.warns(HFFWarning, match=r"cached elsewhere: cannot write .*__pycache__ \(No space"):
        assert run(place)[0] == 6.0
    value, stats = run(place)  # said once, and found again
    assert value == 6.0
    assert sum(stats.cache_hits.values()) == 1
    assert kept(spare(place), ".nbc")


def test_no_room_anywhere_is_said_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, place)
    with pytest.warns(HFFWarning, match="compiles again.*hff_ase-kernels.*NUMBA_CACHE_DIR"):
        assert run(place)[0] == 6.0
    assert run(place)[0] == 6.0


def test_a_spare_folder_of_somebody_else_is_left_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare(place).mkdir(mode=0o777)
    spare(place).chmod(0o777)
    fill(monkeypatch, place / "__pycache__")
    with pytest.warns(HFFWarning, match="belongs to another user"):
        assert run(place)[0] == 6.0
    assert not kept(spare(place), ".nbc")


def test_no_folder_at_all_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # numba is allowed only a folder that the user names, and none is named
    config = pytest.importorskip("numba").config
    monkeypatch.setattr(config, "CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    with pytest.warns(HFFWarning, match="no folder that can be written; set NUMBA_CACHE_DIR"):
        assert run(place)[0] == 6.0
