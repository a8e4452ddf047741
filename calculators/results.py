"""From a batched evaluation to ASE's results."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase.stress import full_3x3_to_voigt_6_stress

from hff_ase.batch import AtomsBatch
from hff_ase.potential import Evaluation


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
    stress = None if result.stress is None else result.stress.cpu().numpy()
    periodic = batch.periodic.cpu().numpy()
    out: list[dict[str, Any]] = []
    for k in range(batch.n_systems):
        results: dict[str, Any] = {"energy": float(energy[k]), "free_energy": float(energy[k])}
        results |= {name: parts[k].copy() for name, parts in split.items()}
        if stress is not None and periodic[k]:
            results["stress"] = full_3x3_to_voigt_6_stress(stress[k])
        if "charges" in results:
            results["dipole"] = results["charges"] @ positions[k]
        results["energy_terms"] = {name: float(value[k]) for name, value in terms.items()}
        out.append(results)
    return out
