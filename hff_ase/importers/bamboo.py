"""Import of a published BAMBOO checkpoint (Gong et al., Nat. Mach. Intell. 2025).

Only its arrays are read, by their published names; the energy is rebuilt from our own terms, with
units converted here once (the checkpoint is in kcal/mol).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast
from zipfile import BadZipFile

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from hff_ase.checkpoint import ModelInfo
from hff_ase.domain import Domain
from hff_ase.domain_json import domain_from_dict
from hff_ase.errors import CheckpointError, in_one_line
from hff_ase.nets.get import GET
from hff_ase.nets.mlp import mlp
from hff_ase.potential import HybridPotential
from hff_ase.terms.bamboo_dispersion import BambooDispersion
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.predicted_charges import PredictedCharges
from hff_ase.terms.short_range import ShortRange
from hff_ase.units import KCAL_PER_MOL

__all__ = ["from_bamboo"]

# The checkpoint's tables have rows for elements that were never trained.
ELEMENTS = ("H", "Li", "C", "N", "O", "F", "P", "S")
K_E = 332.06349451357806 * KCAL_PER_MOL  # the checkpoint's Coulomb constant, eV Angstrom / e^2
CUTOFF = 5.0
DOMAIN = Path(__file__).with_name("bamboo_domain.json")  # written by models/recipes/domains.py
DAMPING = (2.2, 18.7)  # r0 in Angstrom, sharpness

Arrays = Mapping[str, np.ndarray]


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint: TorchScript (.pt) or .npz.

    Raises:
        CheckpointError: no such file, or it is neither.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"expected a BAMBOO checkpoint (.pt or .npz), got no file at {path}")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        # Deserialises parameters; nothing of the module is called.
        module = torch.jit.load(str(path), map_location="cpu")
        return {name: value.numpy() for name, value in module.state_dict().items()}
    except (RuntimeError, ValueError, OSError, EOFError, BadZipFile) as error:
        reason = in_one_line(error)
        raise CheckpointError(
            f"expected a BAMBOO checkpoint (TorchScript .pt or .npz of its arrays), got {path}, "
            f"which cannot be read: {reason}"
        ) from None


def from_bamboo(
    path: str | Path,
    *,
    charge_response: bool = True,
    coulomb_method: str = "pme",
    coulomb_cutoff: float = 10.0,
    tolerance: float = 1e-6,
) -> HybridPotential:
    """A published BAMBOO checkpoint as a HybridPotential (float32 networks).

    Args:
        path: TorchScript .pt, or .npz of its arrays under their published names.
        charge_response: True gives forces and stress that are the exact gradient of the energy;
            False leaves out how the charges respond to positions, as published.
        coulomb_method, coulomb_cutoff, tolerance: see `Coulomb`; the checkpoint does not fix them.

    Raises:
        CheckpointError: the file cannot be read, or lacks an array.
    """
    arrays = Reader(read_arrays(path), str(path))
    short_range = _short_range(arrays)
    charges = _charges(arrays, short_range.net.channels, charge_response)
    dispersion = BambooDispersion(
        c6={s: arrays.element("c6_emb.weight", s) * KCAL_PER_MOL for s in ELEMENTS},
        r0={s: arrays.element("r0_emb.weight", s) for s in ELEMENTS},
    )
    coulomb = Coulomb(coulomb_method, coulomb_cutoff, tolerance, DAMPING, K_E)
    terms = {
        "short_range": short_range,
        "charges": charges,
        "coulomb": coulomb,
        "dispersion": dispersion,
    }
    return HybridPotential(terms, ELEMENTS)


class Reader:
    """Arrays by name, with an error that names what is missing or misshapen."""

    def __init__(self, arrays: Arrays, source: str) -> None:
        self.arrays, self.source = arrays, source

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __call__(self, name: str) -> Tensor:
        if name not in self.arrays:
            raise CheckpointError(
                f"expected a BAMBOO checkpoint with the array {name!r}, got {len(self.arrays)} "
                f"arrays without it in {self.source}"
            )
        return torch.as_tensor(np.array(self.arrays[name]))

    def rows(self, name: str) -> Tensor:
        """The rows of our elements in a table over atomic numbers."""
        table = self(name)
        numbers = [atomic_numbers[symbol] for symbol in ELEMENTS]
        if table.ndim != 2 or table.shape[0] <= max(numbers):
            raise CheckpointError(
                f"expected {name!r} to be a table with a row per atomic number up to "
                f"{max(numbers)}, got shape {tuple(table.shape)} in {self.source}"
            )
        return table[numbers]

    def element(self, name: str, symbol: str) -> float:
        """One element's entry of a table with one column."""
        return float(self.rows(name)[ELEMENTS.index(symbol), 0])

    def fill(self, module: nn.Module, prefix: str) -> None:
        """Copy ``prefix.<parameter>`` into every parameter of a module."""
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                self.copy(parameter, f"{prefix}.{name}")

    def copy(self, parameter: Tensor, name: str) -> None:
        """Copy one array into a parameter of the same shape."""
        value = self(name)
        if value.shape != parameter.shape:
            raise CheckpointError(
                f"expected {name!r} with shape {tuple(parameter.shape)}, got "
                f"{tuple(value.shape)} in {self.source}"
            )
        parameter.data.copy_(value)


