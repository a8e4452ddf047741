"""Terms of molecular force fields: gradients, symmetries, exclusions, molecules in any order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from core_models import molecular, molecular_box, molecular_gas, toy_molecules

from hff_ase import testing as checks
from hff_ase.batch import AtomsBatch
from hff_ase.checkpoint import ModelInfo, load_model, save_model
from hff_ase.errors import ConfigError, StructureError
from hff_ase.evaluator import Evaluator
from hff_ase.molecular.symmetry import averaged
from hff_ase.potential import HybridPotential
from hff_ase.terms.bonded import Bonded
from hff_ase.terms.exp6 import Exp6
from hff_ase.terms.fixed_charges import FixedCharges
from hff_ase.terms.induced_dipoles import InducedDipoles
from hff_ase.units import COULOMB_CONSTANT

PARTS = {
    "bonded": ["charges", "bonded"],
    "coulomb": ["charges", "coulomb", "excluded"],
    "exp6": ["charges", "exp6"],
    "transfer": ["charges", "transfer"],
    "induction": ["charges", "induction"],
}


@pytest.mark.parametrize("name", list(PARTS))
def test_forces_and_stress_are_exact(name: str) -> None:
    """In a dense, triclinic, ionic box of flexible molecules, and without a cell."""
    potential = molecular(1e-12).subset(PARTS[name]).set_dtype(torch.float64)
    checks.check_forces(potential, [molecular_box(), molecular_gas()])
    checks.check_stress(potential, [molecular_box()])


def test_the_whole_in_batches_rotated_and_moved() -> None:
    potential = molecular().set_dtype(torch.float64)
    structures = [molecular_box(), molecular_gas(1), molecular_box(2)]
    checks.check_batch_equals_single(potential, structures, tolerance=1e-9)
    checks.check_no_gradient_across_systems(potential, structures)
    checks.check_rotation(potential, structures, tolerance=1e-8)
    checks.check_lattice_shift(potential, structures[:1], tolerance=1e-8)
    checks.check_permutation(potential, structures, tolerance=1e-9)
    checks.check_padded_list(potential, structures, tolerance=1e-8)


def test_kernels_give_what_the_reference_gives() -> None:
    potential = molecular()
    checks.check_kernels(potential, [molecular_box(), molecular_gas(), molecular_box(1)])


def test_molecules_are_found_without_ids_and_kept_while_they_move() -> None:
    potential = molecular().set_dtype(torch.float64)
    box = molecular_box()
    expected = Evaluator(potential, trajectory=False).evaluate(AtomsBatch.from_atoms(box))
    del box.arrays["molecule"]
    evaluator = Evaluator(potential, skin=0.0)
    found = evaluator.evaluate(AtomsBatch.from_atoms(box))
    torch.testing.assert_close(found.energy, expected.energy, rtol=1e-12, atol=1e-10)
    stretched = box.copy()  # by 1.3: no bond of anybody who looks for bonds anew, and still one
    apart = stretched.get_distance(0, 1, mic=True, vector=True)
    for _ in range(2):
        stretched.positions[0] -= 0.3 * apart
        assert np.isfinite(float(evaluator.evaluate(AtomsBatch.from_atoms(stretched)).energy))
    stretched.positions[0] -= 0.4 * apart
    with pytest.raises(StructureError, match="a broken one between atoms 0 and 1"):
        evaluator.evaluate(AtomsBatch.from_atoms(stretched))


def test_another_structure_of_the_same_atoms_is_matched_anew() -> None:
    """What one structure's molecules were says nothing about the next one's."""
    potential = molecular().set_dtype(torch.float64)
    box = molecular_box()
    hydrogens = np.flatnonzero(box.numbers == 1)
    swapped = box.copy()  # hydrogens of different waters exchanged: other bonds, same elements
    swapped.positions[hydrogens] = box.positions[hydrogens][::-1]
    swapped.arrays["molecule"][hydrogens] = box.arrays["molecule"][hydrogens][::-1]
    evaluator = Evaluator(potential)
    whole = evaluator.evaluate(AtomsBatch.from_atoms(box))
    found = evaluator.evaluate(AtomsBatch.from_atoms(swapped))
    torch.testing.assert_close(found.energy, whole.energy, rtol=1e-12, atol=1e-9)
    for atoms in (molecular_box(3), box):
        alone = Evaluator(potential, trajectory=False).evaluate(AtomsBatch.from_atoms(atoms))
        again = evaluator.evaluate(AtomsBatch.from_atoms(atoms))
        torch.testing.assert_close(again.energy, alone.energy, rtol=1e-12, atol=1e-9)


def test_molecule_ids_that_change_are_noticed() -> None:
    """Positions stay where they are: it is still another system."""
    potential = molecular().set_dtype(torch.float64)
    evaluator = Evaluator(potential)
    box = molecular_box()
    expected = evaluator.evaluate(AtomsBatch.from_atoms(box)).energy
    box.arrays["molecule"] = box.arrays["molecule"][::-1].copy()
    with pytest.raises(StructureError):
        evaluator.evaluate(AtomsBatch.from_atoms(box))
    again = evaluator.evaluate(AtomsBatch.from_atoms(molecular_box())).energy
    torch.testing.assert_close(again, expected, rtol=1e-12, atol=1e-9)


def test_no_dispersion_is_a_number() -> None:
    """Where an atom has no C6 its pairs have none, and the gradients stay finite."""
    molecules = toy_molecules()
    bare = [{**m, "c6": [0.0] * len(m["numbers"])} for m in molecules]
    potential = HybridPotential(
        {"charges": FixedCharges(bare), "exp6": Exp6(bare, cutoff=6.0, switch_width=1.0, tail=True)}
    )
    found = Evaluator(potential, trajectory=False).evaluate(
        AtomsBatch.from_atoms(molecular_box()),
        derivatives=["positions", "parameters"],
        parameters=["exp6.*"],
    )
    assert found.forces is not None
    assert bool(found.forces.isfinite().all())
    for name, gradient in found.parameter_gradients.items():
        assert bool(gradient.isfinite().all()), name


def test_dipoles_of_two_atoms_are_those_of_the_formula() -> None:
    """Two atoms in line with a charge, undamped: (1 - 4 a b / r^6) mu = a (E_a + 2 b E_b / r^3)."""
    sites = [
        {"name": z, "numbers": [n], "bonds": [], "charge": [q], "polarizability": [a],
         "damping": [1e-6]}
        for z, n, q, a in (("He", 2, 0.0, 0.7), ("Ne", 10, 0.0, 1.3), ("Li", 3, 1.0, 1e-9))
    ]  # fmt: skip
    terms = {"charges": FixedCharges(sites), "pol": InducedDipoles(sites)}
    potential = HybridPotential(terms).eval()
    x, y = 3.0, 7.5  # of He and Ne, in line with Li at 0
    atoms = Atoms("HeNeLi", [[x, 0, 0], [y, 0, 0], [0, 0, 0]], info={"charge": 1.0})
    found = Evaluator(potential).evaluate(AtomsBatch.from_atoms(atoms))
    a, b, r = 0.7, 1.3, y - x
    field = np.array([1 / x**2, 1 / y**2])
    matrix = np.array([[1 / a, -2 / r**3], [-2 / r**3, 1 / b]])
    dipoles = np.linalg.solve(matrix, field)
    np.testing.assert_allclose(found.fields["dipoles"][:2, 0], dipoles, rtol=1e-7)
    energy = -0.5 * COULOMB_CONSTANT * dipoles @ field
    assert float(found.energy) == pytest.approx(energy, rel=1e-7)


def test_a_large_box_of_images_is_the_small_one() -> None:
    """Lattice sums and tails do not know how often a cell is repeated."""
    potential = molecular().set_dtype(torch.float64)
    box = molecular_box()
    del box.arrays["molecule"]
    twice = box.repeat((2, 1, 1))
    twice.info["charge"] = 2.0
    one, two = (
        Evaluator(potential, trajectory=False).evaluate(AtomsBatch.from_atoms(b))
        for b in (box, twice)
    )
    for name, energy in one.energy_terms.items():
        if name not in ("exp6", "transfer"):  # their published tail depends a little on N
            expected = 2.0 * float(energy)
            assert float(two.energy_terms[name]) == pytest.approx(expected, rel=1e-8, abs=1e-7)


def test_a_file_keeps_the_model(tmp_path: Path) -> None:
    path = tmp_path / "toy.hff"
    potential = molecular()
    with torch.no_grad():  # as after a training: values that are no longer those of the start
        for name, parameter in potential.named_parameters():
            if not name.startswith("terms.charges"):
                parameter *= 1.0 + 0.01 * torch.rand(parameter.shape, dtype=torch.float64)
    box = molecular_box()
    box.info["charge"] = 1.0
    save_model(path, potential, ModelInfo("toy"), [box])
    loaded, _ = load_model(path)
    batch = AtomsBatch.from_atoms(box)
    one, two = (Evaluator(p, trajectory=False).evaluate(batch) for p in (potential, loaded))
    torch.testing.assert_close(one.energy, two.energy, rtol=1e-12, atol=1e-12)


def test_wrong_parameters_are_refused() -> None:
    water = toy_molecules()[0]
    with pytest.raises(ConfigError, match="each molecule once, got water and wet"):
        Bonded([water, {**water, "name": "wet"}])
    with pytest.raises(ConfigError, match=r"radius for the 3 atoms of 'water', got 2"):
        Exp6([{**water, "radius": [1.0, 1.0]}])
    with pytest.raises(ConfigError, match=r"angles of 'water' as 3 atoms and 2 parameters"):
        Bonded([{**water, "angle_terms": [[1, 0, 2, 3.0]]}])
    with pytest.raises(ConfigError, match="positive values of polarizability"):
        InducedDipoles([{**water, "polarizability": [0.0, 1.0, 1.0]}])
    with pytest.raises(ConfigError, match="bonds between the 3 atoms"):
        Bonded([{**water, "bonds": [[0, 3]]}])
    mean = averaged({**water, "charge": [-0.8, 0.3, 0.5]}, ["charge"], {"bond_terms": 2})
    assert mean["charge"] == [-0.8, 0.4, 0.4]
