"""What the checks share: evaluating a potential and comparing results."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential
from hff_ase.testing.structures import ELEMENTS, sample_structures

Arrays = dict[str, np.ndarray]


def assert_close(
    what: str, got: np.ndarray | Tensor, expected: np.ndarray | Tensor, tolerance: float
) -> None:
    """Refuse a difference above ``tolerance`` times the largest expected value (at least 1)."""
    a, b = (np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x) for x in (got, expected))
    if a.shape != b.shape:
        raise AssertionError(f"{what}: expected shape {b.shape}, got {a.shape}")
    if a.size == 0:
        return
    if not np.isfinite(a).all():
        raise AssertionError(f"{what}: expected finite values, got {a[~np.isfinite(a)][0]}")
    difference = np.abs(a - b)
    worst = float(difference.max())
    scale = max(1.0, float(np.abs(b).max()))
    if not worst <= tolerance * scale:
        where = tuple(int(k) for k in np.unravel_index(int(difference.argmax()), a.shape))
        raise AssertionError(
            f"{what}: expected agreement to {tolerance * scale:.1e}, got a difference of "
            f"{worst:.1e} at {where} ({a[where]:.10g} against {b[where]:.10g})"
        )


def per_system(result: Evaluation, batch: AtomsBatch) -> list[Arrays]:
    """Energy, terms, forces, stress and per-atom fields of each system of an evaluation."""
    ends = torch.cumsum(batch.counts, 0).tolist()[:-1]
    per_atom = {"atomic energies": result.energies, "forces": result.forces}
    per_atom |= {f"field {name!r}": value for name, value in result.fields.items()}
    whole = {"energy": result.energy, "stress": result.stress}
    whole |= {f"energy of {name!r}": value for name, value in result.energy_terms.items()}
    split = {
        name: np.split(value.cpu().numpy(), ends)
        for name, value in per_atom.items()
        if value is not None
    }
    single = {name: value.cpu().numpy() for name, value in whole.items() if value is not None}
    return [
        {name: parts[k] for name, parts in split.items()}
        | {name: np.asarray(values[k]) for name, values in single.items()}
        for k in range(batch.n_systems)
    ]


def evaluate(potential: HybridPotential, structures: Atoms | Sequence[Atoms]) -> list[Arrays]:
    """Results per system of one batched pass."""
    batch = AtomsBatch.from_atoms(structures, device_of(potential))
    return per_system(potential(batch), batch)


def device_of(potential: HybridPotential) -> torch.device:
    """Where the potential lives."""
    return next((t.device for t in potential.buffers()), torch.device("cpu"))


def in_float64(potential: HybridPotential) -> HybridPotential:
    """A copy with networks in float64."""
    return copy.deepcopy(potential).set_dtype(torch.float64)


def precision(potential: HybridPotential) -> float:
    """What two ways to the same result may differ by: 1e-10, or 5e-6 with float32 networks."""
    single = any(p.dtype == torch.float32 for p in potential.parameters())
    return 5e-6 if single else 1e-10


def samples_for(potential: HybridPotential, structures: Iterable[Atoms] | None) -> list[Atoms]:
    """The given structures, or samples of the elements that the potential knows."""
    if structures is not None:
        return list(structures)
    return list(sample_structures(potential.elements or ELEMENTS).values())


def label(atoms: Atoms) -> str:
    """A structure in a few words, for messages."""
    return f"{atoms.get_chemical_formula()}{' (periodic)' if atoms.pbc.any() else ''}"
