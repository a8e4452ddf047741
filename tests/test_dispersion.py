"""DFT-D3 against simple-dftd3, finite differences, and the smooth cutoff of our own."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr, Hartree

from hff_ase.batch import AtomsBatch
from hff_ase.errors import ConfigError, StructureError
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest, Pairs
from hff_ase.passes import Evaluation
from hff_ase.potential import HybridPotential
from hff_ase.terms.dispersion import D3Dispersion
from hff_ase.terms.dispersion.coordination import reference_weights
from hff_ase.terms.dispersion.presets import PRESETS
from hff_ase.terms.dispersion.reference import N_ELEMENTS, reference_tables

dftd3 = pytest.importorskip("dftd3.interface")

PARAMETERS = {
    "bj": {"s6": 0.9, "s8": 0.7875, "a1": 0.4289, "a2": 4.4407},
    "zero": {"s6": 0.9, "s8": 0.722, "rs6": 1.217, "rs8": 1.05, "alpha6": 14.0},
    "cso": {"s6": 0.9, "a1": 0.86, "a2": 2.5, "a3": 0.1, "a4": 6.0},
}
DAMPINGS = list(PARAMETERS)
KERNELS = ["reference", "auto"]
REFERENCE = {
    "bj": dftd3.RationalDampingParam,
    "zero": dftd3.ZeroDampingParam,
    "cso": dftd3.CSODampingParam,
}
MANY = list(Atoms("HLiBeBCNOFNaMgSiPSClKFeBrICsAuU").symbols)
CUTOFF, CN_CUTOFF = 12.013, 9.017  # not a distance between an atom and its own image below


def crowded(n_atoms: int, length: float, symbols: list[str], seed: int) -> Atoms:
    """Random atoms in a triclinic box."""
    rng = np.random.default_rng(seed)
    cell = length * np.array([[1, 0, 0], [0.3, 1, 0], [-0.2, 0.35, 0.9]])
    picked = rng.choice(symbols, n_atoms)
    return Atoms(picked, rng.random((n_atoms, 3)) @ cell, cell=cell, pbc=True)


def shell(symbol: str, distance: float, directions: list[tuple[int, int, int]]) -> Atoms:
    """An atom among oxygens."""
    spokes = np.array(directions, dtype=float)
    spokes *= distance / np.linalg.norm(spokes, axis=1, keepdims=True)
    return Atoms([symbol] + ["O"] * len(spokes), np.vstack([np.zeros(3), spokes]))


TETRAHEDRON = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
OCTAHEDRON = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
CUBE = [(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)]
STRUCTURES = {
    "benzene": molecule("C6H6"),
    "ethanol": molecule("CH3CH2OH"),
    "thiol": molecule("CH3SH"),
    "LiO4": shell("Li", 1.95, TETRAHEDRON),
    "LiO6": shell("Li", 2.05, OCTAHEDRON),
    "LiO14": shell("Li", 1.3, OCTAHEDRON + CUBE),
    "many elements, sparse": crowded(24, 9.0, MANY, 2),
    "many elements, dense": crowded(24, 6.5, MANY, 1),
    "electrolyte elements, crowded": crowded(40, 5.5, ["H", "Li", "C", "O", "F", "P"], 3),
}
DENSE = crowded(12, 4.6, ["H", "Li", "C", "O", "F"], 5)


def potential(
    damping: str,
    switch_width: float = 0.0,
    cutoff: float = CUTOFF,
    kernels: str = "reference",
) -> HybridPotential:
    term = D3Dispersion(
        damping=damping,
        parameters=PARAMETERS[damping],
        cutoff=cutoff,
        cn_cutoff=min(CN_CUTOFF, cutoff),
        switch_width=switch_width,
    )
    return HybridPotential({"d3": term}).use_kernels(kernels)


def evaluate(model: HybridPotential, atoms: Atoms | list[Atoms]) -> Evaluation:
    return model(AtomsBatch.from_atoms(atoms))


def simple_dftd3(atoms: Atoms, damping: str) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy, forces and dE/dstrain in eV and Angstrom, two-body terms only."""
    names = {"alpha6": "alp"}
    parameters = {names.get(key, key): value for key, value in PARAMETERS[damping].items()}
    periodic = bool(atoms.pbc.all())
    model = dftd3.DispersionModel(
        atoms.numbers,
        atoms.positions / Bohr,
        np.array(atoms.cell) / Bohr if periodic else None,
        np.array([True] * 3) if periodic else None,
    )
    model.set_realspace_cutoff(CUTOFF / Bohr, 1.0, CN_CUTOFF / Bohr)
    result = model.get_dispersion(REFERENCE[damping](s9=0.0, **parameters), grad=True)
    forces = -result["gradient"] * Hartree / Bohr
    return float(result["energy"]) * Hartree, forces, result["virial"] * Hartree


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("name", list(STRUCTURES))
def test_matches_simple_dftd3(name: str, damping: str, kernels: str) -> None:
    atoms = STRUCTURES[name]
    energy, forces, virial = simple_dftd3(atoms, damping)
    result = evaluate(potential(damping, kernels=kernels), atoms)
    assert float(result.energy) == pytest.approx(energy, rel=1e-7)
    assert np.abs(result.forces.numpy() - forces).max() < 1e-6
    if atoms.pbc.all():
        stress = result.stress[0].numpy()
        assert np.abs(stress - virial / atoms.get_volume()).max() < 1e-7


