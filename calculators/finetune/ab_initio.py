"""Forces on labelled frames, and how they change with parameters: what a calibration costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.evaluator import Evaluator
from hff_ase.parameter_vector import ParameterVector
from hff_ase.potential import HybridPotential
from hff_ase.training.adapt import complete_labels

Array = NDArray[np.float64]
AT_ONCE = 2000  # atoms in a batch
STEP = 1e-2  # of a prior width, for differences in parameters


class LabelledForces:
    """Frames with forces.

    Args:
        frames: with forces in their calculators.
        potential: that is tuned; says how labels without dispersion are completed.
        dispersion: as `hff_ase.training.adapt.complete_labels`.

    Raises:
        ConfigError: none, or one without forces.
    """

    def __init__(
        self, frames: Sequence[Atoms], potential: HybridPotential, dispersion: str = "auto"
    ) -> None:
        if not frames:
            raise ConfigError("expected frames with forces, got none")
        complete: list[Any] = complete_labels(list(frames), potential, dispersion, quiet=True)
        for k, atoms in enumerate(complete):
            if atoms.calc is None or "forces" not in atoms.calc.results:
                raise ConfigError(f"expected frames with forces, got frame {k} without")
        self.labels = np.concatenate([a.calc.results["forces"] for a in complete])
        self.batches: list[AtomsBatch] = []
        part: list[Atoms] = []
        for atoms in complete:
            if part and sum(map(len, part)) + len(atoms) > AT_ONCE:
                self.batches.append(AtomsBatch.from_atoms(part))
                part = []
            part.append(atoms)
        self.batches.append(AtomsBatch.from_atoms(part))

    def forces(self, potential: HybridPotential) -> Array:
        """[n_atoms, 3] of all frames, eV/Angstrom."""
        evaluator = Evaluator(potential, trajectory=False)
        found: list[torch.Tensor] = []
        for batch in self.batches:
            own = batch.to(potential.known.device)
            result = evaluator.evaluate(own, derivatives=["positions"])
            if result.forces is not None:
                found.append(result.forces.double().cpu())
        return np.asarray(torch.cat(found).numpy())

    def errors(self, potential: HybridPotential) -> Array:
        """Model less label, [3 n_atoms]."""
        return np.asarray((self.forces(potential) - self.labels).reshape(-1))

    def rmse(self, potential: HybridPotential) -> float:
        """Root mean square error, eV/Angstrom."""
        return float(np.sqrt(np.mean(self.errors(potential) ** 2)))

    def along(self, theta: ParameterVector, directions: Array) -> Array:
        """dF/dc [3 n_atoms, d] along directions [p, d] of theta, by central differences."""
        start, columns = theta.get(), []
        for direction in directions.T:
            size = float(np.max(np.abs(direction) / theta.prior_width))
            step = STEP / size if size > 0 else 0.0
            ends = []
            for sign in (1.0, -1.0):
                theta.set(start + sign * step * direction)
                ends.append(self.forces(theta.potential))
            theta.set(start)
            slope = (ends[0] - ends[1]) / (2.0 * step) if step else np.zeros_like(ends[0])
            columns.append(slope.reshape(-1))
        return np.stack(columns, axis=1)
