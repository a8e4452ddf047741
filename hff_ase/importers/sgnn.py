"""Weights of sGNN (PhyNEO's bonded network) from arrays in an .npz file.

They are published as pickles, which can run anything when they are loaded and are not read here.
Whoever trusts one converts it (`docs/skeletons.md` shows how): arrays ``w``, ``fc0.0.weight``,
``fc0.0.bias`` ... ``fc_final.bias``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hff_ase.errors import CheckpointError
from hff_ase.molecular.bond_features import n_elements, n_geometric
from hff_ase.terms.bond_network import HIDDEN, TOP

SCALE = 162.13039087945623  # kJ/mol
OFFSET = 117.41975505778706  # kJ/mol
VALENCES = {4: 1, 6: 0}  # most bonds of an atom -> how far around a bond the network looks


def read_weights(path: str | Path) -> tuple[int, dict[str, Tensor]]:
    """The valence that a network is for, and its parameters as `BondNet` names them, float64.

    Raises:
        CheckpointError: no such arrays, or of other shapes.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], dtype=np.float64) for name in file.files}
        ours: dict[str, np.ndarray] = {"mixing": arrays["w"].reshape(())}
        ours |= _layers(arrays, "fc0", "bonds", len(HIDDEN))
        ours |= _layers(arrays, "fc1", "mixed", len(TOP))
        ours["energy.weight"] = arrays["fc_final.weight"].reshape(1, -1)
        ours["energy.bias"] = arrays["fc_final.bias"].reshape(1)
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"expected weights of sGNN as arrays w, fc0.0.weight ... fc_final.bias in the .npz "
            f"file {path}, got {error!r}"
        ) from None
    width = ours["bonds.0.weight"].shape[-1]
    sizes = {n_elements(valence) + n_geometric(valence): valence for valence in VALENCES}
    if width not in sizes:
        raise CheckpointError(
            f"expected a network of {' or '.join(map(str, sizes))} features in {path}, got {width}"
        )
    return sizes[width], {name: torch.as_tensor(value) for name, value in ours.items()}


def _layers(arrays: dict[str, np.ndarray], theirs: str, ours: str, n: int) -> dict[str, np.ndarray]:
    return {
        f"{ours}.{layer}.{kind}": arrays[f"{theirs}.{layer}.{kind}"]
        for layer in range(n)
        for kind in ("weight", "bias")
    }
