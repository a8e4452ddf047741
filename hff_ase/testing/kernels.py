"""Checks that fused kernels change speed and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import torch
from ase import Atoms

from hff_ase.batch import AtomsBatch
from hff_ase.potential import HybridPotential
from hff_ase.testing.compare import (
    Arrays,
    assert_close,
    device_of,
    label,
    per_system,
    samples_for,
)

ENERGY, DERIVATIVES = 1e-6, 1e-5  # relative to the largest value, at least 1
OF_REFERENCE = 2.0  # or so many times what float32 costs the reference itself


def check_kernels(
    potential: HybridPotential,
    structures: Iterable[Atoms] | None = None,
    skin: float = 0.7,
) -> None:
    """With fused kernels, float32 networks give what the torch reference gives.

    Against the reference in float64: energies to 1e-6, forces, stress and fields to 1e-5 of the
    largest value (at least 1), or to twice the error of the reference in float32 where that is
    more; with pairs in the list that are farther than the cutoffs.
    """
    structures = samples_for(potential, structures)
    batch = AtomsBatch.from_atoms(structures, device_of(potential))

    def results(kernels: str, dtype: torch.dtype) -> list[Arrays]:
        model = copy.deepcopy(potential).set_dtype(dtype).use_kernels(kernels)
        return per_system(model(batch, model.neighbor_list(skin)), batch)

    for atoms, fast, reference, exact in zip(
        structures,
        results("auto", torch.float32),
        results("reference", torch.float32),
        results("reference", torch.float64),
        strict=True,
    ):
        for name, expected in exact.items():
            tolerance = ENERGY if "energ" in name else DERIVATIVES
            if expected.size:
                rounding = float(np.abs(reference[name] - expected).max())
                scale = max(1.0, float(np.abs(expected).max()))
                tolerance = max(tolerance, OF_REFERENCE * rounding / scale)
            assert_close(
                f"{name} of {label(atoms)} with fused kernels", fast[name], expected, tolerance
            )
