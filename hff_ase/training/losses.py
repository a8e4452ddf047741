"""The loss: weighted mean squared errors of a potential."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.data.labels import PROPERTIES, Labels
from hff_ase.pair_source import PairSource
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential
from hff_ase.units import COULOMB_CONSTANT

__all__ = [
    "PROPERTIES",
    "Differences",
    "LossWeights",
    "charge_response",
    "differences",
    "label_counts",
    "loss",
    "squares",
]

Differences = dict[str, tuple[Tensor, Tensor]]
Sync = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the mean squared errors; 0 leaves a property out.

    energy 1/(eV/atom)^2, forces 1/(eV/A)^2, stress 1/(eV/A^3)^2, charges 1/e^2, dipole 1/(e A)^2,
    esp 1/V^2, charge_response 1/(eV/A)^2.

    ``remove_energy_mean`` takes the mean error of the energies per atom out of the loss: the
    offset between two methods is then left to the reference energies.
    """

    energy: float = 2.0
    forces: float = 1.0
    stress: float = 1e3
    charges: float = 3.0
    dipole: float = 0.0
    esp: float = 0.0
    charge_response: float = 0.0
    remove_energy_mean: bool = False

    def of(self, name: str) -> float:
        """The weight of a property."""
        return float(getattr(self, name))


def differences(
    batch: AtomsBatch, result: Evaluation, labels: Labels, response: Tensor | None = None
) -> Differences:
    """Prediction less label for each property, with the weights of the systems.

    Args:
        batch: the systems.
        result: what was predicted; properties that it does not hold are left out.
        labels: of the same systems; what is NaN there does not count.
        response: from `charge_response`, whose label is zero.

    Returns:
        Per property the errors [m, ...] of the labels that exist and weights that broadcast to
        them. Energies are per atom; dipoles and potentials are those of the predicted charges.
    """
    found: Differences = {}

    def put(name: str, predicted: Tensor, label: Tensor, system: Tensor | None) -> None:
        rows = torch.isfinite(label).flatten(1).all(1) if label.dim() > 1 else torch.isfinite(label)
        if not bool(rows.any()):
            return
        weight = labels.weight_of(name)
        weight = (weight if system is None else weight[system])[rows]
        error = (predicted.double() - label)[rows]
        found[name] = error, weight.reshape(-1, *[1] * (error.dim() - 1))

    put("energy", result.energy / batch.counts, labels.energy / batch.counts, None)
    if result.forces is not None:
        put("forces", result.forces, labels.forces, batch.system)
    if result.stress is not None:
        put("stress", result.stress, labels.stress, None)
    charges = result.fields.get("charges")
    if charges is not None:
        put("charges", charges, labels.charges, batch.system)
        if bool(torch.isfinite(labels.dipole).any()):
            put("dipole", dipole(batch, charges), labels.dipole, None)
        if len(labels.esp):
            values = potential_at(batch, charges, labels.esp_points, labels.esp_system)
            put("esp", values, labels.esp, labels.esp_system)
    if response is not None:
        put("charge_response", response, torch.zeros_like(batch.positions), batch.system)
    return found


def dipole(batch: AtomsBatch, charges: Tensor) -> Tensor:
    """Dipoles sum_i q_i x_i [n_systems, 3], e Angstrom, about the origin of the coordinates.

    Charges sum to the charge of the system, so that the difference from a label with the same
    origin does not depend on it, for ions either.
    """
    return batch.system_sum(charges.double()[:, None] * batch.positions)


def potential_at(batch: AtomsBatch, charges: Tensor, points: Tensor, system: Tensor) -> Tensor:
    """Potential [n_points] in V of the bare point charges of each point's own (finite) system."""
    # as wide as the largest molecule with points: boxes in the same batch have none
    n_max = int(batch.counts[system].max()) if len(system) else 0
    positions, q = batch.pad(batch.positions)[:, :n_max], batch.pad(charges.double())[:, :n_max]
    present = torch.arange(n_max, device=batch.device) < batch.counts[:, None]
    distance = (points[:, None] - positions[system]).norm(dim=-1)  # [n_points, n_max]
    inverse = torch.where(present[system], 1.0 / distance, torch.zeros_like(distance))
    return COULOMB_CONSTANT * (inverse * q[system]).sum(1)


