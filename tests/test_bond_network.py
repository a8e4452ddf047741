"""Bonded energies by a network over bonds: orders, features by hand, symmetries, derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from hff_ase import testing as checks
from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError
from hff_ase.evaluator import Evaluator
from hff_ase.molecular.bond_features import geometry, reference
from hff_ase.molecular.bond_trees import surroundings
from hff_ase.molecular.shapes import embedded
from hff_ase.molecular.templates import Template
from hff_ase.potential import HybridPotential
from hff_ase.terms import BondNetwork

NETWORKS = [{"reach": 1, "valence": 4}, {"reach": 0, "valence": 6}]
MOLECULES: list[dict[str, Any]] = [
    {"name": "fluoromethanol", "numbers": [6, 9, 8, 1, 1, 1], "network": 0,
     "bonds": [[0, 1], [0, 2], [0, 3], [0, 4], [2, 5]]},
    {"name": "oxirane", "numbers": [8, 6, 6, 1, 1, 1, 1], "network": 0,
     "bonds": [[0, 1], [0, 2], [1, 2], [1, 3], [1, 4], [2, 5], [2, 6]]},
    {"name": "PF6", "numbers": [15, 9, 9, 9, 9, 9, 9], "network": 1,
     "bonds": [[0, k] for k in range(1, 7)]},
    {"name": "Li", "numbers": [3], "bonds": [], "network": None},
]  # fmt: skip


def potential() -> HybridPotential:
    """With weights of no meaning."""
    torch.manual_seed(0)
    term = BondNetwork(MOLECULES, NETWORKS, scale=1.7, offset=0.3)
    return HybridPotential({"bonded": term}).requires_grad_(False).eval()


def structures(seed: int = 0) -> list[Atoms]:
    """All molecules, shaken: alone, and together in a triclinic box that cuts some."""
    rng = np.random.default_rng(seed)
    shapes = [
        Atoms(entry["numbers"], embedded(Template.of(entry)) + rng.normal(scale=0.04, size=3))
        for entry in MOLECULES
    ]
    for atoms in shapes:
        atoms.positions += rng.normal(scale=0.04, size=atoms.positions.shape)
    box = Atoms(cell=[[9.0, 0, 0], [0.8, 9.5, 0], [-0.5, 0.6, 8.8]], pbc=True)
    places = ([0, 0, 0], [4.5, 0, 0.2], [0, 4.7, 4.4], [4.4, 4.5, 0])
    for index, (atoms, place) in enumerate(zip(shapes, places, strict=True)):
        part = atoms.copy()
        part.positions += place
        part.set_array("molecule", np.full(len(part), index))
        box += part
    box.wrap()
    return [box, *shapes[:3]]


def energy(atoms: Atoms) -> float:
    batch = AtomsBatch.from_atoms(atoms)
    return float(Evaluator(potential(), trajectory=False).evaluate(batch).energy)


def test_orders_of_like_neighbours_all_count() -> None:
    """C-C of ethane: 2 ends x 3! x 3!; the tree of a ring ends where its reach does."""
    numbers = [6, 6, *[1] * 6]
    bonds = ((0, 1), *((0, k) for k in (2, 3, 4)), *((1, k) for k in (5, 6, 7)))
    ethane = surroundings(Template("ethane", tuple(numbers), bonds), 1, 4)
    (orders,) = ethane[0].orders.values()
    assert orders.atoms.shape == (72, 7, 8)
    assert orders.weight == pytest.approx(1 / 72)
    first = {tuple(row[0][:2]) for row in orders.atoms}
    assert first == {(0, 1), (1, 0)}
    for row in orders.atoms:  # neighbours in the order in which the bond itself lists them
        assert row[1][1] == row[0][2]
        assert row[4][1] == row[0][5]
    water = surroundings(Template("water", (8, 1, 1), ((0, 1), (0, 2))), 1, 4)
    (orders,) = water[0].orders.values()
    assert orders.atoms.tolist() == [
        [[1, 0, -1, -1, -1, 2, -1, -1], *[[-1] * 8] * 3,
         [0, 2, 1, -1, -1, -1, -1, -1], *[[-1] * 8] * 2]
    ]  # fmt: skip
    methanol = Template.of(MOLECULES[0])
    bond = surroundings(methanol, 1, 4)[1]  # C-O: hydrogens of C are left or right
    assert [centre.alike for centre in bond.centres] == [(3, 4)]
    right, left = (bond.orders[hand,].atoms for hand in (False, True))
    swapped = np.where(left == 3, 4, np.where(left == 4, 3, left))
    np.testing.assert_array_equal(right, swapped)


def test_features_by_hand() -> None:
    """Of one bond of oxirane: lengths, angles at both ends, torsions."""
    template = Template.of(MOLECULES[1])
    atoms = structures()[2]
    row = np.array([[1, 2, 0, 3, -1, 5, -1, -1]])  # C-C, O and H at the first, H at the second
    known = reference(template, row)
    changes = geometry(AtomsBatch.from_atoms(atoms), torch.tensor(row), torch.tensor(known.values))[
        0
    ].numpy()
    assert known.elements.reshape(8, 20).argmax(1)[:4].tolist() == [5, 5, 7, 0]
    assert known.elements.reshape(8, 20).sum(1).tolist() == [1, 1, 1, 1, 0, 1, 0, 0]
    length = (atoms.get_distance(1, 0) - 0.76 - 0.66) * 10
    np.testing.assert_allclose(changes[1], length, rtol=1e-9)
    cos = np.cos(np.radians(atoms.get_angle(2, 1, 3))) - np.cos(np.radians(109.45))
    np.testing.assert_allclose(changes[7 + 1], 5 * cos, rtol=1e-9)  # p: (q, O), (q, H), ...
    torsion = np.cos(np.radians(atoms.get_dihedral(0, 1, 2, 5)))
    np.testing.assert_allclose(changes[7 + 12], torsion, rtol=1e-9)
    torsion = np.cos(np.radians(atoms.get_dihedral(3, 1, 2, 5)))
    np.testing.assert_allclose(changes[7 + 12 + 3], torsion, rtol=1e-9)
    absent = [3, 5, 6, 9, 11, 12, 14, 15, 16, 17, 18]
    assert not changes[absent].any()


def test_like_atoms_may_be_listed_in_any_order() -> None:
    """Hydrogens of CH2 and ligands of PF6 exchanged, and everything in another order."""
    _, methanol, _, ion = structures()
    for atoms, order in ((methanol, [0, 1, 2, 4, 3, 5]), (methanol, [5, 4, 0, 2, 1, 3]),
                         (ion, [0, 3, 1, 2, 5, 6, 4])):  # fmt: skip
        assert energy(atoms[order]) == pytest.approx(energy(atoms), abs=1e-12)
    apart = methanol.copy()  # another molecule: each hydrogen where the other was, but not alike
    apart.positions[3] += 0.1 * (apart.positions[3] - apart.positions[0])
    assert abs(energy(apart) - energy(methanol)) > 1e-6


def test_energies_add_up_and_turn_with_nothing() -> None:
    box, *alone = structures()
    together = energy(box)
    assert together == pytest.approx(sum(energy(atoms) for atoms in alone), abs=1e-11)
    turned = alone[0].copy()
    turned.rotate(50, (1, -2, 0.5))
    assert energy(turned) == pytest.approx(energy(alone[0]), abs=1e-12)


def test_derivatives_batches_and_kernels() -> None:
    model, samples = potential(), structures()
    checks.check_forces(model, samples[:1], n_directions=4)
    checks.check_stress(model, samples[:1])
    checks.check_batch_equals_single(model, samples, tolerance=1e-10)
    checks.check_no_gradient_across_systems(model, samples)
    checks.check_lattice_shift(model, samples[:1], tolerance=1e-10)
    checks.check_kernels(model, samples)


def test_what_cannot_be_described_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 4 bonds of each atom of 'PF6', got 6"):
        BondNetwork([{**MOLECULES[2], "network": 0}], NETWORKS)
    with pytest.raises(ConfigError, match="a network below 2 for 'oxirane', got 2"):
        BondNetwork([{**MOLECULES[1], "network": 2}], NETWORKS)
    silane = {"name": "silane", "numbers": [14, 1], "bonds": [[0, 1]], "network": 0}
    with pytest.raises(ConfigError, match=r"elements with radii .* in 'silane', got \[14\]"):
        BondNetwork([silane], NETWORKS)


@pytest.mark.parametrize("entry", MOLECULES, ids=lambda entry: entry["name"])
def test_shapes_have_the_bonds_of_their_graph(entry: dict[str, Any]) -> None:
    from hff_ase.topology import perceive

    template = Template.of(entry)
    atoms = Atoms(entry["numbers"], embedded(template))
    assert perceive(atoms).bonds.tolist() == [list(bond) for bond in template.bonds]
    np.testing.assert_array_equal(embedded(template), atoms.positions)
