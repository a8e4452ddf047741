"""From a batched evaluation to ASE's results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.fields import DIPOLES
from hff_ase.passes import Evaluation

__all__ = ["results_to_atoms"]


def results_to_atoms(
    structures: Sequence[Atoms], results: Sequence[Mapping[str, Any]]
) -> list[Atoms]:
    """Copies of structures that carry their results, for writing and for ASE's tools.

    Several structures that share one calculator all show what it computed last.

    Args:
        structures: as evaluated.
        results: of `HybridFF.evaluate`, in the same order.

    Raises:
        ConfigError: not as many results as structures.
    """
    if len(structures) != len(results):
        raise ConfigError(
            f"expected results of {len(structures)} structures, got those of {len(results)}"
        )
    copies = []
    for atoms, found in zip(structures, results, strict=True):
        copy = atoms.copy()
        known = {name: value for name, value in found.items() if name in all_properties}
        copy.calc = SinglePointCalculator(copy, **known)
        copies.append(copy)
    return copies


def split_results(result: Evaluation, batch: AtomsBatch) -> list[dict[str, Any]]:
    """ASE results per system of a batched evaluation."""
    energy = result.energy.cpu().numpy()
    terms = {name: value.cpu().numpy() for name, value in result.energy_terms.items()}
    arrays = {"energies": result.energies, "forces": result.forces}
    if "charges" in result.fields:
        arrays["charges"] = result.fields["charges"]
    ends = torch.cumsum(batch.counts, 0).cpu().numpy()[:-1]
    split = {
        name: np.split(value.double().cpu().numpy(), ends)
        for name, value in arrays.items()
        if value is not None
    }
    positions = np.split(batch.positions.cpu().numpy(), ends)
    dipoles = [
        np.split(result.fields[name].double().cpu().numpy(), ends)
        for name in DIPOLES
        if name in result.fields
    ]
    stress = None if result.stress is None else result.stress.cpu().numpy()
    periodic = batch.periodic.cpu().numpy()
    out: list[dict[str, Any]] = []
    for k in range(batch.n_systems):
        results: dict[str, Any] = {"energy": float(energy[k]), "free_energy": float(energy[k])}
        results |= {name: parts[k].copy() for name, parts in split.items()}
        if stress is not None and periodic[k]:
            results["stress"] = full_3x3_to_voigt_6_stress(stress[k])
        if "charges" in results:
            own = sum(parts[k].sum(0) for parts in dipoles)
            results["dipole"] = results["charges"] @ positions[k] + own
        results["energy_terms"] = {name: float(value[k]) for name, value in terms.items()}
        out.append(results)
    return out
