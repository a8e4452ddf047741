"""HybridFF as ASE users expect a calculator to be."""

from __future__ import annotations

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.mixing import LinearCombinationCalculator, SumCalculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.io import Trajectory, read, write
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ase.vibrations import Vibrations
from conftest import make_potential, salt_box, water

from hff_ase import HybridFF
from hff_ase.calculators import results_to_atoms
from hff_ase.checkpoint import save_model
from hff_ase.errors import ConfigError, HFFWarning, StructureError
from hff_ase.potential import HybridPotential


def evaluations(calculator: HybridFF) -> list[int]:
    """A list that grows with every evaluation."""
    seen: list[int] = []
    _, first = calculator.potential.named_terms()[0]
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].n_atoms))
    return seen


def same(a: dict, b: dict, tolerance: float = 0.0) -> None:
    """Two results dicts agree."""
    assert a.keys() == b.keys()
    for name in a:
        if isinstance(a[name], dict):
            same(a[name], b[name], tolerance)
        else:
            np.testing.assert_allclose(a[name], b[name], rtol=0, atol=tolerance, err_msg=name)


# --- results -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [water, salt_box])
def test_results_agree_with_each_other(small_calculator, make):
    atoms = make()
    atoms.info["charge"] = 1.0
    atoms.calc = small_calculator
    energy = atoms.get_potential_energy()
    results = small_calculator.results
    assert isinstance(energy, float)
    assert results["free_energy"] == energy
    assert atoms.get_potential_energy(force_consistent=True) == energy
    assert results["energies"].sum() == pytest.approx(energy, abs=1e-12)
    assert sum(small_calculator.energy_terms.values()) == pytest.approx(energy, abs=1e-12)
    assert list(small_calculator.energy_terms) == list(small_calculator.potential.terms)
    assert results["charges"].sum() == pytest.approx(1.0, abs=1e-12)
    assert results["forces"].shape == (len(atoms), 3)
    # moved by lattice vectors the atoms stay as they are given: the dipole is theirs, not wrapped
    np.testing.assert_allclose(atoms.get_dipole_moment(), results["charges"] @ atoms.positions)
    assert set(results) <= set(HybridFF.implemented_properties)


def test_dipole_is_of_the_positions_as_given(small_calculator):
    atoms = salt_box()
    atoms.calc = small_calculator
    before, charges = atoms.get_dipole_moment(), atoms.get_charges()
    atoms.positions[0] += 2 * atoms.cell[0]
    change = atoms.get_dipole_moment() - before
    np.testing.assert_allclose(change, 2 * charges[0] * atoms.cell[0], atol=1e-9)


def test_derivatives_are_those_of_the_energy(small_calculator):
    atoms = salt_box()
    atoms.calc = small_calculator
    forces = calculate_numerical_forces(atoms, eps=1e-4)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-5)
    stress = calculate_numerical_stress(atoms, eps=1e-5)
    np.testing.assert_allclose(atoms.get_stress(), stress, atol=1e-6)


def test_stress_belongs_to_boxes(small_calculator):
    box, alone = salt_box(), water()
    box.calc = alone.calc = small_calculator
    assert box.get_stress().shape == (6,)
    assert "stress" in small_calculator.results
    with pytest.raises(PropertyNotImplementedError, match="expected a periodic structure"):
        alone.get_stress()
    alone.get_potential_energy()
    assert "stress" not in small_calculator.results
    assert small_calculator.get_property("stress", alone, allow_calculation=False) is None
    assert small_calculator.implemented_properties is HybridFF.implemented_properties


def test_charges_of_a_model_without_them():
    terms = make_potential().terms
    calculator = HybridFF(HybridPotential({"repulsion": terms["repulsion"]}))
    atoms = water()
    atoms.calc = calculator
    atoms.get_forces()
    for ask in (atoms.get_charges, atoms.get_dipole_moment):
        with pytest.raises(PropertyNotImplementedError, match="expected a term that gives charges"):
            ask()
    assert not {"charges", "dipole"} & set(calculator.implemented_properties)
    assert {"charges", "dipole"} <= set(HybridFF.implemented_properties)


