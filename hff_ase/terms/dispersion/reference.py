"""The reference systems of DFT-D3, for the elements of the batch, in eV and Angstrom."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hff_ase.units import BOHR, C6_ATOMIC_UNIT

DATA = Path(__file__).parent.parent / "data" / "d3_reference.npz"
N_ELEMENTS = 94


@dataclass(frozen=True)
class ReferenceTables:
    """Tables for ``n_species`` elements, padded to the ``n_ref`` systems that one has at most.

    Attributes:
        row: int64 [N_ELEMENTS + 1], row of an atomic number; meaningless for other elements.
        cn: [n_species, n_ref], coordination numbers of the reference systems.
        exists: bool [n_species, n_ref], False for padding.
        c6: [n_species * n_ref, n_species * n_ref], eV Angstrom^6, zero for padding.
        covalent_radius: [n_species], with D3's factor 4/3, Angstrom.
        c8_over_c6: [n_species, n_species], 3 Q_i Q_j in Angstrom^2.
        vdw_radius: [n_species, n_species], R0 of zero damping, Angstrom.
    """

    row: Tensor
    cn: Tensor
    exists: Tensor
    c6: Tensor
    covalent_radius: Tensor
    c8_over_c6: Tensor
    vdw_radius: Tensor


@cache
def _published() -> dict[str, np.ndarray]:
    with np.load(DATA, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _symmetric(lower: np.ndarray, size: int) -> np.ndarray:
    """A symmetric matrix from its lower triangle of integers, in units of 10^-4."""
    full = np.zeros((size, size))
    full[np.tril_indices(size)] = lower / 1e4
    return np.maximum(full, full.T)


def reference_tables(numbers: np.ndarray, device: torch.device | str = "cpu") -> ReferenceTables:
    """Tables for the given atomic numbers (sorted, distinct, at most N_ELEMENTS)."""
    data = _published()
    element = data["reference_element"].astype(np.int64)
    systems = [np.flatnonzero(element == number) for number in numbers]
    n_species, n_ref = len(numbers), max(len(chosen) for chosen in systems)
    index = np.full((n_species, n_ref), -1)
    for species, chosen in enumerate(systems):
        index[species, : len(chosen)] = chosen
    exists = index >= 0
    c6 = _symmetric(data["c6_lower"], len(element))
    both = exists.reshape(-1, 1) & exists.reshape(1, -1)
    c6 = np.where(both, c6[index.reshape(-1, 1), index.reshape(1, -1)], 0.0) * C6_ATOMIC_UNIT
    expectation = data["r4r2"][numbers - 1] * BOHR
    radii = _symmetric(data["vdw_lower"], N_ELEMENTS)[np.ix_(numbers - 1, numbers - 1)]
    row = np.zeros(N_ELEMENTS + 1, dtype=np.int64)
    row[numbers] = np.arange(n_species)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, device=device)

    return ReferenceTables(
        row=tensor(row),
        cn=tensor(np.where(exists, data["reference_cn"][index], 0.0)),
        exists=tensor(exists),
        c6=tensor(c6),
        covalent_radius=tensor(data["covalent_radius"][numbers - 1] * 4.0 / 3.0),
        c8_over_c6=tensor(3.0 * expectation[:, None] * expectation[None]),
        vdw_radius=tensor(radii),
    )
