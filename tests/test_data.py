"""Labelled frames: reading, writing, splitting, checking, stacking."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from conftest import make_potential, salt_box, water

from hff_ase.batch import AtomsBatch
from hff_ase.data import (
    DatabaseDataset,
    MemoryDataset,
    check_frames,
    collate,
    labels_of,
    read_folder,
    read_frames,
    split_at_random,
    split_by_segment,
    to_device,
    write_database,
)
from hff_ase.errors import ConfigError, StructureError
from hff_ase.potential import HybridPotential
from hff_ase.terms.repulsion import ZBL
from hff_ase.training.references import fit_reference_energies

ENERGY = {"H": -13.0, "C": -1000.0, "O": -2000.0}  # eV


def boxes(n: int = 12, seed: int = 0) -> list[Atoms]:
    """Small boxes of three compositions with made-up labels of plausible size."""
    rng, frames = np.random.default_rng(seed), []
    for k in range(n):
        atoms = molecule(["H2O", "CH3OH", "H2CO"][k % 3])
        atoms.set_cell(np.eye(3) * 6.0 + 0.1)
        atoms.pbc = True
        atoms.rattle(0.05, rng=rng)
        charges = rng.normal(size=len(atoms)) * 0.3
        forces = rng.normal(size=(len(atoms), 3))
        energy = sum(ENERGY[s] for s in atoms.get_chemical_symbols()) + 0.02 * rng.normal()
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=energy,
            forces=forces - forces.mean(0),
            stress=rng.normal(size=6) * 1e-3,
            charges=charges - charges.mean(),
        )
        atoms.info["source"] = f"box:{k}"
        frames.append(atoms)
    return frames


def ion() -> Atoms:
    """A charged molecule with dipole and potential."""
    rng, atoms = np.random.default_rng(5), water()
    atoms.info.update(charge=-1.0, weight=2.0, weight_esp=0.5, source="ion:0")
    atoms.info["esp_points"] = rng.normal(size=(7, 3)) * 3.0
    atoms.info["esp"] = rng.normal(size=7)
    atoms.calc = SinglePointCalculator(atoms, energy=-2030.0, dipole=np.array([0.1, 0.2, 0.3]))
    return atoms


def test_reading_xyz_and_xz_keeps_labels_and_names_the_source(tmp_path: Path) -> None:
    frames = boxes(2)
    write(tmp_path / "b.extxyz", frames)
    (tmp_path / "a.extxyz.xz").write_bytes(lzma.compress((tmp_path / "b.extxyz").read_bytes()))
    a, b = read_folder(tmp_path)
    assert [atoms.info["source"] for atoms in a + b] == ["a:0", "a:1", "b:0", "b:1"]
    for got, sent in zip(a, frames, strict=True):
        assert got.get_potential_energy() == pytest.approx(sent.get_potential_energy())
        np.testing.assert_allclose(got.get_charges(), sent.get_charges(), atol=1e-7)
        np.testing.assert_allclose(got.get_stress(), sent.get_stress(), atol=1e-7)


def test_unreadable_frames_name_the_file_and_the_frame(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="got none"):
        read_folder(tmp_path)
    (tmp_path / "x.extxyz.xz").write_bytes(b"no xz at all")
    with pytest.raises(StructureError, match=r"x\.extxyz\.xz"):
        read_frames(tmp_path / "x.extxyz.xz")
    write(tmp_path / "torn.extxyz", boxes(3))
    text = (tmp_path / "torn.extxyz").read_text()
    (tmp_path / "torn.extxyz").write_text(text[: int(0.9 * len(text))])
    with pytest.raises(StructureError, match=r"torn\.extxyz.*frame 2"):
        read_frames(tmp_path / "torn.extxyz")
    with pytest.raises(StructureError, match="no such file"):
        read_frames(tmp_path / "none.db")


def test_a_virial_becomes_a_stress_of_the_other_sign(tmp_path: Path) -> None:
    atoms = boxes(1)[0]
    stress = atoms.get_stress(voigt=False)
    del atoms.calc.results["stress"]
    atoms.info["virial"] = -stress * atoms.get_volume()
    write(tmp_path / "v.extxyz", atoms)
    (got,) = read_frames(tmp_path / "v.extxyz")
    np.testing.assert_allclose(got.get_stress(voigt=False), stress, atol=1e-9)
    assert got.info["stress_from"] == "-virial/V"
    check_frames([got])
    got.calc.results["stress"] = -got.calc.results["stress"]
    with pytest.raises(StructureError, match=r"-virial/V.*frame v:0"):
        check_frames([got])


def test_real_dft_boxes_are_read_and_pass(shared_data: Path) -> None:
    frames = read_frames(shared_data / "ecemc/train.xyz")[:20]
    check_frames(frames)
    labels = labels_of(frames[3:4])
    expected = -frames[3].info["virial"] / frames[3].get_volume()
    np.testing.assert_allclose(labels.stress[0].numpy(), expected, rtol=1e-9)


def test_splits_keep_segments_whole() -> None:
    frames = [Atoms("H2", info={"k": k}) for k in range(14)]
    train, test = split_by_segment(frames, 7, held_out=(1,))
    assert [a.info["k"] for a in test] == list(range(7, 14))
    assert len(train) == 7
    train, test = split_at_random([Atoms("H"), *frames], 0.3, seed=1, segment=2)
    held = sorted(a.info["k"] for a in test)
    assert held[::2] == [k - 1 for k in held[1::2]]
    assert len(test) == 4
    assert len(train[0]) == 1
    assert split_at_random(frames, 0.3, 1, 2)[1] == split_at_random(frames, 0.3, 1, 2)[1]
    with pytest.raises(ConfigError, match="more segments"):
        split_at_random(frames, 0.9, seed=0, segment=7)


def test_labels_are_nan_where_missing_and_weights_one() -> None:
    labels = labels_of([*boxes(2), ion()])
    assert torch.isfinite(labels.energy).all()
    assert torch.isnan(labels.forces[-3:]).all()
    assert torch.isnan(labels.stress[2]).all()  # no cell
    assert torch.isnan(labels.dipole[:2]).all()
    assert labels.dipole[2].tolist() == [0.1, 0.2, 0.3]
    assert labels.weight.tolist() == [1.0, 1.0, 2.0]
    assert labels.weight_of("esp").tolist() == [1.0, 1.0, 1.0]
    assert labels.weight_of("forces").tolist() == [1.0, 1.0, 2.0]
    assert labels.esp_system.tolist() == [2] * 7


def test_collating_frames_is_the_batch_of_all() -> None:
    frames = [boxes(1)[0], ion(), salt_box(), ion()]
    for atoms in frames:
        atoms.set_array("molecule", np.arange(len(atoms)))
    batch, labels = collate([(AtomsBatch.from_atoms(a), labels_of([a])) for a in frames])
    expected, wanted = AtomsBatch.from_atoms(frames), labels_of(frames)
    for name in ("positions", "numbers", "system", "cell", "periodic", "charge", "molecule"):
        assert torch.equal(getattr(batch, name), getattr(expected, name)), name
    assert batch.max_count == expected.max_count
    assert (batch.any_periodic, batch.all_periodic) == (True, False)
    for name in ("energy", "forces", "stress", "charges", "dipole", "weight", "esp", "esp_system"):
        got, want = getattr(labels, name), getattr(wanted, name)
        assert torch.equal(got.nan_to_num(-9.0), want.nan_to_num(-9.0)), name
    assert torch.equal(labels.weight_of("esp"), wanted.weight_of("esp"))
    moved = to_device((batch, labels), "cpu")
    assert torch.equal(moved[0].counts, batch.counts)


@pytest.mark.parametrize("suffix", [".db", ".aselmdb"])
def test_a_database_gives_the_same_frames_as_memory(tmp_path: Path, suffix: str) -> None:
    if suffix == ".aselmdb":
        pytest.importorskip("lmdb")
        pytest.importorskip("ase_db_backends")
    frames = [*boxes(4), ion()]
    frames[0].set_array("molecule", np.zeros(len(frames[0]), dtype=int))
    frames[0].info |= {"method": "PBE/plane waves", "temperature": np.float64(300.0)}
    fixed = HybridPotential({"wall": ZBL(scale=2.0)}, ("H", "C", "O"))
    memory = MemoryDataset.from_atoms(frames, fixed)
    write_database(iter(frames), tmp_path / f"all{suffix}")
    assert [p.name for p in tmp_path.iterdir()] == [f"all{suffix}"]
    disk = DatabaseDataset(tmp_path / f"all{suffix}", fixed)
    assert len(disk) == len(memory)
    assert disk.n_atoms.tolist() == memory.n_atoms.tolist() == [len(a) for a in frames]
    for k in range(len(frames)):
        (batch, labels), (expected, wanted) = disk[k], memory[k]
        assert torch.equal(batch.positions, expected.positions)
        assert torch.equal(batch.charge, expected.charge)
        for name in ("energy", "forces", "stress", "charges", "dipole", "weight", "esp"):
            got, want = getattr(labels, name), getattr(wanted, name)
            torch.testing.assert_close(got, want, equal_nan=True, rtol=0.0, atol=1e-12)
    assert disk[0][0].molecule is not None
    assert disk.atoms(0).info["method"] == "PBE/plane waves"
    assert disk.source(3) == "all:3"
    assert read_frames(tmp_path / f"all{suffix}")[4].info["source"] == "all:4"
    write_database(frames[3:], tmp_path / f"all{suffix}")  # in place of what is open
    again = DatabaseDataset(tmp_path / f"all{suffix}")
    assert again.n_atoms.tolist() == [len(a) for a in frames[3:]]
    np.testing.assert_allclose(again.atoms(0).positions, frames[3].positions)


def test_a_database_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    write_database(boxes(2), path)
    before = path.read_bytes()

    def failing() -> object:
        yield boxes(1)[0]
        raise RuntimeError("the source of frames broke")

    with pytest.raises(RuntimeError, match="broke"):
        write_database(failing(), path)  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.db"]
    with pytest.raises(ConfigError, match=r"\.db or \.aselmdb"):
        write_database(boxes(1), tmp_path / "x.sqlite")


def test_a_database_of_others_is_read_too(tmp_path: Path) -> None:
    from ase.db import connect

    with connect(tmp_path / "own.db") as database:
        for atoms in boxes(3):
            database.write(atoms, method="HF")
    dataset = DatabaseDataset(tmp_path / "own.db")
    assert dataset.n_atoms.tolist() == [3, 6, 4]
    assert dataset.atoms(1).info["method"] == "HF"


def test_fixed_terms_are_taken_off_the_labels() -> None:
    total = make_potential()
    parts = {
        name: term for name, term in total.named_terms() if name in ("repulsion", "dispersion")
    }
    fixed = HybridPotential(parts, total.elements)
    atoms = salt_box()
    result = total(AtomsBatch.from_atoms(atoms))
    stress = result.stress[0].numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    atoms.calc = SinglePointCalculator(
        atoms, energy=float(result.energy), forces=result.forces.numpy(), stress=stress
    )
    _, labels = MemoryDataset.from_atoms([atoms], fixed)[0]
    rest = total.subset(["short_range", "charges", "coulomb"])(AtomsBatch.from_atoms(atoms))
    torch.testing.assert_close(labels.energy, rest.energy, rtol=0.0, atol=1e-6)
    torch.testing.assert_close(labels.forces, rest.forces, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(labels.stress, rest.stress, rtol=0.0, atol=1e-6)


def test_reference_energies_recover_element_energies() -> None:
    dataset = MemoryDataset.from_atoms(boxes(30))
    got = fit_reference_energies(dataset, (1, 6, 8)).numpy()
    # water, methanol and formaldehyde are independent enough to tell all three elements
    np.testing.assert_allclose(got, [-13.0, -1000.0, -2000.0], atol=0.1)
    assert fit_reference_energies(dataset, (1, 6, 8, 9))[3] == 0.0  # no fluorine anywhere


def test_isolated_atoms_fix_their_reference_energies() -> None:
    frames = boxes(6)[::3]  # water only: hydrogen and oxygen cannot be told apart
    hydrogen = Atoms("H")
    hydrogen.calc = SinglePointCalculator(hydrogen, energy=-12.5)
    got = fit_reference_energies(MemoryDataset.from_atoms([*frames, hydrogen]), (1, 8)).numpy()
    assert got[0] == -12.5
    mean = np.mean([a.get_potential_energy() for a in frames])
    assert got[1] == pytest.approx(mean + 25.0)
    oxygen = Atoms("O")
    oxygen.calc = SinglePointCalculator(oxygen, energy=-1990.0)
    frames = [*frames, hydrogen, oxygen]
    got = fit_reference_energies(MemoryDataset.from_atoms(frames), (1, 8)).numpy()
    assert got.tolist() == [-12.5, -1990.0]


def _scale(name: str, factor: float) -> Callable[[Atoms], None]:
    def apply(atoms: Atoms) -> None:
        atoms.calc.results[name] = atoms.calc.results[name] * factor

    return apply


def _nan_force(atoms: Atoms) -> None:
    atoms.calc.results["forces"][1, 2] = np.nan


def _infinite_energy(atoms: Atoms) -> None:
    atoms.calc.results["energy"] = np.inf


def _short_forces(atoms: Atoms) -> None:
    atoms.calc.results["forces"] = atoms.calc.results["forces"][:-1]


def _overlap(atoms: Atoms) -> None:
    results = atoms.calc.results
    atoms.positions[1] = atoms.positions[0] + [0.05, 0.0, 0.0] + atoms.cell[0]
    atoms.calc = SinglePointCalculator(atoms, **results)


def _lost_position(atoms: Atoms) -> None:
    atoms.positions[0, 0] = np.nan


def _lost_charge(atoms: Atoms) -> None:
    atoms.calc.results["charges"] = atoms.calc.results["charges"] - 1.0 / len(atoms)


FAULTS = {
    "nan in forces": (_nan_force, "finite forces, got nan for atom 1"),
    "infinite energy": (_infinite_energy, "finite energy, got inf"),
    "shape": (_short_forces, r"forces of shape \(3, 3\), got \(2, 3\)"),
    "overlap across the boundary": (_overlap, "0.05 A between atoms 0 and 1"),
    "nan in positions": (_lost_position, "finite positions"),
    "charges": (_lost_charge, r"sum to atoms\.info\['charge'\] = 0 e, got -1\.000"),
    "meV": (_scale("energy", 1000.0), r"about 1000 times .* \(meV instead of eV\?\)"),
    "kcal/mol": (_scale("energy", 23.0605), r"about 23\.06 times .*kcal/mol"),
    "Hartree": (_scale("energy", 1 / 27.2114), r"\(Hartree instead of eV\?\)"),
    "keV": (_scale("energy", 1e-3), r"about 0\.001 times"),
    "sign": (_scale("energy", -1.0), "opposite sign"),
    "another method": (_scale("energy", 1.05), r"about 1\.05 times"),
    "forces in meV": (_scale("forces", 1000.0), r"forces of the size .*times as much"),
    "stress in kbar": (_scale("stress", 1602.2), r"stress of the size"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_one_frame_is_named(fault: str) -> None:
    frames = boxes(12)
    check_frames(frames)
    spoil, message = FAULTS[fault]
    spoil(frames[6])
    with pytest.raises(StructureError, match=rf"{message}.*box:6"):
        check_frames(frames)


def test_isolated_atoms_of_another_unit_are_caught() -> None:
    frames = boxes(6)[::3]
    for symbol, energy in (("H", -12.0), ("O", -1995.0)):
        alone = Atoms(symbol, info={"source": f"atom_{symbol}:0"})
        alone.calc = SinglePointCalculator(alone, energy=energy)
        frames.append(alone)
    check_frames(frames)
    frames[-1].calc.results["energy"] /= 27.2114
    with pytest.raises(StructureError, match=r"isolated atoms .* O atom_O:0"):
        check_frames(frames)


def test_frames_without_labels_or_with_whole_labels_missing() -> None:
    frames = boxes(4)
    frames[0].calc.results["forces"] = np.full((3, 3), np.nan)
    check_frames(frames)  # NaN as a whole: not there
    with pytest.raises(StructureError, match="got none; first frame"):
        check_frames([water()])
    with pytest.raises(StructureError, match="expected labelled frames"):
        check_frames([])


def test_labels_that_cannot_be_used_name_the_frame() -> None:
    atoms = ion()
    atoms.info["weight"] = -1.0
    with pytest.raises(StructureError, match=r"weight of at least 0.*ion:0"):
        labels_of([atoms])
    atoms = ion()
    atoms.info["esp_points"] = atoms.info["esp_points"][:3]
    with pytest.raises(StructureError, match=r"esp_points of shape \(7, 3\).*ion:0"):
        labels_of([atoms])
    box = boxes(1)[0]
    box.info |= {"esp": [0.0], "esp_points": [[0.0, 0.0, 0.0]]}
    with pytest.raises(StructureError, match=r"periodic frame box:0"):
        labels_of([box])
