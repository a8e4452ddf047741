"""The loss: against numpy, additivity, missing labels, weights, charges' part of the forces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import make_potential, salt_box, water

from hff_ase.batch import AtomsBatch
from hff_ase.data.labels import Frame, collate, labels_of
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.predicted_charges import PredictedCharges
from hff_ase.training.losses import (
    LossWeights,
    charge_response,
    differences,
    dipole,
    label_counts,
    loss,
    potential_at,
    squares,
)
from hff_ase.units import COULOMB_CONSTANT

ALL = LossWeights(2.0, 1.0, 1e3, 3.0, 0.7, 0.4, 0.0)


def labelled(atoms: Atoms, seed: int, charge: float = 0.0) -> Frame:
    """A frame with random labels of everything that it can have."""
    rng = np.random.default_rng(seed)
    results = {
        "energy": float(rng.normal()),
        "forces": rng.normal(size=(len(atoms), 3)),
        "charges": rng.normal(size=len(atoms)),
    }
    atoms.info |= {"charge": charge, "weight": float(rng.uniform(0.5, 2.0))}
    atoms.info["weight_forces"] = float(rng.uniform(0.5, 2.0))
    if atoms.pbc.all():
        results["stress"] = 1e-2 * rng.normal(size=6)
    else:
        results["dipole"] = rng.normal(size=3)
        atoms.info |= {"esp_points": 4.0 * rng.normal(size=(5, 3)), "esp": rng.normal(size=5)}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return AtomsBatch.from_atoms(atoms), labels_of([atoms])


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    lone = water()
    lone.calc = SinglePointCalculator(lone, energy=0.3)
    bare = AtomsBatch.from_atoms(lone), labels_of([lone])
    return [
        labelled(salt_box(), 0),
        labelled(water(), 1, charge=1.0),
        bare,
        labelled(salt_box(3), 2),
    ]


@pytest.fixture(scope="module")
def potential() -> HybridPotential:
    return make_potential().set_dtype(torch.float64)


def test_the_loss_is_what_numpy_gives(frames: list[Frame], potential: HybridPotential) -> None:
    batch, labels = collate(frames)
    result = potential(batch)
    expected, n = 0.0, dict.fromkeys(("energy", "forces", "stress", "charges", "dipole", "esp"), 0)
    sums = dict.fromkeys(n, 0.0)
    for own, label in frames:  # one at a time, by hand
        alone = potential(own)
        weight, n_atoms = float(label.weight), own.n_atoms
        q, x = alone.fields["charges"].numpy(), own.positions.numpy()
        found = {
            "energy": (alone.energy - label.energy).numpy() / n_atoms,
            "forces": (alone.forces - label.forces).numpy(),
            "stress": (alone.stress - label.stress).numpy(),
            "charges": q - label.charges.numpy(),
            "dipole": q @ x - label.dipole.numpy()[0],
            "esp": np.array(
                [
                    COULOMB_CONSTANT * np.sum(q / np.linalg.norm(x - point, axis=1)) - value
                    for point, value in zip(label.esp_points.numpy(), label.esp, strict=True)
                ]
            ),
        }
        for name, error in found.items():
            keep = np.isfinite(error)
            own_weight = label.property_weights.get(name, torch.ones(1))
            sums[name] += float(own_weight) * weight * np.sum(error[keep] ** 2)
            n[name] += int(keep.sum())
    expected = sum(getattr(ALL, name) * sums[name] / n[name] for name in n)
    counts = label_counts(labels)
    assert {name: counts[name] for name in n} == n
    assert n["stress"] == 18
    assert n["dipole"] == 3
    found_loss = loss(differences(batch, result, labels), ALL, counts)
    assert found_loss.dtype == torch.float64
    assert float(found_loss) == pytest.approx(expected, rel=1e-9)


def test_parts_of_a_batch_add_up_to_the_whole(
    frames: list[Frame], potential: HybridPotential
) -> None:
    batch, labels = collate(frames)
    counts = label_counts(labels)
    whole = loss(differences(batch, potential(batch), labels), ALL, counts)
    parts = [
        loss(differences(b, potential(b), label), ALL, counts)
        for b, label in (collate(frames[:1]), collate(frames[1:]))
    ]
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-10)
    sums = squares(differences(batch, potential(batch), labels))
    for name, (value, number) in sums.items():
        assert number == counts[name]
        separate = [squares(differences(b, potential(b), label)) for b, label in frames]
        assert value == pytest.approx(sum(s[name][0] for s in separate if name in s), rel=1e-9)


def test_what_is_not_labelled_or_not_predicted_does_not_count(
    frames: list[Frame], potential: HybridPotential
) -> None:
    batch, labels = frames[2]
    assert set(differences(batch, potential(batch), labels)) == {"energy"}
    counts = label_counts(labels)
    assert counts["forces"] == counts["esp"] == 0.0
    without = potential.subset(["short_range"])
    batch, labels = frames[0]
    found = differences(batch, without(batch, stress=False), labels)
    assert set(found) == {"energy", "forces"}
    nothing = replace(labels, energy=labels.energy * torch.nan, forces=labels.forces * torch.nan)
    found = differences(batch, without(batch, stress=False), nothing)
    assert float(loss(found, ALL, label_counts(nothing))) == 0.0


def test_a_wrong_prediction_is_not_hidden_as_a_missing_label(frames: list[Frame]) -> None:
    batch, labels = frames[0]
    nan = Evaluation(labels.energy * torch.nan, torch.zeros(batch.n_atoms), {})
    found = differences(batch, nan, labels)
    assert bool(torch.isnan(loss(found, ALL, label_counts(labels))))


def test_removing_the_mean_leaves_an_offset_out(frames: list[Frame]) -> None:
    batch, labels = collate(frames)
    weights = LossWeights(energy=1.0, remove_energy_mean=True)
    energy = (labels.energy + 3.0 * batch.counts).requires_grad_(True)
    result = Evaluation(energy, torch.zeros(batch.n_atoms), {})
    counts = label_counts(labels)
    assert loss(differences(batch, result, labels), weights, counts).item() < 1e-20
    noise = torch.linspace(-1.0, 1.0, batch.n_systems, dtype=torch.float64) * batch.counts
    result = replace(result, energy=energy + noise)
    value = loss(differences(batch, result, labels), weights, counts)
    (slope,) = torch.autograd.grad(value, energy)

    def by_hand(e: torch.Tensor) -> torch.Tensor:
        error = (e + noise - labels.energy) / batch.counts
        error = error - (labels.weight * error).sum() / labels.weight.sum()
        return (labels.weight * error.square()).sum() / batch.n_systems

    (expected,) = torch.autograd.grad(by_hand(energy), energy)
    assert value.item() == pytest.approx(by_hand(energy).item())
    torch.testing.assert_close(slope, expected)
    # two processes of which each sees half: the mean is that of both
    halves = [collate(frames[:2]), collate(frames[2:])]
    energies = [energy[:2] + noise[:2], energy[2:] + noise[2:]]
    sums: list[torch.Tensor] = []

    def collected(value: torch.Tensor) -> torch.Tensor:
        sums.append(value)
        return value

    def losses(sync: object) -> float:
        total = 0.0
        for (b, label), e in zip(halves, energies, strict=True):
            found = differences(b, Evaluation(e, torch.zeros(b.n_atoms), {}), label)
            total += loss(found, weights, counts, sync).item()  # type: ignore[arg-type]
        return total

    losses(collected)
    assert losses(lambda _: sums[0] + sums[1]) == pytest.approx(value.item())


def test_every_property_reaches_the_parameters(
    frames: list[Frame],
) -> None:
    potential = make_potential().set_dtype(torch.float64).requires_grad_(True)
    batch, labels = collate(frames)
    found = differences(batch, potential(batch, create_graph=True), labels)
    assert set(found) == {"energy", "forces", "stress", "charges", "dipole", "esp"}
    weight = potential.terms["charges"].charge[-1].weight  # type: ignore[union-attr,index]
    for name, (error, _) in found.items():
        (slope,) = torch.autograd.grad(
            error.square().sum(), [weight], retain_graph=True, allow_unused=True
        )
        assert slope is not None, name
        assert float(slope.abs().max()) > 0.0, name


def test_dipole_and_potential_of_point_charges() -> None:
    """A pair of charges: mu = q d, V = k_e q (1/r+ - 1/r-); of ions independent of the origin."""
    atoms = [Atoms("HF", [[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]), Atoms("H", [[0.0, 0.0, 1.0]])]
    batch = AtomsBatch.from_atoms(atoms)
    q = torch.tensor([0.5, -0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        dipole(batch, q), torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    )
    points = torch.tensor([[0.0, 0.0, 5.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
    got = potential_at(batch, q, points, torch.tensor([0, 1]))
    expected = [COULOMB_CONSTANT * 0.5 * (1 / 5 - 1 / 3), COULOMB_CONSTANT / 3]
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_charge_response_is_the_force_at_fixed_charges_taken_from_the_whole() -> None:
    """Forces of the model = forces at fixed charges (its published mode) + the response."""
    exact = make_potential().set_dtype(torch.float64)
    terms = dict(exact.named_terms())
    fixed = PredictedCharges(exact.elements or (), 16, (16,), charge_response=False).double()
    fixed.load_state_dict(terms["charges"].state_dict())
    held = HybridPotential({**terms, "charges": fixed}, exact.elements).set_dtype(torch.float64)
    batch = AtomsBatch.from_atoms([salt_box(), water()])
    response = charge_response(exact.requires_grad_(True), batch)
    expected = exact(batch).forces - held(batch).forces
    assert float(expected.abs().max()) > 1e-4
    torch.testing.assert_close(response.detach(), expected, rtol=0.0, atol=1e-10)
    assert float(charge_response(held, batch).abs().max()) == 0.0
    assert float(charge_response(exact.subset(["short_range"]), batch).abs().max()) == 0.0


def test_the_gradient_of_the_charge_response_is_its_slope() -> None:
    potential = make_potential().set_dtype(torch.float64).requires_grad_(True)
    potential = potential.subset(["short_range", "charges", "coulomb"])
    assert isinstance(potential.terms["coulomb"], Coulomb)
    batch = AtomsBatch.from_atoms([salt_box(), water()])
    labels = labels_of([salt_box(), water()])
    weights, counts = LossWeights(charge_response=1.0), label_counts(labels)
    assert counts["charge_response"] == 3.0 * batch.n_atoms
    result = potential(batch)

    def value() -> torch.Tensor:
        response = charge_response(potential, batch)
        return loss(differences(batch, result, labels, response), weights, counts)

    for name in ("terms.charges.charge.0.weight", "terms.short_range.net.embedding.weight"):
        parameter = dict(potential.named_parameters())[name]
        (slope,) = torch.autograd.grad(value(), [parameter])
        direction = torch.randn(parameter.shape, dtype=torch.float64)
        step = 1e-5
        values = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                parameter += sign * step * direction
            values.append(value().item())
            with torch.no_grad():
                parameter -= sign * step * direction
        numeric = (values[0] - values[1]) / (2.0 * step)
        assert float((slope * direction).sum()) == pytest.approx(numeric, rel=1e-5)
