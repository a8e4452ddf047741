"""HybridPotential: the chain of terms, subsets, and derivatives up to the second."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from core_models import (
    dispersion,
    equilibrated,
    equilibration,
    feature_equilibrated,
    hybrid,
    molecular,
    molecular_box,
    predicted_charges,
)
from core_models import short_range as make_short_range
from multipole_models import multipolar
from torch import Tensor

import hff_ase.testing as checks
from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError
from hff_ase.potential import HybridPotential
from hff_ase.terms import TERMS
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.term import Term


@pytest.fixture(scope="module")
def potential() -> HybridPotential:
    return hybrid().set_dtype(torch.float64)


def test_a_field_that_nothing_gives_is_an_error_naming_both() -> None:
    with pytest.raises(ConfigError, match=r"'coulomb' \(coulomb\) needs the field 'charges'"):
        HybridPotential({"coulomb": Coulomb("ewald")})
    with pytest.raises(ConfigError, match=r"'q'.*'node_features'.*nothing"):
        HybridPotential({"q": predicted_charges()})


def test_the_order_of_terms_counts() -> None:
    terms = {"charges": predicted_charges(), "net": make_short_range()}
    with pytest.raises(ConfigError, match=r"'charges'.*'node_features'"):
        HybridPotential(terms)
    HybridPotential(dict(reversed(terms.items())))


def test_coulomb_is_not_counted_twice() -> None:
    terms: dict[str, Term] = {"equilibration": equilibration(), "coulomb": Coulomb("ewald")}
    with pytest.raises(ConfigError, match=r"twice.*'equilibration'"):
        HybridPotential(terms)
    # The charges of the later term are its own: then it is another matter.
    terms = {
        "equilibration": equilibration(),
        "net": make_short_range(),
        "charges": predicted_charges(),
        "coulomb": Coulomb("ewald"),
    }
    HybridPotential(terms)


def test_no_terms_and_undeclared_fields() -> None:
    class Odd(Term):
        kind = "odd"
        needs = ("colour",)

    with pytest.raises(ConfigError, match="at least one"):
        HybridPotential({})
    with pytest.raises(KeyError, match="colour"):
        HybridPotential({"odd": Odd()})


def test_unknown_elements_are_named(potential: HybridPotential) -> None:
    salt = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]])
    with pytest.raises(StructureError) as caught:
        potential.check_elements(AtomsBatch.from_atoms(Atoms("H17") + salt))
    expected = "model knows H Li C N O F P S; structure holds Na (atom 17)"
    assert str(caught.value) == expected
    with pytest.raises(StructureError, match=r"Na \(atom 0 of structure 1\)"):
        potential.check_elements(AtomsBatch.from_atoms([Atoms("LiF"), salt]))
    potential.check_elements(AtomsBatch.from_atoms(Atoms("HLiCNOFPS")))


def test_a_subset_shares_parameters_and_energies(potential: HybridPotential) -> None:
    batch = AtomsBatch.from_atoms(checks.ionic_box(seed=1))
    full = potential(batch)
    part = potential.subset(["short_range", "zbl"])
    result = part(batch)
    assert list(result.energy_terms) == ["short_range", "zbl"]
    for name, energy in result.energy_terms.items():
        torch.testing.assert_close(energy, full.energy_terms[name], rtol=1e-12, atol=1e-12)
    assert part.terms["short_range"] is potential.terms["short_range"]
    assert part.elements == potential.elements
    with pytest.raises(ConfigError, match=r"'coulomb'.*'charges'"):
        potential.subset(["short_range", "coulomb"])
    with pytest.raises(ConfigError, match=r"one of the terms.*'colour'"):
        potential.subset(["colour"])


def test_order_of_a_subset_is_that_of_the_whole(potential: HybridPotential) -> None:
    part = potential.subset(["coulomb", "charges", "short_range"])
    assert list(part.terms) == ["short_range", "charges", "coulomb"]


def test_energies_add_up(potential: HybridPotential) -> None:
    batch = AtomsBatch.from_atoms([checks.ionic_box(seed=1), checks.cluster("H4C3O")])
    result = potential(batch)
    total = torch.stack(list(result.energy_terms.values())).sum(0)
    torch.testing.assert_close(result.energy, total, rtol=1e-13, atol=1e-12)
    torch.testing.assert_close(result.energy, batch.system_sum(result.energies))
    assert result.energy.dtype == result.energies.dtype == torch.float64
    assert min(abs(float(e[0])) for e in result.energy_terms.values()) > 0.01  # all terms at work


def test_stress_only_where_there_is_a_cell(potential: HybridPotential) -> None:
    stress = potential(AtomsBatch.from_atoms([checks.cluster("LiF"), checks.ionic_box()])).stress
    assert stress is not None
    assert not stress[0].any()
    assert bool((stress[1].abs() > 1e-6).all())


@pytest.mark.parametrize("make", [hybrid, lambda: hybrid("pme", 1e-6), equilibrated])
def test_stress_and_forces_of_every_term_in_a_dense_ionic_triclinic_box(
    make: Callable[[], HybridPotential],
) -> None:
    box = checks.ionic_box("Li6F6O2C2H2PS", spacing=2.1, charge=1.0, seed=8)
    checks.check_stress(make(), [box])
    checks.check_forces(make(), [box], n_directions=20)
    for name, (forces, virial) in checks.term_gradients(make(), box).items():
        assert np.abs(forces).max() > 1e-2, name
        assert np.abs(virial).min() > 1e-4, name


def test_stress_has_the_sign_of_ase(potential: HybridPotential) -> None:
    """A box that is squeezed has a negative stress: it wants to expand."""
    part = potential.subset(["zbl"])
    stress = part(AtomsBatch.from_atoms(checks.ionic_box("Li8F8", spacing=1.2))).stress
    assert stress is not None
    assert bool((stress[0].diagonal() < 0).all())


# ---- second derivatives: what training on forces and stress needs


def trainable(make: Callable[[], HybridPotential]) -> HybridPotential:
    potential = make().set_dtype(torch.float64).train()
    for name, parameter in potential.named_parameters():
        parameter.requires_grad_(not name.endswith("reference_energy"))
    return potential


def loss_of(potential: HybridPotential, batch: AtomsBatch, create_graph: bool) -> Tensor:
    """A loss on everything a label can hold, with weights that leave nothing out."""
    result = potential(batch, create_graph=create_graph)
    assert result.forces is not None
    assert result.stress is not None
    generator = torch.Generator().manual_seed(5)
    target = torch.randn(result.forces.shape, generator=generator, dtype=torch.float64)
    loss = (result.forces - target).square().sum() + 100.0 * result.stress.square().sum()
    return loss + 0.01 * result.energy.square().sum() + result.fields["charges"].square().sum()


@pytest.mark.parametrize("make", [hybrid, lambda: hybrid("pme", 1e-6), equilibrated])
def test_gradient_of_a_force_loss_against_differences(
    make: Callable[[], HybridPotential],
) -> None:
    potential = trainable(make)
    batch = AtomsBatch.from_atoms(
        [checks.ionic_box("Li2F2HO", seed=2), checks.cluster("CH3OP", charge=1.0, seed=3)]
    )
    loss_of(potential, batch, create_graph=True).backward()
    generator = torch.Generator().manual_seed(9)
    step, checked = 1e-5, 0
    for name, parameter in potential.named_parameters():
        if not parameter.requires_grad:
            continue
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        losses = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                parameter.add_(sign * step * direction)
            losses.append(float(loss_of(potential, batch, create_graph=False)))
            with torch.no_grad():
                parameter.sub_(sign * step * direction)
        expected = (losses[0] - losses[1]) / (2 * step)
        slope = 0.0 if parameter.grad is None else float((parameter.grad * direction).sum())
        assert slope == pytest.approx(expected, rel=2e-5, abs=1e-4), name
        checked += abs(expected) > 1e-3
    assert checked > 20


def test_nothing_keeps_a_graph_unless_asked() -> None:
    potential = trainable(hybrid)
    batch = AtomsBatch.from_atoms(checks.cluster("LiFO"))
    result = potential(batch)
    tensors = [result.energy, result.energies, result.forces, *result.fields.values()]
    assert not any(t.requires_grad for t in tensors if t is not None)


@pytest.mark.parametrize("make", [hybrid, lambda: trainable(hybrid)])
def test_forces_do_not_depend_on_the_callers_grad_mode(
    make: Callable[[], HybridPotential],
) -> None:
    """They need a graph of their own; without one they must not come out as zeros."""
    potential, batch = make(), AtomsBatch.from_atoms(checks.ionic_box("LiFOH"))
    expected = potential(batch)
    with torch.no_grad():
        result = potential(batch)
    assert torch.equal(result.forces, expected.forces)  # type: ignore[arg-type]
    assert torch.equal(result.stress, expected.stress)  # type: ignore[arg-type]
    with torch.inference_mode(), pytest.raises(ConfigError, match="inference_mode"):
        potential(batch)


def test_energies_alone_can_be_trained_on() -> None:
    potential = trainable(hybrid)
    batch = AtomsBatch.from_atoms(checks.cluster("LiFO"))
    result = potential(batch, forces=False, stress=False, create_graph=True)
    result.energy.sum().backward()
    head = potential.terms["short_range"].energy[-1].weight
    assert head.grad is not None
    assert bool(head.grad.any())


@pytest.mark.parametrize("kind", sorted(TERMS))
def test_every_registered_term_is_made_anew_from_its_config(kind: str) -> None:
    """And the twin has the same energy with the same weights: what a checkpoint relies on."""
    wholes = [hybrid(), equilibrated(), feature_equilibrated(), molecular(), multipolar()]
    whole, name = next(
        (whole, name) for whole in wholes for name, term in whole.named_terms() if term.kind == kind
    )
    structures = [checks.ionic_box(seed=3), checks.cluster("H2O")]
    if whole in wholes[-2:]:
        structures = [molecular_box()]
    term = dict(whole.named_terms())[name]
    twin = TERMS[kind](**term.config())
    assert twin.config() == term.config()
    twin.load_state_dict(term.state_dict())
    batch = AtomsBatch.from_atoms(structures)
    before = whole(batch).energy_terms[name]
    whole.terms[name] = twin.eval()
    assert torch.equal(whole(batch).energy_terms[name], before)


def test_bamboo_dispersion_does_not_change_a_molecule_apart() -> None:
    """Its bare cut is real: beyond it nothing, before it something."""
    part = HybridPotential({"dispersion": dispersion()})
    for distance, zero in ((6.999, False), (7.0, True), (7.001, True)):
        energy = part(AtomsBatch.from_atoms(Atoms("S2", [[0, 0, 0], [distance, 0, 0]]))).energy
        assert (float(energy) == 0.0) == zero
