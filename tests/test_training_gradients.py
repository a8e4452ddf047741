"""Gradients of a loss in the parameters: fused kernels against the derivative of the derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from core_models import ELEMENTS, equilibrated, hybrid, mixed_systems
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from hff_ase.batch import AtomsBatch
from hff_ase.data.labels import Labels, collate
from hff_ase.errors import ConfigError
from hff_ase.kernels.threads import FEWEST
from hff_ase.neighbors import NeighborList
from hff_ase.potential import HybridPotential
from hff_ase.terms.predicted_charges import PredictedCharges
from hff_ase.terms.short_range import ShortRange
from hff_ase.testing import cluster, ionic_box
from hff_ase.training.displaced import JoinedList
from hff_ase.training.gradients import SKIN, accumulate_gradients, has_directional
from hff_ase.training.losses import LossWeights, label_counts

pytest.importorskip("numba")

Gradients = dict[str, Tensor]
ALL = LossWeights(energy=2.0, forces=1.0, stress=1e3, charges=3.0, dipole=0.5)


def trained(make: Callable[[], HybridPotential], dtype: torch.dtype) -> HybridPotential:
    """In training mode, with every term trainable that kernels can train."""
    potential = make().set_dtype(dtype).train()
    for name, term in potential.named_terms():
        term.requires_grad_(name in ("short_range", "charges"))
    return potential


def short_and_charges() -> HybridPotential:
    """Network, predicted charges and damped Coulomb."""
    return hybrid("ewald").subset(["short_range", "charges", "coulomb"])


def equivariant() -> HybridPotential:
    """E3Net in the place of GET."""
    torch.manual_seed(4)
    sizes = {"channels": 8, "l_max": 1, "l_edge": 2, "layers": 3, "n_radial": 4}
    options = {**sizes, "radial_hidden": [8], "cutoff": 4.0, "avg_neighbors": 10.0}
    terms = dict(short_and_charges().named_terms())
    terms["short_range"] = ShortRange(ELEMENTS, "e3", options, hidden=(8,))
    terms["charges"] = PredictedCharges(ELEMENTS, 8, hidden=(8,))
    return HybridPotential(terms, ELEMENTS)


def random_labels(batch: AtomsBatch, seed: int = 0) -> Labels:
    """Labels far from any prediction, some of them missing."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n_systems, n_atoms = batch.n_systems, batch.n_atoms
    stress = 0.1 * normal(n_systems, 3, 3)
    stress, dipole = stress + stress.mT, normal(n_systems, 3)
    stress[~batch.periodic], dipole[batch.periodic] = float("nan"), float("nan")
    energy, forces = 5.0 * normal(n_systems), normal(n_atoms, 3)
    if n_systems > 2:
        energy[1], forces[batch.system == 2] = float("nan"), float("nan")
    weight = 0.5 + torch.rand(n_systems, generator=generator, dtype=torch.float64)
    return Labels(energy, forces, stress, 0.3 * normal(n_atoms), dipole, weight)


def found(
    potential: HybridPotential,
    batch: AtomsBatch,
    labels: Labels,
    weights: LossWeights = ALL,
    method: str = "auto",
    neighbors: NeighborList | None = None,
    counts: dict[str, float] | None = None,
) -> Gradients:
    """Gradients by name; zeros where a trainable parameter got none."""
    potential.zero_grad(set_to_none=True)
    accumulate_gradients(
        potential, batch, labels, weights, method=method, neighbors=neighbors, counts=counts
    )
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in potential.named_parameters()
        if p.requires_grad
    }


def worst(ours: Gradients, expected: Gradients) -> float:
    """Largest relative error (norm over norm) of any parameter whose gradient is not negligible."""
    assert ours.keys() == expected.keys()
    errors = [0.0]
    for name, value in expected.items():
        size = float(value.double().norm())
        if size > 1e-8:
            errors.append(float((ours[name].double() - value.double()).norm()) / size)
        else:
            errors.append(float(ours[name].double().norm()))
    return max(errors)


