"""What a model says of the samples of an ensemble: energies, pressures, and how parameters move
them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hff_ase.batch import AtomsBatch
from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.derivatives import offsets_in_molecules
from hff_ase.evaluator import Evaluator
from hff_ase.parameter_vector import ParameterVector
from hff_ase.potential import HybridPotential
from hff_ase.units import BAR

Array = NDArray[np.float64]
STRAIN = 1e-4  # of molecules' centres, for dP/dtheta


@dataclass(frozen=True, eq=False)
class Energies:
    """What one model says of the samples.

    Attributes:
        total: [n], eV.
        terms: [n] per term.
        gradient: dU/dtheta [n, p], eV; None where not asked for.
        pressure: [n], bar, of the molecules' centres and their ideal part; None as above.
        pressure_gradient: dP/dtheta [n, p], bar.
    """

    total: Array
    terms: dict[str, Array]
    gradient: Array | None = None
    pressure: Array | None = None
    pressure_gradient: Array | None = None


def evaluate(
    potential: HybridPotential,
    ensemble: Ensemble,
    theta: ParameterVector | None = None,
    *,
    pressure: bool = False,
    samples: Sequence[int] | None = None,
) -> Energies:
    """Energies of the samples, per term, and what else is asked for.

    Args:
        potential: any.
        ensemble: of liquids or molecules that it knows.
        theta: of the potential; with it dU/dtheta of every sample.
        pressure: also pressures and, with theta, dP/dtheta.
        samples: which; None for all.
    """
    evaluator = Evaluator(potential, trajectory=False)
    rows: dict[str, list[Array]] = {}
    wanted = ["molecules"] if pressure else []
    asked: dict[str, Any] = {}
    if theta is not None:
        wanted, asked = [*wanted, "parameters"], {"parameters": theta.names}
    for batch in ensemble.batches(samples):
        batch = batch.to(potential.known.device)
        result = evaluator.evaluate(batch, derivatives=wanted, **asked)
        _put(rows, "total", result.energy)
        for name, energy in result.energy_terms.items():
            _put(rows, f"term {name}", energy)
        if theta is not None:
            rows.setdefault("gradient", []).append(theta.gradients(result.parameter_gradients))
        if pressure and result.molecular_stress is not None:
            trace = result.molecular_stress.diagonal(dim1=1, dim2=2).sum(1)
            ideal = ensemble.n_molecules / ensemble.beta / batch.volume
            _put(rows, "pressure", (ideal - trace / 3.0) / BAR)
            if theta is not None:
                rows.setdefault("slope", []).append(_pressure_gradient(evaluator, batch, theta))
    all_rows = {name: np.concatenate(parts) for name, parts in rows.items()}
    terms = {n.removeprefix("term "): v for n, v in all_rows.items() if n.startswith("term ")}
    return Energies(
        all_rows["total"],
        terms,
        all_rows.get("gradient"),
        all_rows.get("pressure"),
        all_rows.get("slope"),
    )


def _pressure_gradient(evaluator: Evaluator, batch: AtomsBatch, theta: ParameterVector) -> Array:
    """dP/dtheta [n_systems, p], bar: P = -dU/dV with the molecules moved as rigid bodies."""
    ends = []
    for sign in (1.0, -1.0):
        moved = scaled_by_molecules(batch, 1.0 + sign * STRAIN)
        found = evaluator.evaluate(moved, derivatives=["parameters"], parameters=theta.names)
        ends.append(theta.gradients(found.parameter_gradients))
    volume = batch.volume.cpu().numpy()[:, None]
    return np.asarray(-(ends[0] - ends[1]) / (2.0 * STRAIN) / (3.0 * volume) / BAR)


def scaled_by_molecules(batch: AtomsBatch, factor: float) -> AtomsBatch:
    """The boxes scaled with the centres of mass of their molecules, which stay unchanged."""
    inside = offsets_in_molecules(batch)
    centres = batch.positions - inside
    return batch.moved(centres * factor + inside, batch.cell * factor)


def _put(rows: dict[str, list[Array]], name: str, values: torch.Tensor) -> None:
    rows.setdefault(name, []).append(values.detach().double().cpu().numpy())