# --- caching -------------------------------------------------------------------------------


def test_nothing_is_computed_twice(small_calculator):
    atoms = salt_box()
    atoms.calc = small_calculator
    seen = evaluations(small_calculator)
    atoms.get_potential_energy()
    for ask in (atoms.get_forces, atoms.get_stress, atoms.get_charges, atoms.get_dipole_moment):
        ask()
    same_atoms = atoms.copy()
    same_atoms.calc = small_calculator
    same_atoms.get_potential_energy()
    atoms.set_initial_charges(np.ones(8))  # not what the model computes with
    atoms.set_initial_magnetic_moments(np.ones(8))
    atoms.info["note"] = "not looked at"
    atoms.get_potential_energy()
    assert len(seen) == 1


def charge(atoms: Atoms) -> None:
    atoms.info["charge"] = 1


def move(atoms: Atoms) -> None:
    atoms.positions[3, 1] += 0.01


def stretch(atoms: Atoms) -> None:
    atoms.set_cell(atoms.cell * 1.01)


def swap(atoms: Atoms) -> None:
    atoms.numbers[[0, 1]] = atoms.numbers[[1, 0]]


def unwrap(atoms: Atoms) -> None:
    atoms.pbc = False


@pytest.mark.parametrize("change", [charge, move, stretch, swap, unwrap])
def test_every_change_is_seen(small_calculator, change):
    atoms = salt_box()
    atoms.calc = small_calculator
    before = atoms.get_potential_energy()
    seen = evaluations(small_calculator)
    change(atoms)
    assert small_calculator.check_state(atoms)
    after = atoms.get_potential_energy()
    assert len(seen) == 1
    assert after != before
    fresh = HybridFF(small_calculator.potential, dtype="float64")
    # wave vectors are kept for small changes of the cell: equal to the accuracy of the sum
    assert after == pytest.approx(fresh.get_property("energy", atoms), abs=1e-6)


def test_charge_of_zero_is_no_charge(small_calculator):
    atoms = water()
    atoms.calc = small_calculator
    atoms.get_potential_energy()
    seen = evaluations(small_calculator)
    atoms.info["charge"] = 0
    atoms.get_potential_energy()
    assert seen == []


def test_input_is_left_as_it_is(small_calculator):
    atoms = salt_box()
    atoms.positions[0] -= 3 * atoms.cell[1]  # outside of the box
    atoms.info["charge"] = -1
    before = atoms.copy()
    atoms.calc = small_calculator
    forces = atoms.get_forces()
    forces[:] = 0.0  # a copy: what is cached stays
    assert atoms == before
    assert atoms.info == before.info
    assert atoms.arrays.keys() == before.arrays.keys()
    assert np.abs(atoms.get_forces()).max() > 0


def test_one_calculator_serves_different_structures(small_calculator):
    structures = [water(), salt_box(), water(), molecule("CH3OH"), salt_box(1), water() * (1, 1, 1)]
    for atoms in structures:
        atoms.calc = small_calculator
        energy = atoms.get_potential_energy()
        fresh = HybridFF(small_calculator.potential, dtype="float64")
        assert energy == pytest.approx(fresh.get_property("energy", atoms), abs=1e-10)


def test_failure_leaves_a_working_calculator(small_calculator):
    good, unknown, close = salt_box(), water(), salt_box()
    unknown.numbers[0] = 11
    close.positions[1] = close.positions[0] + 0.01
    expected = small_calculator.get_property("energy", good)
    for bad, says in ((unknown, "structure holds Na"), (close, "at least 0.2 A apart")):
        for _ in range(2):  # the second time must not find it half done
            with pytest.raises(StructureError, match=says):
                small_calculator.get_property("energy", bad)
        assert small_calculator.results == {}
        assert small_calculator.get_property("energy", good) == pytest.approx(expected, abs=1e-10)


# --- many at once --------------------------------------------------------------------------


