"""What a fit to decomposed energies did, and what a frame weighs in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hff_ase.calculators.finetune.calibration import compared, table
from hff_ase.calculators.finetune.components import COMPONENTS
from hff_ase.calculators.finetune.quantities import Prediction
from hff_ase.units import KCAL_PER_MOL

__all__ = ["PhysicsFit", "frame_weights"]

Array = NDArray[np.float64]
NAMES = (*COMPONENTS, "total")
# ByteFF-Pol's weight of a frame, exp(-max(0, min(E, E') - FLAT)/DECAY) of the totals E, E' ...
FLAT, DECAY = 10.0 * KCAL_PER_MOL, 2.0 * KCAL_PER_MOL
# ... times half a cosine that ends it between these forces, eV/Angstrom
SOFT, HARD = 50.0 * KCAL_PER_MOL, 80.0 * KCAL_PER_MOL


def frame_weights(values: Array, wanted: Array, forces: Array) -> Array:
    """Weights of frames in 0 ... 1, [n_frames].

    Args:
        values, wanted: components and total [n_frames, 5], eV, of model and label.
        forces: the model's largest component of a force between molecules, [n_frames],
            eV/Angstrom.
    """
    lower = np.minimum(values[:, -1], wanted[:, -1])
    energy = np.exp(-np.maximum(0.0, lower - FLAT) / DECAY)
    past = np.clip((forces - SOFT) / (HARD - SOFT), 0.0, 1.0)
    return np.asarray(energy * 0.5 * (1.0 + np.cos(np.pi * past)))


@dataclass(frozen=True, eq=False)
class PhysicsFit:
    """What a fit did.

    Attributes:
        labels: of the parameters that moved.
        start, theta: [n] before and after, values or their logarithms.
        width, posterior: [n], of the prior, and where labels and prior leave them (Laplace).
        scans, held_out: of each frame, its scan and whether it was not fitted.
        wanted, before, after: [n_frames, 5], eV: components in the order of `NAMES`.
        weights: [n_frames], of the frames after the fit.
        objective: at each iteration, the first before.
        force_rmse: of labelled frames, eV/A, before and after; empty without any.
        experiment: predictions of measured values before and after; empty without any.
    """

    labels: list[str]
    start: Array
    theta: Array
    width: Array
    posterior: Array
    scans: list[str]
    held_out: NDArray[np.bool_]
    wanted: Array
    before: Array
    after: Array
    weights: Array
    objective: list[float]
    force_rmse: Sequence[float] = ()
    experiment: Sequence[Sequence[Prediction]] = ()

    def errors(self, values: Array, which: NDArray[np.bool_]) -> Array:
        """Root mean square errors of components, weighted as after the fit, [5], eV.

        Args:
            values: [n_frames, 5], eV.
            which: of the frames, bool [n_frames].
        """
        weight = self.weights[which, None]
        if weight.sum() <= 0.0:
            return np.full(len(NAMES), np.nan)
        return np.asarray(
            np.sqrt((weight * (values - self.wanted)[which] ** 2).sum(0) / weight.sum())
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        groups = {"fitted": ~self.held_out, "held_out": self.held_out}
        found: dict[str, Any] = {
            "parameters": {
                label: {"before": b, "after": a, "prior_width": w, "width": s}
                for label, b, a, w, s in zip(
                    self.labels, self.start, self.theta, self.width, self.posterior, strict=True
                )
            },
            "errors_kcal_per_mol": {
                name: {
                    "n_frames": int(which.sum()),
                    "prior": dict(zip(NAMES, self._kcal(self.before, which), strict=True)),
                    "fit": dict(zip(NAMES, self._kcal(self.after, which), strict=True)),
                }
                for name, which in groups.items()
                if which.any()
            },
            "frames": [
                {"scan": scan, "held_out": bool(out), "weight": float(weight)}
                for scan, out, weight in zip(self.scans, self.held_out, self.weights, strict=True)
            ],
            "objective": self.objective,
        }
        if self.force_rmse:
            found["force_rmse"] = list(self.force_rmse)
        if self.experiment:
            found["targets"] = compared(*self.experiment)
        return found

    def _kcal(self, values: Array, which: NDArray[np.bool_]) -> list[float]:
        return [float(x) for x in self.errors(values, which) / KCAL_PER_MOL]

    def markdown(self) -> str:
        """Errors by component, kcal/mol, as a table; then forces and measured values."""
        heads = [name.replace("_", " ") for name in NAMES]
        lines = [" | ".join(["frames", *heads]), " | ".join(["---"] * (1 + len(heads)))]
        for what, which in (("fitted", ~self.held_out), ("held out", self.held_out)):
            for stage, values in (("prior", self.before), ("fit", self.after)):
                if which.any():
                    numbers = [f"{x:.3f}" for x in self._kcal(values, which)]
                    lines.append(" | ".join([f"{which.sum()} {what}, {stage}", *numbers]))
        text = "\n".join(f"| {line} |" for line in lines) + "\n"
        if self.force_rmse:
            before, after = self.force_rmse
            text += f"\nforces: {before:.4g} eV/A before, {after:.4g} after\n"
        if self.experiment:
            text += "\n" + table(*self.experiment)
        return text
