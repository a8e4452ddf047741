"""Mean and spread of the results of several models for the same structure.

Models that were trained alike but from other random numbers agree where they have seen data and
part where they have not. Their spread is not an error bar, but it ranks structures: Behler, Int. J.
Quantum Chem. 115, 1032 (2015); Zhang et al., Phys. Rev. Mater. 3, 023804 (2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Spread"]

Results = dict[str, Any]
AVERAGED = (
    "energy", "free_energy", "energies", "forces", "stress", "charges", "dipole",
)  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """Standard deviations over the members (division by their number).

    Attributes:
        energy: of the total energy, eV.
        forces: [n_atoms], ``sqrt(mean over members of |F - mean F|^2)``, eV/Angstrom.
        stress: root mean square over the nine components, eV/Angstrom^3; None without a cell.
        charges: [n_atoms], e; None where a member has none.
    """

    energy: float
    forces: np.ndarray
    stress: float | None = None
    charges: np.ndarray | None = None

    def largest(self, quantile: float = 1.0) -> float:
        """A quantile of the spread of forces over the atoms, by default the largest."""
        return float(np.quantile(self.forces, quantile))


def spread_of(members: Sequence[Mapping[str, Any]]) -> Spread:
    """The spread of several results (ASE's, of the same structure)."""

    def deviations(name: str) -> np.ndarray:
        values = np.stack([np.asarray(results[name], dtype=np.float64) for results in members])
        return values - values.mean(axis=0)

    stress = charges = None
    if all("stress" in results for results in members):
        squares = np.square(deviations("stress")).mean(axis=0)  # Voigt: shear counts twice
        stress = float(np.sqrt((squares[:3].sum() + 2 * squares[3:].sum()) / 9))
    if all("charges" in results for results in members):
        charges = np.sqrt(np.square(deviations("charges")).mean(axis=0))
    forces = np.sqrt(np.square(deviations("forces")).sum(axis=2).mean(axis=0))
    energy = float(np.sqrt(np.square(deviations("energy")).mean()))
    return Spread(energy, forces, stress, charges)


def mean_of(members: Sequence[Mapping[str, Any]]) -> Results:
    """The mean of several results; only what every member gives."""
    mean: Results = {}
    for name in AVERAGED:
        if all(results.get(name) is not None for results in members):
            value = np.mean([results[name] for results in members], axis=0)
            mean[name] = float(value) if np.ndim(value) == 0 else value
    terms = [results.get("energy_terms") for results in members]
    if all(isinstance(t, Mapping) and t.keys() == terms[0].keys() for t in terms):  # type: ignore[union-attr]
        mean["energy_terms"] = {
            name: float(np.mean([t[name] for t in terms if t is not None]))
            for name in (terms[0] or {})
        }
    return mean
