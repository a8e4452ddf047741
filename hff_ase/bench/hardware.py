"""The machine: what it is, how fast it multiplies and copies, and how much memory a call takes."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from hff_ase._version import __version__
from hff_ase.bench.timing import blocks, device_ready
from hff_ase.errors import ConfigError

PACKAGES = ("torch", "numpy", "ase", "vesin", "numba", "triton", "nvalchemi-toolkit-ops")
MATRIX = 2048  # side of the matrices of the product; their 3 x 16 MB are far beyond a cache
COPIED = 256 * 2**20  # bytes
PROC = Path("/proc/self")


def versions() -> dict[str, str | None]:
    """Versions of the package and of what computes; None for what is not installed."""
    found: dict[str, str | None] = {"hff_ase": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def hardware(device: torch.device) -> dict[str, Any]:
    """Processor, cores, memory and GPU."""
    found: dict[str, Any] = {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        found["memory_GB"] = round(
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 1e-9, 1
        )
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["gpu"] = properties.name
        found["gpu_memory_GB"] = round(properties.total_memory * 1e-9, 1)
        found["cuda"] = torch.version.cuda
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@contextmanager
def using_threads(threads: int | None) -> Iterator[int]:
    """Set the number of threads of torch and the kernels, restored afterwards; gives the number.

    Raises:
        ConfigError: no positive number.
    """
    before = torch.get_num_threads()
    threads = before if threads is None else threads
    if threads < 1:
        raise ConfigError(f"expected at least 1 thread, got {threads}")
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)


def yardsticks(device: torch.device, repeats: int = 5) -> dict[str, float]:
    """float32 matrix products in GFLOP/s and copied bytes (read and written) in GB/s, the best of
    some ``repeats``.

    With them numbers of different machines, or of a machine under different load, compare.
    """
    a = torch.randn(MATRIX, MATRIX, device=device)
    out = torch.empty_like(a)
    product = min(blocks(lambda: torch.mm(a, a, out=out), device, repeats))
    source = torch.zeros(COPIED // 4, device=device)
    target = torch.zeros_like(source)
    copy = min(blocks(lambda: target.copy_(source), device, repeats))
    return {
        "matmul_gflops": 2e-9 * MATRIX**3 / product,
        "copy_gb_per_s": 2e-9 * COPIED / copy,
    }


class PeakMemory:
    """Peak growth of memory between `start` and `growth`, in bytes.

    On a GPU what torch's allocator holds; on a CPU the resident set of the process, whose peak the
    Linux kernel counts and can be told to count from zero. Elsewhere `growth` is None.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def start(self) -> None:
        """Start measuring."""
        gc.collect()
        device_ready(self.device)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before: int | None = torch.cuda.memory_allocated(self.device)
        else:
            _return_freed_memory()
            self._before = _resident("VmRSS") if _forget_peak() else None

    def growth(self) -> int | None:
        """Bytes since `start`."""
        device_ready(self.device)
        if self._before is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self._before
        peak = _resident("VmHWM")
        return None if peak is None else max(peak - self._before, 0)


def _return_freed_memory() -> None:
    """Return freed memory to the system, or it would hide later growth."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _forget_peak() -> bool:
    """The kernel counts the peak of the resident set from now on (proc(5), clear_refs)."""
    try:
        (PROC / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident(name: str) -> int | None:
    for line in (PROC / "status").read_text().splitlines():
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])
    return None