def test_batch_gives_what_each_gives_alone(small_calculator):
    charged = water()
    charged.info["charge"] = -1.0
    structures = [salt_box(), water(), charged, Atoms("Li"), salt_box(3), molecule("CH3OH")]
    together = small_calculator.evaluate(structures)
    assert len(together) == len(structures)
    for atoms, results in zip(structures, together, strict=True):
        (alone,) = small_calculator.evaluate([atoms])
        same(results, alone, 1e-10)
        atoms.calc = small_calculator
        atoms.get_potential_energy()
        here = small_calculator.results | {"energy_terms": small_calculator.energy_terms}
        same(results, here, 1e-10)
        assert ("stress" in results) == bool(atoms.pbc.all())
    assert [len(r["forces"]) for r in together] == [len(a) for a in structures]


def test_batch_names_the_structure_at_fault(small_calculator):
    broken = water()
    broken.positions[1] = np.nan
    with pytest.raises(StructureError, match=r"atom 1 \(H\) \(structure 1\)"):
        small_calculator.evaluate([water(), broken])
    broken = water()
    broken.positions[2] = broken.positions[1]
    with pytest.raises(StructureError, match=r"atoms 1 and 2 of structure 2"):
        small_calculator.evaluate([water(), water(), broken])


# --- models and options --------------------------------------------------------------------


def test_terms_can_be_left_out(small_model_path):
    with pytest.warns(HFFWarning, match="small: left out dispersion, which the model was trained"):
        less = HybridFF.load(small_model_path, dtype="float64", without=["dispersion"])
    whole = HybridFF.load(small_model_path, dtype="float64")
    a, b = whole.evaluate([salt_box()])[0], less.evaluate([salt_box()])[0]
    assert "dispersion" not in b["energy_terms"]
    assert b["energy"] == pytest.approx(a["energy"] - a["energy_terms"]["dispersion"], abs=1e-10)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"without": ["coulom"]}, "expected terms to leave out among .*'coulomb'.*, got 'coulom'"),
        ({"without": "nothing"}, "got 'nothing'"),
        ({"dtype": "float16"}, "expected dtype 'float32' or 'float64', got 'float16'"),
        ({"dtype": np.float32}, "expected dtype"),
        ({"device": "gpu"}, "expected device 'cpu' or 'cuda', got 'gpu'"),
        ({"device": "meta"}, "expected device 'cpu' or 'cuda', got 'meta'"),
        ({"device": 1.5}, "expected device 'cpu' or 'cuda', got 1.5"),
        ({"device": "cuda:99"}, "expected a CUDA device"),
        ({"skin": -1.0}, "expected a skin of at least 0 Angstrom, got -1.0"),
        ({"skin": float("nan")}, "expected a skin"),
        ({"skin": "1"}, "expected a skin"),
    ],
)
def test_bad_options(small_model_path, options, says):
    with pytest.raises(ConfigError, match=says) as caught:
        HybridFF.load(small_model_path, **options)
    assert "\n" not in str(caught.value)


def test_a_term_that_others_need_cannot_be_left_out(small_model_path):
    with (
        pytest.warns(HFFWarning),
        pytest.raises(ConfigError, match=r"'coulomb' .*needs the field 'charges'"),
    ):
        HybridFF.load(small_model_path, without=["charges"])


def test_precisions_agree(small_model_path):
    single, double = (HybridFF.load(small_model_path, dtype=d) for d in ("float32", "float64"))
    a, b = single.evaluate([salt_box()])[0], double.evaluate([salt_box()])[0]
    assert a["energy"] == pytest.approx(b["energy"], abs=1e-4)
    np.testing.assert_allclose(a["forces"], b["forces"], atol=1e-4)
    assert a["forces"].dtype == np.float64
    assert a["energy"] != b["energy"]  # the precision was really another


def test_skin_changes_nothing(small_model_path):
    without, with_skin = (
        HybridFF.load(small_model_path, dtype="float64", skin=s) for s in (0.0, 1.5)
    )
    atoms, rng = salt_box(), np.random.default_rng(3)
    for _ in range(5):
        atoms.positions += rng.normal(0, 0.05, (8, 3))
        energies = [c.get_property("energy", atoms) for c in (without, with_skin)]
        assert energies[0] == pytest.approx(energies[1], abs=1e-10)


