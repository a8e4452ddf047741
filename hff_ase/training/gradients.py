"""Gradients of a loss in the parameters, with forces and stress in the loss.

A loss L of energies E, forces F, stress and fields q depends on the parameters through these alone.
With a = dL/dE, b = dL/dF, C = dL/dstress and k = dL/dq, taken at the present predictions and then
held, its gradient in the parameters is that of

    S = sum_s a_s E_s + sum_i k_i q_i + D E,

where D E is the derivative of the total energy along the direction dx = -b + x G, dh = h G,
G = sym(C)/V, of positions and cells (F = -dE/dx; the stress is dE/dstrain/V). A stress by moving
molecules adds its own G to h and to the centres of molecules instead of x. A central
difference of two displaced copies of all systems gives D E, and E and q as their means: one
evaluation and one backward pass of first order, for which there are fused kernels. The plain way, a
derivative of the derivative, is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from hff_ase.backends import backend_for
from hff_ase.batch import AtomsBatch
from hff_ase.data.labels import Labels
from hff_ase.derivatives import offsets_in_molecules
from hff_ase.errors import ConfigError
from hff_ase.kept import LiveParameters
from hff_ase.kernels.networks import differentiable_parameters
from hff_ase.pair_source import PairSource
from hff_ase.passes import Evaluation, Wanted
from hff_ase.potential import HybridPotential
from hff_ase.terms.pairwise import ElementPairTerm
from hff_ase.terms.short_range import ShortRange
from hff_ase.training.displaced import Direction, JoinedList, displaced
from hff_ase.training.losses import (
    LossWeights,
    charge_response,
    differences,
    label_counts,
    loss,
    squares,
)

METHODS = ("auto", "reference", "directional")
# Angstrom. The difference is wrong by its square, what is left of float32 by its inverse.
LENGTH = {torch.float32: 0.005, torch.float64: 1e-4}
SKIN = 0.02  # Angstrom; two atoms come closer by their displacements and the strain

Sync = Callable[[Tensor], Tensor]


def accumulate_gradients(
    potential: HybridPotential,
    batch: AtomsBatch,
    labels: Labels,
    weights: LossWeights,
    *,
    counts: Mapping[str, float] | None = None,
    method: str = "auto",
    sync: Sync | None = None,
    neighbors: PairSource | None = None,
) -> dict[str, tuple[float, float]]:
    """Add d loss/d parameter to ``.grad`` of every parameter that requires a gradient.

    Args:
        batch: the systems; labels: of the same systems.
        weights: of the properties; without one for stress, none is computed.
        counts: from `label_counts`, of the whole batch where this is a part of it.
        method: "reference", a double backward pass; "directional", fused kernels and a difference
            of first derivatives; "auto", the second where `has_directional` says so.
        sync: sums a tensor over processes.
        neighbors: a list of ``potential`` that is kept from call to call, with a skin of `SKIN` and
            not sorted, or the `JoinedList` of those of the batch's frames; None searches again.

    Returns:
        Sum of squared errors and number of errors per property.

    Raises:
        ConfigError: another method, or directional gradients that are not available.
    """
    if method not in METHODS:
        raise ConfigError(f"expected a method among {METHODS}, got {method!r}")
    possible = has_directional(potential, weights, batch.device)
    if method == "directional" and not possible:
        raise ConfigError(
            "expected fused kernels that give gradients of all trainable parameters and a loss "
            "without charge_response for the method 'directional', got others"
        )
    counts = label_counts(labels) if counts is None else counts
    neighbors = neighbors or potential.neighbor_list(SKIN if possible else 0.0)
    fast = possible and (method == "directional" or potential.dtype == torch.float32)
    use = _directional if fast and method != "reference" else _reference
    return use(potential, neighbors.follow(batch), labels, weights, counts, sync, neighbors)


def has_directional(potential: HybridPotential, weights: LossWeights, device: torch.device) -> bool:
    """Whether fused kernels give the gradients of all parameters that require one."""
    backend = None if potential.kernels == "reference" else backend_for(device)
    if backend != "numba" or weights.charge_response > 0:
        return False
    for _, term in potential.named_terms():
        trainable = any(parameter.requires_grad for parameter in term.parameters())
        if isinstance(term, ShortRange):
            if trainable and not differentiable_parameters(term.net, backend):
                return False
        elif isinstance(term, ElementPairTerm) and trainable:
            return False  # kernels take these parameters as constants
        elif term.owns_coulomb and not term.training:
            return False  # solvers outside training mode leave no graph
    return True


def _reference(
    potential: HybridPotential,
    batch: AtomsBatch,
    labels: Labels,
    weights: LossWeights,
    counts: Mapping[str, float],
    sync: Sync | None,
    neighbors: PairSource,
) -> dict[str, tuple[float, float]]:
    result = potential(
        batch,
        neighbors,
        forces=weights.forces > 0,
        stress=weights.stress > 0,
        create_graph=True,
    )
    response = None
    if weights.charge_response > 0:
        response = charge_response(potential, batch, neighbors)
    found = differences(batch, result, labels, response)
    total = loss(found, weights, counts, sync)
    if total.requires_grad:
        total.backward()
    return squares(found)


def _directional(
    potential: HybridPotential,
    batch: AtomsBatch,
    labels: Labels,
    weights: LossWeights,
    counts: Mapping[str, float],
    sync: Sync | None,
    neighbors: PairSource,
) -> dict[str, tuple[float, float]]:
    live = LiveParameters()
    result = potential(
        batch,
        neighbors,
        forces=weights.forces > 0,
        stress=weights.stress > 0,
        parameters=live,
    )
    leaves, slopes = _leaves(result)
    found = differences(batch, leaves, labels)
    total = loss(found, weights, counts, sync)
    _through_slopes(potential, batch, neighbors, live, slopes, total)
    return squares(found)


def backward_of(
    potential: HybridPotential,
    batch: AtomsBatch,
    objective: Callable[[Evaluation], Tensor],
    *,
    neighbors: PairSource | None = None,
    method: str = "auto",
) -> float:
    """Add d objective/d parameter to ``.grad`` of every parameter that requires a gradient.

    Args:
        batch: the systems, with molecules.
        objective: of energy, forces, stress, molecular stress and fields of the systems, in their
            order; a scalar.
        neighbors, method: as `accumulate_gradients`.

    Returns:
        The objective.
    """
    possible = has_directional(potential, LossWeights(), batch.device)
    neighbors = neighbors or potential.neighbor_list(SKIN if possible else 0.0)
    followed = neighbors.follow(batch)
    wanted: dict[str, bool] = {"forces": True, "stress": True, "molecular_stress": True}
    if method == "reference" or not possible or potential.dtype != torch.float32:
        result = potential(followed, neighbors, create_graph=True, **wanted)
        total = objective(result)
        if total.requires_grad:
            total.backward()
        return float(total.detach())
    live = LiveParameters()
    leaves, slopes = _leaves(potential(followed, neighbors, parameters=live, **wanted))
    total = objective(leaves)
    _through_slopes(potential, followed, neighbors, live, slopes, total)
    return float(total.detach())


def _through_slopes(
    potential: HybridPotential,
    batch: AtomsBatch,
    neighbors: PairSource,
    live: LiveParameters,
    slopes: dict[str, Tensor],
    total: Tensor,
) -> None:
    """The backward pass of a loss of predictions, and from these to the parameters."""
    # without a finite loss there is no direction; its value tells the caller
    if total.requires_grad and bool(torch.isfinite(total)):
        total.backward()
        direction = _direction(potential, batch, slopes)
        _backward(potential, batch, neighbors, live, slopes, direction)


def _leaves(result: Evaluation) -> tuple[Evaluation, dict[str, Tensor]]:
    """The same predictions as leaves of a new graph: the evaluation, and the leaves by name."""
    names = ("energy", "forces", "stress", "molecular_stress")
    known = {name: getattr(result, name) for name in names if getattr(result, name) is not None}
    known |= result.fields
    leaves = {name: value.detach().requires_grad_() for name, value in known.items()}
    own = {name: leaves[name] for name in names if name in leaves}
    return replace(result, **own, fields={name: leaves[name] for name in result.fields}), leaves


def _direction(
    potential: HybridPotential, batch: AtomsBatch, leaves: dict[str, Tensor]
) -> Direction:
    """Along which the energy's derivative is wanted."""
    atoms, strain = torch.zeros_like(batch.positions), torch.zeros_like(batch.cell)
    forces, stress = leaves.get("forces"), leaves.get("stress")
    if forces is not None and forces.grad is not None:
        atoms = -forces.grad.double()
    if stress is not None and stress.grad is not None:
        strain = _strain(batch, stress.grad)
    by_molecules = leaves.get("molecular_stress")
    if by_molecules is not None and by_molecules.grad is not None:
        own = _strain(batch, by_molecules.grad)
        inside = offsets_in_molecules(batch)
        atoms = atoms - (inside[:, None] @ own[batch.system])[:, 0]
        strain = strain + own
    return Direction.of(batch, atoms, strain, LENGTH[potential.dtype])


