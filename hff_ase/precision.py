"""Full precision of float32 products, whatever the surrounding program has asked torch for.

`torch.set_float32_matmul_precision` and autocast are settings of the whole process; with them a
network's forces are off by up to some 0.04 eV/Angstrom on processors with bfloat16 units.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

FULL = "highest"
IEEE = "ieee"  # the same in torch's newer, per-backend settings


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Products of float32 matrices in float32, no autocast; the caller's settings come back."""
    with ExitStack() as stack:
        if torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        _hold_products(stack)
        yield


def _hold_products(stack: ExitStack) -> None:
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by backend, so that torch knows no common value
        for library in (torch.backends.mkldnn, torch.backends.cuda):
            backend: Any = getattr(library, "matmul")  # noqa: B009 - unknown to older stubs
            stack.callback(setattr, backend, "fp32_precision", backend.fp32_precision)
            backend.fp32_precision = IEEE
        return
    if before != FULL:
        stack.callback(torch.set_float32_matmul_precision, before)
        torch.set_float32_matmul_precision(FULL)
