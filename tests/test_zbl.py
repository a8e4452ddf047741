"""The ZBL repulsion: the published formula, its smooth end, derivatives, coinciding atoms."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import covalent_radii

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential
from hff_ase.terms.repulsion import ZBL

KERNELS = ["reference", "auto"]


def evaluate(
    atoms: Atoms | list[Atoms], term: ZBL | None = None, kernels: str = "reference"
) -> Evaluation:
    potential = HybridPotential({"zbl": term or ZBL()}).use_kernels(kernels)
    return potential(AtomsBatch.from_atoms(atoms))


def dimer(symbols: str, distance: float) -> Atoms:
    return Atoms(symbols, [[0, 0, 0], [0.6 * distance, 0, 0.8 * distance]])


def published(z1: int, z2: int, r: float) -> float:
    """The universal potential in eV, without a cutoff (a = 0.8854 Bohr / (Z1^0.23 + Z2^0.23))."""
    x = r * (z1**0.23 + z2**0.23) / (0.88534 * 0.529177)
    phi = (
        0.18175 * np.exp(-3.19980 * x)
        + 0.50986 * np.exp(-0.94229 * x)
        + 0.28022 * np.exp(-0.40290 * x)
        + 0.02817 * np.exp(-0.20162 * x)
    )
    return 14.399645 * z1 * z2 / r * phi


@pytest.mark.parametrize(("symbols", "z1", "z2"), [("H2", 1, 1), ("LiO", 3, 8), ("CP", 6, 15)])
@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.49])
@pytest.mark.parametrize("kernels", KERNELS)
def test_matches_the_published_formula(
    symbols: str, z1: int, z2: int, fraction: float, kernels: str
) -> None:
    distance = fraction * 0.7 * (covalent_radii[z1] + covalent_radii[z2])
    energy = float(evaluate(dimer(symbols, distance), kernels=kernels).energy)
    assert energy == pytest.approx(published(z1, z2, distance), rel=3e-4)


def test_hydrogen_atoms_have_their_known_repulsion() -> None:
    """At 0.1 Angstrom the exact H2 curve minus its atoms is some 100 eV; bare nuclei 144 eV."""
    energy = float(evaluate(dimer("H2", 0.1)).energy)
    assert 80.0 < energy < 120.0


@pytest.mark.parametrize("kernels", KERNELS)
def test_bonds_of_molecules_and_salts_are_left_alone(kernels: str) -> None:
    names = ["H2", "N2", "CO", "H2O", "CH3CN", "C2H2", "CO2", "LiF", "LiH", "HF", "F2", "P2"]
    result = evaluate([molecule(name) for name in names], kernels=kernels)
    assert float(result.energy.abs().max()) == 0.0
    salt = bulk("LiF", "rocksalt", a=4.03)
    assert float(evaluate(salt, kernels=kernels).energy) == 0.0


@pytest.mark.parametrize("symbols", ["H2", "LiO", "PF"])
def test_goes_to_zero_with_two_derivatives(symbols: str) -> None:
    outer = 0.7 * sum(covalent_radii[Atoms(symbols).numbers])
    model = HybridPotential({"zbl": ZBL()})

    def derivatives(distance: float) -> np.ndarray:
        batch = AtomsBatch.from_atoms(dimer(symbols, distance))
        neighbors = model.neighbor_list()
        neighbors.update(batch)
        scale = torch.ones((), dtype=torch.float64, requires_grad=True)
        moved = batch.moved(batch.positions * scale)
        energy = model.evaluate_terms(moved, neighbors)[1]["zbl"].sum()
        (first,) = torch.autograd.grad(energy, scale, create_graph=True)
        (second,) = torch.autograd.grad(first, scale)
        return torch.stack([energy, first, second]).detach().numpy()

    for end in (0.5 * outer, outer):
        below, above = derivatives(end - 1e-8), derivatives(end + 1e-8)
        assert np.allclose(below, above, rtol=1e-5, atol=1e-3)
    assert np.all(derivatives(outer + 1e-9) == 0.0)
    slopes = [derivatives(x * outer)[1] for x in np.linspace(0.05, 0.999, 40)]
    assert max(slopes) < 0.0  # repulsive all the way


@pytest.mark.parametrize("kernels", KERNELS)
def test_coinciding_atoms_give_a_finite_energy(kernels: str) -> None:
    for distance in (0.0, 1e-12, 1e-4, 1e-2):
        result = evaluate(dimer("CO", distance), kernels=kernels)
        assert 1e4 < float(result.energy) < 1e9
        assert bool(torch.isfinite(result.forces).all())


def crowd() -> Atoms:
    rng = np.random.default_rng(8)
    cell = np.array([[2.5, 0, 0], [0.6, 2.4, 0], [-0.4, 0.5, 2.6]])
    symbols = rng.choice(["H", "Li", "C", "O", "P"], 12)
    return Atoms(symbols, rng.random((12, 3)) @ cell, cell=cell, pbc=True)


@pytest.mark.parametrize("kernels", KERNELS)
def test_forces_and_stress_are_derivatives(kernels: str) -> None:
    atoms = crowd()
    result = evaluate(atoms, kernels=kernels)
    step = 1e-5
    for atom in range(len(atoms)):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, atom % 3] += sign * step
            ends.append(float(evaluate(moved, kernels=kernels).energy))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert float(result.forces[atom, atom % 3]) == pytest.approx(-slope, rel=1e-6, abs=1e-6)
    for a, b in ((0, 0), (2, 2), (0, 1), (1, 2)):
        ends = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += 0.5 * sign * step
            strain[b, a] += 0.5 * sign * step
            moved = atoms.copy()
            moved.set_cell(np.array(atoms.cell) @ strain, scale_atoms=True)
            ends.append(float(evaluate(moved, kernels=kernels).energy))
        slope = (ends[0] - ends[1]) / (2 * step) / atoms.get_volume()
        assert float(result.stress[0, a, b]) == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_batch_equals_single() -> None:
    structures = [crowd(), dimer("CO", 0.4), Atoms("He"), dimer("U2", 1.0)]
    together = evaluate(structures)
    for index, atoms in enumerate(structures):
        alone = float(evaluate(atoms).energy)
        assert float(together.energy[index]) == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("kernels", KERNELS)
def test_given_pairs_end_where_they_are_told(kernels: str) -> None:
    """Two hydrogens repel to 1.5 Angstrom, in full to half of it; C-H as before."""
    term = ZBL(outer={"H-H": 1.5})
    inside = float(evaluate(dimer("H2", 0.7), term, kernels).energy)
    assert inside == pytest.approx(published(1, 1, 0.7), rel=3e-4)
    energies = [
        float(evaluate(dimer("H2", r), term, kernels).energy) for r in (1.0, 1.3, 1.49, 1.5)
    ]
    assert energies == sorted(energies, reverse=True)
    assert 0 < energies[2] < 1e-4
    assert energies[3] == 0
    bond = dimer("CH", 0.6)
    assert evaluate(bond, term, kernels).energy == evaluate(bond, None, kernels).energy
    slow, fast = evaluate(crowd(), term), evaluate(crowd(), term, "auto")
    torch.testing.assert_close(fast.energy, slow.energy, rtol=1e-6, atol=1e-6)


def test_config_round_trip() -> None:
    term = ZBL(scale=1.0, inner=0.2, outer={"H-H": 1.2})
    again = ZBL(**json.loads(json.dumps(term.config())))
    assert torch.equal(evaluate(crowd(), term).energy, evaluate(crowd(), again).energy)
    assert not torch.equal(evaluate(crowd(), term).energy, evaluate(crowd()).energy)


def test_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match="ZBL scale"):
        ZBL(scale=0.0)
    with pytest.raises(ConfigError, match="inner fraction"):
        ZBL(inner=1.0)
    for outer in ({"H": 1.0}, {"H-Q": 1.0}, {"H-H-H": 1.0}):
        with pytest.raises(ConfigError, match="pair of elements such as C-H for ZBL, got"):
            ZBL(outer=outer)
    with pytest.raises(ConfigError, match="at most 4 A for H-H, got 9"):
        ZBL(outer={"H-H": 9.0})
    with pytest.raises(StructureError, match=r"H to Cm for ZBL, got Bk \(atom 0\)"):
        evaluate(Atoms("Bk"))