def test_save_and_load(small_calculator, tmp_path):
    small_calculator.save(tmp_path / "again.hff", [water()])
    again = HybridFF.load(tmp_path / "again.hff", dtype="float64")
    same(again.evaluate([salt_box()])[0], small_calculator.evaluate([salt_box()])[0])
    assert again.info == small_calculator.info


def test_potential_of_any_elements(tmp_path):
    terms = make_potential().terms
    save_model(
        tmp_path / "wall.hff",
        HybridPotential({"repulsion": terms["repulsion"]}),
        HybridFF(make_potential()).info,
        [water()],
    )
    gold = Atoms("Au2", [[0, 0, 0], [0, 0, 1.5]])
    gold.calc = HybridFF.load(tmp_path / "wall.hff")
    assert gold.get_potential_energy() > 0


# --- together with ASE ---------------------------------------------------------------------


def test_mixing(small_calculator, small_model_path):
    other = HybridFF.load(small_model_path, dtype="float64")
    atoms = salt_box()
    energy = small_calculator.get_property("energy", atoms)
    stress = small_calculator.get_property("stress", atoms)
    atoms.calc = SumCalculator([small_calculator, other])
    assert atoms.get_potential_energy() == pytest.approx(2 * energy, abs=1e-10)
    np.testing.assert_allclose(atoms.get_stress(), 2 * stress, atol=1e-10)
    atoms.calc = LinearCombinationCalculator([small_calculator, other], [1.5, -0.5])
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)
    alone = water()
    alone.calc = SumCalculator([small_calculator, other])
    assert np.isfinite(alone.get_forces()).all()


@pytest.mark.parametrize("optimizer", [BFGS, FIRE])
def test_relaxation(small_calculator, optimizer):
    atoms = salt_box()
    atoms.calc = small_calculator
    before = atoms.get_potential_energy()
    optimizer(atoms, logfile=None).run(fmax=0.5, steps=60)
    assert atoms.get_potential_energy() < before - 1.0


def test_relaxation_of_the_cell(small_calculator):
    atoms = salt_box()
    atoms.calc = small_calculator
    BFGS(atoms, logfile=None).run(steps=20)
    before, volume = atoms.get_potential_energy(), atoms.get_volume()
    FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=0.05, steps=30)
    assert atoms.get_potential_energy() < before
    assert atoms.get_volume() != volume


def test_energy_is_conserved(small_calculator):
    atoms = salt_box()
    atoms.calc = small_calculator
    BFGS(atoms, logfile=None).run(fmax=1.0, steps=100)
    atoms.set_momenta(np.random.default_rng(0).normal(0, 0.3, (8, 3)))
    totals, kinetic = [], []
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    for _ in dynamics.irun(100):
        totals.append(atoms.get_total_energy())
        kinetic.append(atoms.get_kinetic_energy())
    assert np.ptp(kinetic) > 0.05  # energy went to and fro ...
    assert np.ptp(totals) < 0.02 * np.ptp(kinetic)  # ... and was kept


def test_vibrations(small_calculator, tmp_path):
    atoms = water()
    atoms.calc = small_calculator
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=200)
    vibrations = Vibrations(atoms, name=str(tmp_path / "vib"))
    vibrations.run()
    energies = vibrations.get_energies()
    assert len(energies) == 9
    # three translations cost nothing
    assert np.sort(np.abs(energies))[:3].max() < 1e-3


@pytest.mark.parametrize("shared", [True, False])
def test_nudged_elastic_band(small_model_path, shared):
    first, last = water(), water()
    last.positions[1] += [0.3, 0.2, 0.3]
    images = [first, first.copy(), first.copy(), last]
    calculator = HybridFF.load(small_model_path, dtype="float64")
    for image in images:
        image.calc = calculator if shared else copy.deepcopy(calculator)
    band = NEB(images, method="improvedtangent", allow_shared_calculator=shared)
    band.interpolate()
    FIRE(band, logfile=None).run(fmax=0.5, steps=3)
    energies = [image.get_potential_energy() for image in images]
    assert np.isfinite(energies).all()
    list(band.iterimages())


