"""The fused kernels available on a device: numba on the CPU, Triton on a GPU, or none."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch

from hff_ase.errors import ConfigError, HFFWarning

Backend = Literal["numba", "triton"]
CHOICES = ("auto", "reference")


def check_choice(kernels: str) -> None:
    """Refuse anything but "auto" (fused kernels where they can be used) and "reference".

    Raises:
        ConfigError: another name.
    """
    if kernels not in CHOICES:
        raise ConfigError(f"expected kernels 'auto' or 'reference', got {kernels!r}")


@cache
def available(backend: Backend) -> bool:
    """Whether a backend can be imported here; the first failure is reported in a warning.

    The results are the same without it, only slower.
    """
    if find_spec(backend) is None:
        message = (
            f"{backend} is not installed: the slower reference operations are used "
            f"(pip install {backend})"
        )
    elif backend == "numba" and _compiles_nothing():
        message = (
            "numba is told to compile nothing: the slower reference operations are used "
            "(unset NUMBA_DISABLE_JIT)"
        )
    else:
        return True
    warnings.warn(message, HFFWarning, stacklevel=2)
    return False


def _compiles_nothing() -> bool:
    """NUMBA_DISABLE_JIT, for debuggers and coverage: intrinsics cannot run as plain Python."""
    from numba import config

    return bool(getattr(config, "DISABLE_JIT", False))


def backend_for(device: torch.device) -> Backend | None:
    """The kernels for a device, or None."""
    backend: Backend = "numba" if device.type == "cpu" else "triton"
    return backend if device.type in ("cpu", "cuda") and available(backend) else None