def whole(ours: Gradients, expected: Gradients) -> float:
    """Relative error of the gradient as one vector."""
    a, b = (torch.cat([v.double().flatten() for v in g.values()]) for g in (ours, expected))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(
    ("make", "seed", "tolerance"),
    [(short_and_charges, 1, 1e-6), (short_and_charges, 2, 1e-6), (equivariant, 1, 4e-6)],
)
def test_every_parameter_against_the_double_backward_pass(
    make: Callable[[], HybridPotential], seed: int, tolerance: float
) -> None:
    """To the square of the displacement: E3Net's random weights curve more than GET's."""
    batch = AtomsBatch.from_atoms(mixed_systems(8, seed))
    labels = random_labels(batch, seed)
    potential = trained(make, torch.float64)
    expected = found(potential, batch, labels, method="reference")
    ours = found(potential, batch, labels, method="directional")
    assert len(expected) > 30
    assert worst(ours, expected) < tolerance


def test_reference_is_the_gradient_by_differences() -> None:
    """The loss itself, moved along a random direction of the parameters."""
    batch = AtomsBatch.from_atoms(mixed_systems(4, seed=5))
    labels = random_labels(batch)
    potential = trained(short_and_charges, torch.float64)
    slopes = found(potential, batch, labels, method="directional")
    names = {name: p for name, p in potential.named_parameters() if name in slopes}
    torch.manual_seed(0)
    along = {name: torch.randn_like(p) for name, p in names.items()}
    values, step = [], 1e-6
    for move in (step, -2.0 * step):
        with torch.no_grad():
            for name, p in names.items():
                p.add_(move * along[name])
        squares = accumulate_gradients(potential, batch, labels, replace(ALL, dipole=0.0))
        values.append(squares)
    # only what `squares` reports without weights can be compared: one property at a time
    one = LossWeights(energy=0.0, forces=1.0, stress=0.0, charges=0.0)
    plain = replace(labels, weight=torch.ones_like(labels.weight))
    with torch.no_grad():
        for name, p in names.items():
            p.add_(step * along[name])
    slope = found(potential, batch, plain, one, method="directional")
    expected = sum(float((slope[name] * along[name]).sum()) for name in names)
    (ahead, count), (behind, _) = values[0]["forces"], values[1]["forces"]
    assert (ahead - behind) / count / (2.0 * step) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("make", "tolerance"), [(short_and_charges, 3e-4), (equivariant, 1.5e-3)])
def test_float32_is_close_and_is_what_auto_takes(
    make: Callable[[], HybridPotential], tolerance: float
) -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(8, seed=3))
    labels = random_labels(batch)
    expected = found(trained(make, torch.float64), batch, labels, method="reference")
    potential = trained(make, torch.float32)
    ours = found(potential, batch, labels)
    assert whole(ours, expected) < tolerance
    assert worst(ours, expected) < 4 * tolerance
    again = found(potential, batch, labels, method="directional")
    assert all(torch.equal(again[name], ours[name]) for name in ours)  # and the same every time


@pytest.mark.parametrize(
    "weights",
    [
        LossWeights(energy=1.0, forces=0.0, stress=0.0, charges=0.0),
        LossWeights(energy=0.0, forces=0.0, stress=1e3, charges=0.0),
        LossWeights(energy=1.0, forces=1.0, stress=0.0, charges=1.0, remove_energy_mean=True),
    ],
)
def test_any_loss(weights: LossWeights) -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(6, seed=4))
    labels = random_labels(batch)
    potential = trained(short_and_charges, torch.float64)
    expected = found(potential, batch, labels, weights, "reference")
    assert worst(found(potential, batch, labels, weights, "directional"), expected) < 1e-6


def test_fixed_terms_and_equilibrated_charges() -> None:
    """Terms without trainable parameters do no harm; QEq runs in the graph."""
    batch = AtomsBatch.from_atoms(
        [ionic_box("Li2F2C2H4O2", seed=1), cluster("LiFCOH2", charge=1.0, seed=2)]
    )
    labels = random_labels(batch)
    for make in (hybrid, equilibrated):
        potential = trained(make, torch.float64)
        expected = found(potential, batch, labels, method="reference")
        assert worst(found(potential, batch, labels, method="directional"), expected) < 1e-6
    potential.eval()
    assert not has_directional(potential, ALL, batch.device)


def test_frozen_parameters_get_no_gradient() -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(4, seed=6))
    labels = random_labels(batch)
    potential = trained(short_and_charges, torch.float64)
    for kept in ("net.layers.1.", "charge.", "net.basis."):
        for name, parameter in potential.named_parameters():
            parameter.requires_grad_(kept in name)
        expected = found(potential, batch, labels, method="reference")
        ours = found(potential, batch, labels, method="directional")
        assert worst(ours, expected) < 1e-6
        for name, parameter in potential.named_parameters():
            assert (parameter.grad is None) == (kept not in name)


