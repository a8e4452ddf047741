"""Labels under the names that other programs give them: taken, or named, never dropped silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from conftest import salt_box
from hypothesis import given
from hypothesis import strategies as st

from hff_ase.data import labels_of, read_frames
from hff_ase.data.counts import described, label_counts
from hff_ase.data.database import write_database
from hff_ase.data.dataset import DatabaseDataset
from hff_ase.data.synonyms import meaning, with_known_labels
from hff_ase.errors import HFFWarning

RNG = np.random.default_rng(11)
FORCES = RNG.normal(size=(8, 3))
STRESS = np.array([0.01, -0.02, 0.03, 0.004, -0.005, 0.006])  # Voigt, eV/A^3
PREFIXES = ("REF_", "ref_", "dft_", "DFT_", "label_", "target_")


def frame(info: dict[str, Any], arrays: dict[str, Any], **results: Any) -> Atoms:
    atoms = salt_box()
    atoms.info.update(info)
    for name, value in arrays.items():
        atoms.set_array(name, np.asarray(value))
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def through_a_file(folder: Path, atoms: Atoms) -> Atoms:
    write(folder / "frames.extxyz", atoms)
    return read_frames(folder / "frames.extxyz")[0]


@pytest.mark.parametrize(
    "name", ["force", "Forces", "forces_dft", *(p + "forces" for p in PREFIXES)]
)
def test_forces_under_other_names(tmp_path: Path, name: str) -> None:
    got = through_a_file(tmp_path, frame({}, {name: FORCES}, energy=-3.0))
    np.testing.assert_allclose(labels_of([got]).forces, FORCES, atol=1e-7)
    assert got.info["labels_from"] == f"forces: {name}"
    assert labels_of([got]).energy[0] == pytest.approx(-3.0)


@pytest.mark.parametrize(
    "name",
    ["Energy", "total_energy", "free_energy", "TotalEnergy", *(p + "energy" for p in PREFIXES)],
)
def test_energies_under_other_names(tmp_path: Path, name: str) -> None:
    got = through_a_file(tmp_path, frame({name: -7.25}, {}, forces=FORCES))
    assert labels_of([got]).energy[0] == pytest.approx(-7.25)
    np.testing.assert_allclose(labels_of([got]).forces, FORCES, atol=1e-7)


@pytest.mark.parametrize("name", ["virials", "REF_virial", "dft_virials", "REF_stress", "Stress"])
def test_stresses_and_virials_under_other_names(tmp_path: Path, name: str) -> None:
    full = np.array([[0.01, 0.006, -0.005], [0.006, -0.02, 0.004], [-0.005, 0.004, 0.03]])
    value = -full * salt_box().get_volume() if "irial" in name else full
    got = through_a_file(tmp_path, frame({name: value}, {}, energy=-1.0))
    np.testing.assert_allclose(labels_of([got]).stress[0], full, atol=1e-9)
    assert "stress 1 (from " in described([got])


def test_a_database_read_frame_by_frame_gives_the_same(tmp_path: Path) -> None:
    sent = frame({"REF_energy": -2.0, "virials": np.eye(3)}, {"REF_forces": FORCES})
    write_database([sent], tmp_path / "f.db")
    labels = DatabaseDataset(tmp_path / "f.db")[0][1]
    np.testing.assert_allclose(labels.forces, FORCES)
    np.testing.assert_allclose(labels.stress[0], -np.eye(3) / sent.get_volume())
    assert float(labels.energy[0]) == -2.0


def test_what_looks_like_a_label_is_named(tmp_path: Path) -> None:
    atoms = frame({}, {"MACE_forces": FORCES}, energy=-3.0)
    with pytest.warns(HFFWarning, match=r"not used as labels in frames.extxyz: MACE_forces \(1 fr"):
        got = through_a_file(tmp_path, atoms)
    assert label_counts([got]) == {
        "energy": 1, "forces": 0, "stress": 0, "charges": 0, "dipole": 0, "esp": 0,
    }  # fmt: skip
    # with forces of its own there is nothing to miss
    through_a_file(tmp_path, frame({}, {"MACE_forces": FORCES}, energy=-3.0, forces=FORCES))


def test_two_labels_that_differ_are_named(tmp_path: Path) -> None:
    same = frame({"REF_energy": -3.0}, {}, energy=-3.0)
    assert "labels_from" not in through_a_file(tmp_path, same).info
    with pytest.warns(HFFWarning, match=r"differ .*which are used: REF_energy \(1 frames\)"):
        got = through_a_file(tmp_path, frame({"REF_energy": -4.0}, {}, energy=-3.0))
    assert labels_of([got]).energy[0] == pytest.approx(-3.0)


@pytest.mark.parametrize(
    "name",
    ["forces_spread", "stress_spread", "weight_energy", "charges_kind", "initial_charges", "charge",
     "energy_dispersion", "dispersion_energy_ev", "teacher_energies", "species", "molecule", "step",
     "total_charge", "charges_chelpg", "stress_from"],
)  # fmt: skip
def test_what_the_package_itself_writes_is_no_label(name: str) -> None:
    assert not meaning(name)[1]


def test_a_name_with_another_shape_is_no_label() -> None:
    atoms = frame({"force": 3.0}, {"energy_dft": np.ones(8)}, energy=1.0)
    (got,) = with_known_labels([atoms])
    assert "forces" not in got.calc.results
    assert got.get_potential_energy() == 1.0


@given(st.lists(st.sampled_from(["REF", "Ref", "ref", "DFT", "qm", "Label"]), max_size=2))
def test_any_order_and_case_of_words_is_one_name(words: list[str]) -> None:
    for joined in ("_".join([*words, "forces"]), "-".join(["forces", *words])):
        assert meaning(joined) == ("forces", True)