@pytest.mark.parametrize("suffix", ["extxyz", "traj", "db", "json", "xyz", "cif"])
def test_files(small_calculator, tmp_path, suffix):
    atoms = salt_box()
    atoms.info["charge"] = 1
    atoms.calc = small_calculator
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    path = tmp_path / f"box.{suffix}"
    write(path, atoms)
    again = read(path)
    assert len(again) == len(atoms)
    if suffix in ("extxyz", "traj", "xyz"):
        assert again.get_potential_energy() == pytest.approx(energy, abs=1e-7)
        np.testing.assert_allclose(again.get_forces(), forces, atol=1e-7)
        np.testing.assert_allclose(again.get_stress(), stress, atol=1e-7)
        np.testing.assert_allclose(again.get_charges(), atoms.get_charges(), atol=1e-7)
        assert again.info["charge"] == 1
        again.calc = small_calculator
        assert again.get_potential_energy() == pytest.approx(energy, abs=1e-5)


def test_trajectory_of_a_molecule(small_calculator, tmp_path):
    atoms = water()
    atoms.calc = small_calculator
    with Trajectory(tmp_path / "water.traj", "w", atoms) as trajectory:
        for _ in range(2):
            atoms.positions[0, 0] += 0.01
            atoms.get_forces()
            trajectory.write()
    assert len(read(tmp_path / "water.traj", ":")) == 2
    buffer = io.StringIO()
    write(buffer, atoms, format="extxyz")
    assert "energy=" in buffer.getvalue()


def test_results_can_be_frozen(small_calculator):
    atoms = salt_box()
    atoms.calc = small_calculator
    energy = atoms.get_potential_energy()
    assert atoms.get_properties(["energy"])["energy"] == energy
    assert small_calculator.export_properties()["energy"] == energy
    atoms.calc = SinglePointCalculator(atoms, **small_calculator.results)
    assert atoms.get_potential_energy() == energy


def test_structures_are_written_each_with_its_own_results(small_calculator, tmp_path):
    structures = [salt_box(), water(), salt_box()]
    structures[2].rattle(0.05, seed=1)
    results = small_calculator.evaluate(structures)
    write(tmp_path / "all.extxyz", results_to_atoms(structures, results))
    for atoms, found, given in zip(
        read(tmp_path / "all.extxyz", ":"), results, structures, strict=True
    ):
        assert atoms.get_potential_energy() == pytest.approx(found["energy"], abs=1e-7)
        np.testing.assert_allclose(atoms.get_forces(), found["forces"], atol=1e-7)
        assert given.calc is None
    with pytest.raises(ConfigError, match="results of 2 structures, got those of 3"):
        results_to_atoms(structures[:2], results)


# --- what surrounds the calculator ---------------------------------------------------------


@pytest.fixture
def settings_of_torch():
    """Put back what a test changes for the whole process."""
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.mkldnn.matmul.fp32_precision = "none"


@pytest.mark.parametrize("how", ["legacy", "backend", "autocast"])
def test_precision_of_the_program_around_does_not_matter(how, small_model_path, settings_of_torch):
    atoms = salt_box()
    expected = HybridFF.load(small_model_path).evaluate([atoms])[0]
    if how == "legacy":
        torch.set_float32_matmul_precision("medium")
    elif how == "backend":
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
        for kernels in ("auto", "reference"):
            calc = HybridFF.load(small_model_path, kernels=kernels)
            found = calc.evaluate([atoms])[0]
            np.testing.assert_allclose(found["forces"], expected["forces"], atol=1e-4)
            assert found["energy"] == pytest.approx(expected["energy"], abs=1e-5)
    if how == "legacy":
        assert torch.get_float32_matmul_precision() == "medium"
    elif how == "backend":
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"


def test_loading_leaves_the_random_numbers_of_torch_alone(small_model_path):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    HybridFF.load(small_model_path)
    assert torch.equal(torch.rand(4), expected)