class LowRank(nn.Module):
    """W + B A, of which only A and B are trained."""

    def __init__(self, n_out: int, n_in: int) -> None:
        super().__init__()
        self.a = nn.Parameter(0.1 * torch.randn(2, n_in, dtype=torch.float64))
        self.b = nn.Parameter(0.1 * torch.randn(n_out, 2, dtype=torch.float64))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


def test_weights_that_are_made_of_other_parameters() -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(4, seed=10))
    labels = random_labels(batch)
    potential = trained(short_and_charges, torch.float64).requires_grad_(False)
    torch.manual_seed(0)
    linears = [m for m in potential.modules() if isinstance(m, nn.Linear)]
    for linear in linears:
        register_parametrization(linear, "weight", LowRank(*linear.weight.shape))
        linear.parametrizations["weight"].original.requires_grad_(False)
    expected = found(potential, batch, labels, method="reference")
    assert len(expected) == 2 * len(linears)
    assert worst(found(potential, batch, labels, method="directional"), expected) < 1e-6


def test_gradients_are_added_and_parts_make_the_whole() -> None:
    frames = [AtomsBatch.from_atoms(atoms) for atoms in mixed_systems(5, seed=7)]
    pairs = [(batch, random_labels(batch, k)) for k, batch in enumerate(frames)]
    potential = trained(short_and_charges, torch.float64)
    batch, labels = collate(pairs)
    counts = label_counts(labels)
    expected = found(potential, batch, labels, method="directional")
    potential.zero_grad(set_to_none=True)
    for part in (pairs[:2], pairs[2:]):
        some, of_some = collate(part)
        accumulate_gradients(potential, some, of_some, ALL, counts=counts, method="directional")
    ours = {n: p.grad for n, p in potential.named_parameters() if p.grad is not None}
    assert worst(ours, {name: expected[name] for name in ours}) < 1e-7


def test_kept_lists_change_nothing() -> None:
    frames = [AtomsBatch.from_atoms(atoms) for atoms in mixed_systems(5, seed=8)]
    batch, labels = collate([(b, random_labels(b, k)) for k, b in enumerate(frames)])
    potential = trained(short_and_charges, torch.float64)
    expected = found(potential, batch, labels, method="directional")
    lists = [potential.neighbor_list(SKIN) for _ in frames]
    for kept, frame in zip(lists, frames, strict=True):
        kept.update(frame)
    for method in ("directional", "reference"):
        joined = JoinedList(lists, potential)
        assert worst(found(potential, batch, labels, ALL, method, joined), expected) < 1e-6
    assert all(kept.n_builds == 1 for kept in lists)


def test_threads_change_rounding_only() -> None:
    batch = AtomsBatch.from_atoms(mixed_systems(36, seed=9))
    assert batch.n_atoms > FEWEST  # enough for several threads
    labels = random_labels(batch)
    potential = trained(short_and_charges, torch.float64)
    expected = found(potential, batch, labels, method="directional")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        ours = found(potential, batch, labels, method="directional")
    finally:
        torch.set_num_threads(before)
    assert worst(ours, expected) < 1e-7


def test_when_kernels_cannot() -> None:
    batch = AtomsBatch.from_atoms(ionic_box("LiFCOHH", seed=3))
    labels, cpu = random_labels(batch), batch.device
    potential = trained(short_and_charges, torch.float32)
    assert has_directional(potential, ALL, cpu)
    assert not has_directional(potential, replace(ALL, charge_response=1.0), cpu)
    with pytest.raises(ConfigError, match="reference"):
        accumulate_gradients(potential, batch, labels, ALL, method="fast")
    potential.use_kernels("reference")
    with pytest.raises(ConfigError, match="directional"):
        accumulate_gradients(potential, batch, labels, ALL, method="directional")
    plain = found(potential, batch, labels, method="reference")
    assert worst(found(potential, batch, labels), plain) == 0  # falls back
    potential.use_kernels("auto")
    net = potential.terms["short_range"].net
    net.options["attention"] = False
    assert not has_directional(potential, ALL, cpu)
    pair_term = hybrid("ewald").train()
    assert has_directional(pair_term, ALL, cpu)
    pair_term.terms["dispersion"].scale = torch.nn.Parameter(torch.ones(()))
    assert not has_directional(pair_term, ALL, cpu)  # a constant of its kernel