def _strain(batch: AtomsBatch, slope: Tensor) -> Tensor:
    """G of the slope of a loss in a stress, [n_systems, 3, 3]."""
    strain = 0.5 * (slope + slope.mT) / batch.volume[:, None, None]
    return torch.where(batch.periodic[:, None, None], strain, 0.0)


def _backward(
    potential: HybridPotential,
    batch: AtomsBatch,
    neighbors: PairSource,
    live: LiveParameters,
    leaves: dict[str, Tensor],
    direction: Direction,
) -> None:
    """The gradient of S."""
    both = displaced(batch, direction)
    twice = JoinedList([neighbors, neighbors], potential)
    both = twice.follow(both)
    to_energy = leaves["energy"].grad
    half = torch.zeros_like(direction.step) if to_energy is None else 0.5 * to_energy
    moves = direction.step > 0.0
    slope = torch.where(moves, 0.5 / torch.where(moves, direction.step, 1.0), 0.0)
    with torch.enable_grad():
        fields, atomic = potential.evaluate_terms(both, twice, Wanted(parameters=live))
        energy = both.system_sum(torch.stack(list(atomic.values()), dim=1)).sum(1)
        total = (energy * torch.cat([half + slope, half - slope])).sum()
        for name, field in fields.items():
            gradient = leaves[name].grad
            if gradient is not None and field.requires_grad:
                total = total + (field * (0.5 * gradient).repeat(2, *[1] * (field.dim() - 1))).sum()
    if total.requires_grad:
        total.backward()