def test_a_charge_changed_in_place_is_seen(small_calculator):
    atoms = salt_box()
    atoms.info["charge"] = np.array(0.0)
    atoms.calc = small_calculator
    neutral = atoms.get_potential_energy()
    atoms.info["charge"][...] = 1.0
    charged = atoms.get_potential_energy()
    assert charged != neutral
    other = salt_box()
    other.info["charge"] = 1.0
    assert small_calculator.evaluate([other])[0]["energy"] == pytest.approx(charged, abs=1e-9)


def test_threads_that_share_a_calculator_get_their_own_structures_results(small_calculator):
    structures = [salt_box() for _ in range(8)]
    for k, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=k)
    expected = [found["energy"] for found in small_calculator.evaluate(structures)]
    for atoms in structures:
        atoms.calc = small_calculator

    def energies(atoms: Atoms) -> list[float]:
        found = []
        for _ in range(5):
            found.append(atoms.get_potential_energy())
            atoms.positions += 0.0
        return found

    with ThreadPoolExecutor(4) as pool:
        for found, value in zip(pool.map(energies, structures), expected, strict=True):
            assert found == pytest.approx([value] * 5, abs=1e-9)


# --- copies, pickles, states ---------------------------------------------------------------


def twin(atoms: Atoms, how: str) -> Atoms:
    """A copy of atoms and calculator."""
    if how == "deepcopy":
        return copy.deepcopy(atoms)
    if how == "pickle":
        return pickle.loads(pickle.dumps(atoms))
    other = atoms.copy()
    other.calc = copy.copy(atoms.calc)
    return other


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "copy"])
def test_copies_go_on_alone(small_calculator, how):
    atoms = salt_box()
    atoms.calc = small_calculator
    energy = atoms.get_potential_energy()
    other = twin(atoms, how)
    seen = evaluations(other.calc)
    assert other.get_potential_energy() == energy
    assert seen == []  # results came along
    for each in (atoms, other):
        each.positions[2] += [0.02, 0.01, -0.03]
    np.testing.assert_array_equal(other.get_forces(), atoms.get_forces())
    other.positions[2] += 0.02
    other.get_potential_energy()
    assert atoms.calc.results["energy"] != other.calc.results["energy"]
    water_ = water()
    water_.calc = other.calc
    water_.get_potential_energy()


def test_a_copy_of_atoms_has_no_calculator(small_calculator):
    atoms = water()
    atoms.calc = small_calculator
    assert atoms.copy().calc is None


def test_state_makes_results_equal_to_the_last_bit(small_model_path):
    first, second = (HybridFF.load(small_model_path) for _ in range(2))
    atoms, rng = salt_box(), np.random.default_rng(5)
    first.get_property("forces", atoms)
    atoms.positions += rng.normal(0, 0.05, (8, 3))  # within the skin: the old list is kept
    first.get_property("forces", atoms)
    state = pickle.loads(pickle.dumps(first.get_state()))
    second.set_state(state)
    for _ in range(4):
        atoms.positions += rng.normal(0, 0.1, (8, 3))
        a, b = (c.get_property("forces", atoms) for c in (first, second))
        np.testing.assert_array_equal(a, b)
        assert first.results["energy"] == second.results["energy"]
        np.testing.assert_array_equal(first.results["stress"], second.results["stress"])
    np.testing.assert_array_equal(first.get_state()["positions"], second.get_state()["positions"])


def test_state_is_a_copy(small_calculator):
    atoms = salt_box()
    expected = small_calculator.get_property("energy", atoms)
    state = small_calculator.get_state()
    state["positions"][:] = 0.0
    atoms.positions[0, 0] += 1e-9
    assert small_calculator.get_property("energy", atoms) == pytest.approx(expected, abs=1e-6)


def test_state_of_nothing(small_calculator):
    assert small_calculator.get_state() == {}
    small_calculator.set_state({})
    with pytest.raises(ConfigError, match="expected a state with positions"):
        small_calculator.set_state({"numbers": np.ones(3)})


def test_path_may_be_text(small_model_path):
    assert HybridFF.load(str(small_model_path)).info.name == "small"
    assert HybridFF.load(Path(small_model_path)).info.name == "small"