@pytest.mark.parametrize("damping", DAMPINGS)
def test_every_element_matches_simple_dftd3(damping: str) -> None:
    """Each element with 0 to 6 close carbons, and with another atom of its own farther away."""
    structures = []
    for number in range(1, N_ELEMENTS + 1):
        for n_close, distance in ((0, 1.0), (1, 1.7), (2, 2.0), (4, 2.3), (6, 1.9)):
            spokes = np.array(OCTAHEDRON[:n_close]).reshape(-1, 3) * distance
            positions = np.vstack([np.zeros((1, 3)), spokes, [[6.0, 4.0, 3.0]]])
            structures.append(Atoms([number] + [6] * n_close + [number], positions))
    batch = AtomsBatch.from_atoms(structures)
    ours = potential(damping)(batch, forces=False, stress=False).energy.numpy()
    theirs = np.array([simple_dftd3(atoms, damping)[0] for atoms in structures])
    assert np.abs(ours / theirs - 1.0).max() < 1e-7


@pytest.mark.parametrize("damping", DAMPINGS)
def test_presets_are_those_of_simple_dftd3(damping: str) -> None:
    path = Path(dftd3.__file__).with_name("parameters.toml")
    table = tomllib.loads(path.read_text())["parameter"]
    for method, parameters in PRESETS[damping].items():
        published = table[method]["d3"][damping]
        assert parameters == {key: published[key] for key in parameters}, method
        assert set(published) - {"doi", "s9", "s6"} == set(parameters), method
        assert published.get("s6", 1.0) == 1.0, method


def test_a_method_gives_the_published_energy() -> None:
    atoms = STRUCTURES["benzene"]
    model = dftd3.DispersionModel(atoms.numbers, atoms.positions / Bohr)
    param = dftd3.RationalDampingParam(method="r2scan", atm=False)
    expected = float(model.get_dispersion(param, grad=False)["energy"]) * Hartree
    term = D3Dispersion("r2SCAN", cutoff=30.0, cn_cutoff=20.0, switch_width=0.0)
    energy = float(evaluate(HybridPotential({"d3": term}), atoms).energy)
    assert energy == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("cutoff", [CUTOFF, 5.0])
