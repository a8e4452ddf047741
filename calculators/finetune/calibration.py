"""The report of a calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hff_ase.calculators.finetune.quantities import Prediction

Array = NDArray[np.float64]
MANY = 100  # parameters beyond which a report does not list them


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a calibration did.

    Attributes:
        labels: of theta.
        start, theta: [p] before and after, in the coordinates of their transforms.
        width: [p], of the prior; posterior: [p] where targets and prior leave theta.
        before, after: predictions of all targets.
        chi2: of the fitted targets after each iteration, the first before.
        force_rmse: eV/A before and after; empty without labelled frames.
        needs_samples: whether it ended because too few effective samples were left.
    """

    labels: list[str]
    start: Array
    theta: Array
    width: Array
    posterior: Array
    before: list[Prediction]
    after: list[Prediction]
    chi2: list[float]
    force_rmse: list[float]
    needs_samples: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON; many parameters are not listed."""
        listed = len(self.labels) <= MANY
        return {
            "n_parameters": len(self.labels),
            "parameters": {
                label: {"before": b, "after": a, "prior_width": w, "width": s}
                for label, b, a, w, s in zip(
                    self.labels, self.start, self.theta, self.width, self.posterior, strict=True
                )
            }
            if listed
            else {},
            "largest_step": float(np.max(np.abs(self.theta - self.start) / self.width)),
            "targets": compared(self.before, self.after),
            "chi2": self.chi2,
            "force_rmse": self.force_rmse,
            "needs_samples": self.needs_samples,
        }

    def markdown(self) -> str:
        """Targets before and after, as a table."""
        return table(self.before, self.after)


def compared(before: Sequence[Prediction], after: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Targets with what a model gives before and after, for JSON."""
    return [
        {
            "target": str(b.target),
            "wanted": b.target.value,
            "uncertainty": b.target.uncertainty,
            "before": b.value,
            "after": a.value,
            "error": a.error,
            "n_eff": a.n_eff,
            "n_samples": a.n_samples,
            "kept_out": b.target.kept_out,
        }
        for b, a in zip(before, after, strict=True)
    ]


def table(before: Sequence[Prediction], after: Sequence[Prediction]) -> str:
    """The same as a table."""
    lines = ["target | wanted | before | after | N_eff of N", "--- | --- | --- | --- | ---"]
    for b, a in zip(before, after, strict=True):
        kept = " (kept out)" if b.target.kept_out else ""
        wanted = f"{b.target.value:.4g} +- {b.target.uncertainty:.2g} {b.target.unit}"
        values = f"{b.value:.4g} +- {b.error:.2g} | {a.value:.4g} +- {a.error:.2g}"
        lines.append(f"{b.target}{kept} | {wanted} | {values} | {a.n_eff:.0f} of {a.n_samples}")
    return "\n".join(f"| {line} |" for line in lines) + "\n"