def charge_response(
    potential: HybridPotential, batch: AtomsBatch, neighbors: PairSource | None = None
) -> Tensor:
    """The part of the forces that acts through the charges, [n_atoms, 3], eV/Angstrom, with graph.

    -sum_j dE/dq_j dq_j/dx_i: zero where the charges minimise the energy, as charge equilibration
    would have it, and where they do not depend on positions. Its mean square is the penalty with
    which BAMBOO was trained (Gong et al., Nat. Mach. Intell. 2025). Third derivatives are needed
    for its gradient: evaluated with the reference operations only.
    """
    neighbors = neighbors or potential.neighbor_list()
    followed = neighbors.follow(batch)
    positions = followed.positions.detach().requires_grad_(True)
    with torch.enable_grad():
        moved = followed.moved(positions)
        fields, atomic = potential.evaluate_terms(moved, neighbors)
        charges = fields.get("charges")
        if charges is None or not charges.requires_grad:
            return torch.zeros_like(batch.positions)
        energy = torch.stack([value.sum() for value in atomic.values()]).sum()
        # what passes through the charges, and only that
        slope = _gradient(energy, charges, None)
        return followed.as_given(-_gradient(charges, positions, slope))


def _gradient(output: Tensor, leaf: Tensor, seed: Tensor | None) -> Tensor:
    if not output.requires_grad:
        return torch.zeros_like(leaf)
    (gradient,) = torch.autograd.grad(
        [output], [leaf], None if seed is None else [seed], create_graph=True, allow_unused=True
    )
    return torch.zeros_like(leaf) if gradient is None else gradient


def label_counts(labels: Labels) -> dict[str, float]:
    """How many numbers are labelled per property: what a mean square divides by."""
    rows = {
        "energy": torch.isfinite(labels.energy).sum(),
        "forces": 3 * torch.isfinite(labels.forces).all(1).sum(),
        "stress": 9 * torch.isfinite(labels.stress).flatten(1).all(1).sum(),
        "charges": torch.isfinite(labels.charges).sum(),
        "dipole": 3 * torch.isfinite(labels.dipole).all(1).sum(),
        "esp": torch.isfinite(labels.esp).sum(),
    }
    counts = torch.stack(list(rows.values())).tolist()  # one wait for a device, not six
    found = dict(zip(rows, map(float, counts), strict=True))
    found["charge_response"] = float(labels.forces.numel())  # its label, zero, always exists
    return found


def loss(
    found: Differences, weights: LossWeights, counts: Mapping[str, float], sync: Sync | None = None
) -> Tensor:
    """sum_p weight_p sum(w err^2) / counts_p, a float64 scalar.

    With the counts of a whole batch the losses of its parts add up to that of the whole; only a
    mean energy that is removed is that of the part.

    Args:
        found: from `differences`.
        weights: per property.
        counts: from `label_counts`, of the whole batch (over all processes).
        sync: sums a tensor over processes, for the mean of the energies.
    """
    total: Tensor | None = None
    for name, (error, weight) in found.items():
        factor = weights.of(name)
        if factor == 0.0:
            continue
        if name == "energy" and weights.remove_energy_mean:
            error = error - _mean(error, weight, sync)
        part = factor * (weight * error.square()).sum() / counts[name]
        total = part if total is None else total + part
    return torch.zeros((), dtype=torch.float64) if total is None else total


def _mean(error: Tensor, weight: Tensor, sync: Sync | None) -> Tensor:
    """Weighted mean; a constant: the sum of what is left is zero, so is its part of the slope."""
    sums = torch.stack([(weight * error).sum(), weight.sum()]).detach()
    sums = sums if sync is None else sync(sums)
    return sums[0] / sums[1].clamp_min(1e-300)


def squares(found: Differences) -> dict[str, tuple[float, float]]:
    """Sum of squares and number of errors per property, unweighted, for reports."""
    if not found:
        return {}
    sums = torch.stack([error.detach().square().sum().double() for error, _ in found.values()])
    return {
        name: (value, float(error.numel()))
        for value, (name, (error, _)) in zip(sums.tolist(), found.items(), strict=True)
    }
