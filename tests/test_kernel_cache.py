"""The folder of compiled kernels: damaged, full, or not there, the numbers stay right."""

from __future__ import annotations

import errno
import importlib.util
import warnings
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
    spare = tmp_path / "spare"
    numba = pytest.importorskip("numba.core.config")
    monkeypatch.setattr(numba, "CACHE_DIR", "")  # beside the source, wherever tests keep theirs
    monkeypatch.setattr(cache, "spare_folder", lambda: str(spare))
    monkeypatch.setattr(cache, "_said", set())
    return tmp_path


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


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_what_is_damaged_is_compiled_anew(place: Path, suffix: str, damage: str) -> None:
    run(place)
    (path,) = kept(place, suffix)
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


def fill(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let a disk be full below these folders."""
    write = cache.CheckedFile._open_for_write

    def full(self: Any, path: str) -> Any:
        if any(Path(path).is_relative_to(folder) for folder in folders):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, path)

    monkeypatch.setattr(cache.CheckedFile, "_open_for_write", full)


def test_a_full_folder_makes_way_for_another(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, place / "__pycache__")
    with pytest.warns(HFFWarning, match=r"kept elsewhere: cannot write .*__pycache__ \(No space"):
        assert run(place)[0] == 6.0
    value, stats = run(place)  # said once, and found again
    assert value == 6.0
    assert sum(stats.cache_hits.values()) == 1
    assert kept(place / "spare", ".nbc")


def test_no_room_anywhere_is_said_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, place)
    with pytest.warns(HFFWarning, match="every process compiles anew.*spare.*NUMBA_CACHE_DIR"):
        assert run(place)[0] == 6.0
    assert run(place)[0] == 6.0


def test_a_spare_folder_of_somebody_else_is_left_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "spare").mkdir(mode=0o777)
    (place / "spare").chmod(0o777)
    fill(monkeypatch, place / "__pycache__")
    with pytest.warns(HFFWarning, match="belongs to somebody else"):
        assert run(place)[0] == 6.0
    assert not kept(place / "spare", ".nbc")


def test_no_folder_at_all_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.caching import CompileResultCacheImpl

    monkeypatch.setattr(CompileResultCacheImpl, "_locator_classes", [])
    with pytest.warns(HFFWarning, match="no folder that can be written; set NUMBA_CACHE_DIR"):
        assert run(place)[0] == 6.0
