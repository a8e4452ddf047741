"""Lets tests run Triton kernels anywhere: compiled where there is a GPU, else interpreted.

Import this before any module that holds Triton kernels. Triton reads ``TRITON_INTERPRET`` when it
is imported itself, so the choice is made once per process; without a GPU nothing could be compiled
for anyway, so no other test loses by it.
"""

from __future__ import annotations

import os
import sys

import pytest
import torch

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")  # where tests of kernels put their tensors

if not HAS_GPU:
    if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("expected triton to be imported after triton_interpreter, got it before")
    os.environ["TRITON_INTERPRET"] = "1"

pytest.importorskip("triton", reason="triton is not installed")