def _short_range(arrays: Reader) -> ShortRange:
    embedding = arrays.rows("atom_embtab.weight")
    middle = sum(f"attns.{n}.qkv_proj.weight" in arrays for n in range(100))
    options = {
        "channels": embedding.shape[1],
        "heads": 16,
        "layers": middle + 2,
        "n_radial": arrays("dis_rbf.means").numel(),
        "cutoff": CUTOFF,
        "envelope": "cosine",
    }
    term = ShortRange(ELEMENTS, "get", options)
    net = cast(GET, term.net)
    net.embedding.weight.data.copy_(embedding)
    arrays.copy(net.basis.means, "dis_rbf.means")
    arrays.copy(net.basis.betas, "dis_rbf.betas")
    arrays.copy(net.radial.weight, "dv_proj.0.weight")
    names = ["first_attn", *(f"attns.{n}" for n in range(middle)), "last_attn"]
    ours_to_theirs = {"norm": "layer_norm", "qkv": "qkv_proj", "out": "o_proj", "vec": "vec_proj"}
    for layer, name in zip(net.layers, names, strict=True):
        for ours, theirs in ours_to_theirs.items():
            if hasattr(layer, ours):
                arrays.fill(getattr(layer, ours), f"{name}.{theirs}")
    arrays.fill(term.energy, "energy_mlp")
    last = cast(nn.Linear, term.energy[-1])
    last.weight.data *= KCAL_PER_MOL
    last.bias.data *= KCAL_PER_MOL
    return term


def _charges(arrays: Reader, channels: int, charge_response: bool) -> PredictedCharges:
    term = PredictedCharges(ELEMENTS, channels, charge_response=charge_response)
    arrays.fill(term.charge, "charge_mlp")
    term.initial_charge.data.copy_(arrays.rows("oplsaa_charge.weight")[:, 0])
    # Electronegativity and hardness are networks of the initial embedding: one value per element.
    embedding = arrays.rows("atom_embtab.weight").double()
    chi = _mlp_of(arrays, "pred_electronegativity_mlp", embedding)
    root = arrays.rows("electronegativity_table.weight")[:, 0].double().sqrt()
    term.electronegativity.data.copy_((root + chi).square() * KCAL_PER_MOL)
    hardness = _mlp_of(arrays, "pred_electronegativity_hardness_mlp", embedding)
    term.hardness_root.data.copy_(hardness * KCAL_PER_MOL**0.5)
    return term


def _mlp_of(arrays: Reader, prefix: str, x: Tensor) -> Tensor:
    head = mlp(x.shape[1], 32, 32, 1).double()
    arrays.fill(head, prefix)
    with torch.no_grad():
        return head(x)[:, 0]


def info_of(name: str, potential: HybridPotential, charge_response: bool) -> ModelInfo:
    """What an imported checkpoint is: source, licence, and the molecules that it is for."""
    return ModelInfo(
        name=name,
        description="imported BAMBOO checkpoint"
        + ("" if charge_response else ", forces at fixed charges as published"),
        provenance="Gong et al., Nat. Mach. Intell. 2025; the checkpoint's own licence holds",
        trained_with=tuple(term for term, _ in potential.named_terms()),
        domain=published_domain(),
    )


def published_domain() -> Domain:
    """The solvents and salts that the published weights were trained on."""
    return domain_from_dict(json.loads(DOMAIN.read_text(encoding="utf-8")))
