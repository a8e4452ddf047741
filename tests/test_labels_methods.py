"""Labels against finite differences, physics and each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule

from hff_ase.errors import ConfigError, StructureError
from hff_ase.labels import (
    Label,
    PySCFLabeller,
    XTBLabeller,
    chelpg_charges,
    chelpg_points,
    labelled_atoms,
)
from hff_ase.labels.chelpg import potential_of_charges
from hff_ase.labels.quantum import strategies

pytest.importorskip("pyscf", reason="PySCF is an extra (labels)")
DEBYE = units.Debye


def bent_water() -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    atoms.positions += [0.3, -0.2, 0.5]
    return atoms


def finite_difference(labeller: Any, atoms: Atoms, atom: int, axis: int, h: float) -> float:
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[atom, axis] += sign * h
        energies.append(float(labeller.label(moved).arrays["energy"]))
    return -(energies[0] - energies[1]) / (2 * h)


def check_forces(labeller: Any, atoms: Atoms, tolerance: float) -> Label:
    label = labeller.label(atoms)
    assert label.ok
    for atom, axis in ((0, 2), (1, 0)):
        expected = finite_difference(labeller, atoms, atom, axis, 2e-3)
        assert label.arrays["forces"][atom, axis] == pytest.approx(expected, abs=tolerance)
    return label


@pytest.fixture(scope="module")
def water() -> Label:
    return PySCFLabeller("hf", "6-31g*", tolerance=1e-11).label(bent_water())


def test_forces_are_the_gradient_hartree_fock() -> None:
    labeller = PySCFLabeller("hf", "sto-3g", charges="mulliken", tolerance=1e-12)
    check_forces(labeller, bent_water(), 2e-5)


def test_forces_are_the_gradient_with_d3_and_a_functional() -> None:
    labeller = PySCFLabeller(
        "b3lyp", "sto-3g", charges="mulliken", dispersion="d3bj", tolerance=1e-11, grid=3
    )
    pytest.importorskip("dftd3")
    label = labeller.label(bent_water())
    expected = finite_difference(labeller, bent_water(), 0, 2, 2e-3)
    # PySCF leaves the response of the grid out of the gradient
    assert label.arrays["forces"][0, 2] == pytest.approx(expected, abs=2e-3)
    assert label.info["method_dispersion"] == "d3bj"
    assert label.info["dispersion_energy_ev"] < 0


def test_dipole_and_quadrupole_are_derivatives_of_the_energy_in_a_field(water: Label) -> None:
    """Independent of our integrals: the energy in a field of two point charges far away."""
    from pyscf import gto, qmmm, scf

    atoms, far, strength = bent_water(), 400.0, 80.0
    molecule_ = gto.M(
        atom=list(zip(atoms.symbols, atoms.positions / units.Bohr, strict=True)),
        basis="6-31g*",
        unit="B",
        verbose=0,
    )
    energies = []
    for sign in (1, -1):
        charges = sign * strength * np.array([1.0, -1.0])  # field along z at the origin
        place = np.array([[0, 0, -far], [0, 0, far]])
        mean_field = qmmm.mm_charge(scf.RHF(molecule_).density_fit(), place, charges, unit="B")
        mean_field.conv_tol = 1e-12
        energies.append(mean_field.kernel())
    field = 2 * strength / far**2
    dipole = -(energies[0] - energies[1]) / (2 * field) * units.Bohr
    assert water.arrays["dipole"][2] == pytest.approx(dipole, abs=2e-4)


def test_quadrupole_follows_the_rule_for_a_shifted_origin() -> None:
    labeller = PySCFLabeller("hf", "sto-3g", charges="mulliken")
    ion = molecule("OH")
    ion.info["charge"] = -1
    shift = np.array([0.7, -0.4, 1.1])
    before = labeller.label(ion).arrays
    ion.positions += shift
    after = labeller.label(ion).arrays
    np.testing.assert_allclose(after["dipole"], before["dipole"] - shift, atol=1e-6)
    cross = np.outer(shift, before["dipole"])
    expected = before["quadrupole"] + cross + cross.T - np.outer(shift, shift)
    np.testing.assert_allclose(after["quadrupole"], expected, atol=1e-6)


def test_chelpg_has_the_total_charge_and_nearly_the_dipole() -> None:
    atoms = molecule("H2O")
    arrays = PySCFLabeller("b3lyp", "def2-svpd", grid=1).label(atoms).arrays
    assert abs(arrays["charges"].sum()) < 1e-10
    fitted = arrays["charges"] @ atoms.positions
    assert np.linalg.norm(fitted - arrays["dipole"]) / DEBYE < 0.05
    assert np.linalg.norm(arrays["dipole"]) / DEBYE > 1.8  # or there is nothing to reproduce
    exact = chelpg_charges(atoms, arrays["esp_points"], arrays["esp"], 0.0, arrays["dipole"])
    np.testing.assert_allclose(exact @ atoms.positions, arrays["dipole"], atol=1e-10)
    assert abs(exact.sum()) < 1e-10

    # least squares: no other charges with the same sum come nearer to the potential
    def misfit(q: np.ndarray) -> float:
        model = potential_of_charges(atoms.positions, q, arrays["esp_points"])
        return float(((model - arrays["esp"]) ** 2).mean())

    best = misfit(arrays["charges"])
    assert best < misfit(exact)
    for step in ([1e-3, -1e-3, 0], [0, 1e-3, -1e-3]):
        assert best < misfit(arrays["charges"] + step)


def test_chelpg_finds_the_charges_that_made_a_potential() -> None:
    atoms = molecule("CH3OH")
    points = chelpg_points(atoms)
    distance = np.linalg.norm(points[:, None] - atoms.positions, axis=2)
    assert distance.min(1).max() <= 2.8
    assert (distance[:, atoms.numbers == 8] > 1.7).all()
    assert (distance[:, atoms.numbers == 1] > 1.45).all()
    charges = np.random.default_rng(0).normal(size=len(atoms))
    potential = potential_of_charges(atoms.positions, charges, points)
    found = chelpg_charges(atoms, points, potential, float(charges.sum()))
    np.testing.assert_allclose(found, charges, atol=1e-9)
    with pytest.raises(StructureError, match="dipole"):
        chelpg_charges(Atoms("Li"), np.eye(3) * 2, np.ones(3), 1.0, np.array([0, 0, 9.0]))


def test_the_potential_of_an_ion_is_that_of_its_charge_far_away() -> None:
    pytest.importorskip("pyscf")
    ion = Atoms("Li", [[0.1, 0.2, 0.3]], info={"charge": 1})
    label = PySCFLabeller("hf", "sto-3g").label(ion)
    distance = np.linalg.norm(label.arrays["esp_points"] - ion.positions[0], axis=1)
    np.testing.assert_allclose(label.arrays["esp"], 14.399645 / distance, rtol=1e-3)
    assert label.arrays["charges"] == pytest.approx([1.0], abs=1e-10)


def test_every_kind_of_charge_adds_up(water: Label) -> None:
    for kind in ("charges", "charges_mulliken", "charges_iao"):
        assert water.arrays[kind].sum() == pytest.approx(0.0, abs=1e-8)
        assert water.arrays[kind][0] < -0.3


def test_every_label_says_how_it_was_made(water: Label) -> None:
    import pyscf

    expected = {
        "functional": "hf",
        "basis": "6-31g*",
        "method": "HF/6-31g*",
        "method_dispersion": "none",
        "code_version": pyscf.__version__,
        "converged": True,
        "density_fitting": True,
        "threads": 1,
        "charges_kind": "chelpg",
        "device": "cpu",
    }
    assert expected.items() <= water.info.items()
    assert water.info["wall_time_s"] > 0
    assert water.info["scf_strategies"] == ["diis"]
    assert labelled_atoms(bent_water(), water).info["method"] == "HF/6-31g*"


def test_scf_failures_are_recorded_with_what_was_tried() -> None:
    label = PySCFLabeller("hf", "sto-3g", max_cycles=1, tolerance=1e-13).label(bent_water())
    assert not label.ok
    assert label.arrays == {}
    assert "converged" in label.info["error"]
    assert len(label.info["scf_strategies"]) == 3
    assert label.info["functional"] == "hf"


def test_all_strategies_go_to_the_same_state() -> None:
    from pyscf import gto, scf

    atoms = bent_water()
    molecule = gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="sto-3g")
    energies, forces = [], []
    for _, prepare in strategies():
        mean_field = prepare(scf.RHF(molecule))
        mean_field.verbose, mean_field.conv_tol = 0, 1e-11
        energies.append(mean_field.kernel())
        forces.append(mean_field.nuc_grad_method().kernel())
    assert len(energies) == 3
    assert np.ptp(energies) < 1e-8
    assert np.ptp(forces, axis=0).max() < 1e-6


def test_density_fitting_changes_little() -> None:
    fitted, exact = (
        PySCFLabeller("hf", "sto-3g", charges="mulliken", density_fitting=choice)
        .label(bent_water())
        .arrays
        for choice in (True, False)
    )
    difference = abs(float(fitted["energy"] - exact["energy"]))
    assert 1e-8 < difference < 1e-2
    np.testing.assert_allclose(fitted["forces"], exact["forces"], atol=5e-3)


def test_settings_and_structures_that_make_no_sense_are_refused() -> None:
    for wrong in (
        {"functional": "b3lip"},
        {"functional": "b3lyp-d3bj"},
        {"charges": "resp"},
        {"dispersion": "d4"},
        {"grid": 12},
    ):
        with pytest.raises(ConfigError, match="expected"):
            PySCFLabeller(**wrong)
    with pytest.raises(StructureError, match="basis"):
        PySCFLabeller("hf", "no-such-basis").check(bent_water())
    with pytest.raises(StructureError, match="even number of electrons"):
        PySCFLabeller("hf", "sto-3g").check(molecule("OH"))
    with pytest.raises(StructureError, match="periodic"):
        PySCFLabeller("hf", "sto-3g").check(bulk("LiF", "rocksalt", 4.0))


def test_tight_binding_forces_charges_and_dipole() -> None:
    pytest.importorskip("tblite", reason="tblite is an extra (labels)")
    label = check_forces(XTBLabeller(), bent_water(), 2e-4)
    assert label.arrays["charges"].sum() == pytest.approx(0.0, abs=1e-6)
    assert 2.0 < np.linalg.norm(label.arrays["dipole"]) / DEBYE < 2.6  # GFN2 water, 2.3
    assert label.info["method_dispersion"] == "d4"
    failure = XTBLabeller(max_cycles=1).label(bent_water())
    assert not failure.ok
    assert len(failure.info["scf_strategies"]) == 2


def test_tight_binding_stress_is_the_strain_derivative() -> None:
    pytest.importorskip("tblite", reason="tblite is an extra (labels)")
    crystal = bulk("LiF", "rocksalt", 4.1, cubic=True)
    crystal.rattle(0.03, seed=0)
    labeller, h = XTBLabeller(accuracy=0.01), 1e-3
    stress = labeller.label(crystal).arrays["stress"]
    energies = []
    for sign in (1, -1):
        strained = crystal.copy()
        strain = np.eye(3)
        strain[2, 2] += sign * h
        strained.set_cell(crystal.cell.array @ strain, scale_atoms=True)
        energies.append(float(labeller.label(strained).arrays["energy"]))
    expected = (energies[0] - energies[1]) / (2 * h) / crystal.get_volume()
    assert stress[2, 2] == pytest.approx(expected, abs=2e-5)