def test_forces_and_stress_are_derivatives(damping: str, cutoff: float, kernels: str) -> None:
    """With the default switching width, many pairs in it, in a box smaller than the cutoff."""
    model = potential(damping, switch_width=2.0, cutoff=cutoff, kernels=kernels)

    def energy(atoms: Atoms) -> float:
        return float(model(AtomsBatch.from_atoms(atoms), forces=False, stress=False).energy)

    result = evaluate(model, DENSE)
    step = 2e-4
    for atom in range(0, len(DENSE), 3):
        for axis in range(3):
            ends = []
            for factor in (1, -1, 2, -2):
                moved = DENSE.copy()
                moved.positions[atom, axis] += factor * step
                ends.append(energy(moved))
            slope = (8 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / (12 * step)
            assert float(result.forces[atom, axis]) == pytest.approx(-slope, abs=1e-6)
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        ends = []
        for factor in (1, -1, 2, -2):
            strain = np.eye(3)
            strain[a, b] += 0.5 * factor * step
            strain[b, a] += 0.5 * factor * step
            moved = DENSE.copy()
            moved.set_cell(np.array(DENSE.cell) @ strain, scale_atoms=True)
            ends.append(energy(moved))
        slope = (8 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / (12 * step)
        assert float(result.stress[0, a, b]) == pytest.approx(slope / DENSE.get_volume(), abs=1e-6)


@pytest.mark.parametrize("damping", DAMPINGS)
def test_second_derivatives(damping: str) -> None:
    model = potential(damping, switch_width=1.5, cutoff=4.5)
    batch = AtomsBatch.from_atoms(DENSE[:6])
    neighbors = model.neighbor_list(skin=0.5)
    neighbors.update(batch)

    def energy(positions: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        moved = batch.moved(positions * scale, batch.cell * scale)
        return model.evaluate_terms(moved, neighbors)[1]["d3"].sum()

    inputs = (
        batch.positions.requires_grad_(),
        torch.ones((), dtype=torch.float64).requires_grad_(),
    )
    assert torch.autograd.gradcheck(energy, inputs, atol=1e-6)
    assert torch.autograd.gradgradcheck(energy, inputs, atol=1e-5)


@pytest.mark.parametrize("damping", DAMPINGS)
def test_energy_goes_to_zero_with_two_derivatives(damping: str) -> None:
    """A pair across both ends of the switch: no derivative up to the second jumps."""
    cutoff, width = 6.0, 2.0
    model = potential(damping, switch_width=width, cutoff=cutoff)
    neighbors = model.neighbor_list(skin=1.0)

    def derivatives(distance: float) -> np.ndarray:
        batch = AtomsBatch.from_atoms(Atoms("C2", [[0, 0, 0], [distance, 0, 0]]))
        neighbors.update(batch)
        x = torch.tensor(distance, dtype=torch.float64, requires_grad=True)
        ends = torch.zeros(2, 3, dtype=torch.float64)
        positions = torch.stack([ends[0], torch.stack([x, *ends[1, 1:]])])
        energy = model.evaluate_terms(batch.moved(positions), neighbors)[1]["d3"].sum()
        (first,) = torch.autograd.grad(energy, x, create_graph=True)
        (second,) = torch.autograd.grad(first, x)
        return torch.stack([energy, first, second]).detach().numpy()

    for end in (cutoff - width, cutoff):
        below, above = derivatives(end - 1e-6), derivatives(end + 1e-6)
        assert np.abs(below - above).max() < 1e-6
    assert np.abs(derivatives(cutoff - 0.5)).min() > 1e-5
    assert np.all(derivatives(cutoff + 1e-6) == 0.0)


class Untrimmed(Neighborhood):
    """One listed pair at a given distance, whatever the cutoff (as in a padded list)."""

    kernels = None

    def __init__(self, distance: float, plan: object = None) -> None:
        self.prepared = plan
        vector = torch.tensor([[distance, 0.0, 0.0]], dtype=torch.float64)
        index = torch.tensor([0]), torch.tensor([1])
        self.listed = Pairs(*index, vector, vector.norm(dim=1).requires_grad_())

    def pairs(self, request: PairRequest) -> Pairs:
        return self.listed

    def plan(self, planner: object) -> object:
        return self.prepared


@pytest.mark.parametrize("switch_width", [0.0, 2.0])
def test_pairs_beyond_the_cutoff_count_nothing_even_when_listed(switch_width: float) -> None:
    term = D3Dispersion("pbe", cutoff=6.0, cn_cutoff=6.0, switch_width=switch_width)
    batch = AtomsBatch.from_atoms(Atoms("C2", [[0, 0, 0], [6, 0, 0]]))
    for distance, within in ((5.9, True), (6.001, False), (9.0, False)):
        neighbors = Untrimmed(distance, term.prepare(batch))
        energy = term(batch, neighbors, {}).sum()
        (slope,) = torch.autograd.grad(energy, neighbors.listed.distance)
        assert (energy.item() != 0.0) == within
        assert (slope.item() != 0.0) == within


@pytest.mark.parametrize("damping", DAMPINGS)
def test_batch_equals_single(damping: str) -> None:
    model = potential(damping, switch_width=2.0)
    structures = [DENSE, STRUCTURES["LiO4"], Atoms("Xe"), STRUCTURES["many elements, dense"]]
    together = evaluate(model, structures)
    first = 0
    for index, atoms in enumerate(structures):
        alone = evaluate(model, atoms)
        assert float(together.energy[index]) == pytest.approx(float(alone.energy), rel=1e-12)
        forces = together.forces[first : first + len(atoms)]
        assert torch.allclose(forces, alone.forces, rtol=0, atol=1e-12)
        assert torch.allclose(together.stress[index], alone.stress[0], rtol=0, atol=1e-12)
        first += len(atoms)


def test_elements_may_change_between_evaluations_on_one_list() -> None:
    model = potential("bj", switch_width=2.0)
    neighbors = model.neighbor_list(skin=1.0)
    first = Atoms("CO", [[0, 0, 0], [0, 0, 3]])
    second = Atoms("LiF", first.positions)
    model(AtomsBatch.from_atoms(first), neighbors)
    energy = model(AtomsBatch.from_atoms(second), neighbors).energy
    assert torch.equal(energy, evaluate(model, second).energy)


def test_atomic_energies_are_local_and_sum_up() -> None:
    result = evaluate(potential("bj"), Atoms("CO2", [[0, 0, 0], [0, 0, 3], [50, 0, 0]]))
    assert float(result.energies.sum()) == pytest.approx(float(result.energy), rel=1e-14)
    assert float(result.energies[0]) == pytest.approx(float(result.energies[1]), rel=1e-12)
    assert float(result.energies[2]) == 0.0


def test_weights_survive_any_crowding() -> None:
    tables = reference_tables(np.array([1, 3, 6]))
    row = torch.tensor([0, 1, 2])
    cn = torch.tensor([40.0, 60.0, 80.0], dtype=torch.float64)
    weights = reference_weights(cn, row, tables)
    assert torch.allclose(weights.sum(1), torch.ones(3, dtype=torch.float64))
    highest = torch.where(tables.exists, tables.cn, -1.0).argmax(1)
    assert torch.equal(weights.argmax(1), highest)


def test_coinciding_atoms_stay_finite() -> None:
    for damping in DAMPINGS:
        result = evaluate(potential(damping), Atoms("C2O", [[0, 0, 0], [0, 0, 0], [0, 0, 1.2]]))
        assert bool(torch.isfinite(result.energy).all())
        assert bool(torch.isfinite(result.forces).all())


@pytest.mark.parametrize("damping", DAMPINGS)
def test_config_round_trip(damping: str) -> None:
    term = D3Dispersion("PBE", damping=damping, cutoff=9.0, switch_width=1.0)
    config = json.loads(json.dumps(term.config()))
    again = D3Dispersion(**config)
    assert again.config() == term.config()
    first, second = (evaluate(HybridPotential({"d": t}), DENSE).energy for t in (term, again))
    assert torch.equal(first, second)


def test_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match="either a method or parameters"):
        D3Dispersion()
    with pytest.raises(ConfigError, match="got 'mp2'"):
        D3Dispersion("mp2")
    with pytest.raises(ConfigError, match="damping among"):
        D3Dispersion(damping="becke", parameters={})
    with pytest.raises(ConfigError, match=r"\['s8', 'a1', 'a2', 's6'\] for 'bj'"):
        D3Dispersion(parameters={"s8": 1.0})
    with pytest.raises(ConfigError, match="number for the D3 parameter 'a1'"):
        D3Dispersion(parameters={"s8": 1.0, "a1": "big", "a2": 4.0})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="switch_width < cutoff"):
        D3Dispersion("pbe", cutoff=1.0)
    with pytest.raises(StructureError, match=r"H to Pu for D3, got Cm \(atom 1\)"):
        evaluate(potential("bj"), Atoms("HCm", [[0, 0, 0], [0, 0, 2]]))
