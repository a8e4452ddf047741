"""What every command and class does with structures that are read wrongly or cannot be computed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read, write
from conftest import salt_box, water
from toy_md import argon, settings

from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.data.checks import check_frames
from hff_ase.data.frames import read_frames
from hff_ase.dynamics.pimd.input_xml import load_start
from hff_ase.dynamics.start.loading import check_start
from hff_ase.dynamics.start.masses import repartition
from hff_ase.errors import HFFError, StructureError
from hff_ase.labels.clusters import cut_clusters
from hff_ase.labels.molecules import find_molecules
from hff_ase.labels.tight_binding import XTBLabeller
from hff_ase.reading import read_structure, with_own_names
from hff_ase.testing import check_calculator


def _pimd(atoms: Atoms, folder: Path, model: Path) -> None:
    write(folder / "start.extxyz", atoms)
    load_start(str(folder / "start.extxyz"))


def _labels(atoms: Atoms, folder: Path, model: Path) -> None:
    pytest.importorskip("tblite")
    XTBLabeller().check(atoms)


def _label(atoms: Atoms, folder: Path, model: Path) -> None:
    pytest.importorskip("tblite")
    XTBLabeller().label(atoms)


def _pyscf(atoms: Atoms, folder: Path, model: Path) -> None:
    pytest.importorskip("pyscf")
    from hff_ase.labels.quantum import PySCFLabeller

    PySCFLabeller("b3lyp", "def2-svpd").check(atoms)


def _calculator(atoms: Atoms, folder: Path, model: Path) -> None:
    atoms.calc = HybridFF.load(model)
    atoms.get_potential_energy()


# Everything that takes a structure, in one line each.
TAKERS: dict[str, Callable[[Atoms, Path, Path], Any]] = {
    "batch": lambda atoms, folder, model: AtomsBatch.from_atoms(atoms),
    "calculator": _calculator,
    "md": lambda atoms, folder, model: check_start(atoms, settings(str(folder), ["nvt:1ps"])),
    "pimd": _pimd,
    "clusters": lambda atoms, folder, model: cut_clusters(atoms),
    "molecules": lambda atoms, folder, model: find_molecules(atoms),
    "xtb, checked": _labels,
    "xtb, unchecked": _label,
    "pyscf": _pyscf,
    "masses": lambda atoms, folder, model: repartition(atoms, 2.0),
    "training": lambda atoms, folder, model: check_frames([atoms]),
}


def _with_pbc(*pbc: bool) -> Atoms:
    atoms = salt_box()
    atoms.pbc = pbc
    return atoms


def _with_cell(cell: Any) -> Atoms:
    atoms = water()
    atoms.set_cell(cell)
    atoms.pbc = True
    return atoms


REFUSED = {
    "slab": (lambda: _with_pbc(True, True, False), r"all three directions or in none"),
    "wire": (lambda: _with_pbc(False, False, True), r"all three directions or in none"),
    "no cell": (lambda: _with_cell(np.zeros((3, 3))), "a cell with a volume|molecule without"),
    "a zero row": (lambda: _with_cell([8, 8, 0]), "a cell with a volume|molecule without"),
    "left-handed": (
        lambda: _with_cell(np.eye(3)[[1, 0, 2]] * 9),
        "right-handed cell|molecule without",
    ),
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_energy_is_refused_everywhere_in_words(
    what: str, taker: str, tmp_path: Path, small_model_path: Path
) -> None:
    make, message = REFUSED[what]
    if taker == "pyscf":
        message = f"{message}|molecule without a cell"
    with pytest.raises(HFFError, match=message):
        TAKERS[taker](make(), tmp_path, small_model_path)


def test_constraints_are_refused_alike(tmp_path: Path) -> None:
    atoms = salt_box()
    atoms.set_constraint(FixAtoms([0]))
    write(tmp_path / "fixed.traj", atoms)
    for take in (TAKERS["md"], TAKERS["pimd"]):
        given = read(tmp_path / "fixed.traj")
        with pytest.raises(StructureError, match="without constraints, got FixAtoms"):
            take(given, tmp_path, tmp_path)


def test_a_frame_with_a_virial_but_no_cell(tmp_path: Path) -> None:
    header = 'Properties=species:S:1:pos:R:3 virial="1 0 0 0 1 0 0 0 1" pbc="T T T"'
    (tmp_path / "v.extxyz").write_text(f"1\n{header}\nAr 0.0 0.0 0.0\n")
    with pytest.raises(StructureError, match=r"a cell with a volume.*v:0"):
        read_frames(tmp_path / "v.extxyz")


@pytest.mark.parametrize("column", ["mass", "Masses", "masses", "MASS"])
def test_masses_are_read_under_any_name(tmp_path: Path, column: str) -> None:
    text = f'2\nProperties=species:S:1:pos:R:3:{column}:R:1 pbc="F F F"\n'
    (tmp_path / "hd.xyz").write_text(text + "H 0 0 0 2.014\nH 0 0 0.74 1.008\n")
    atoms = read_structure(tmp_path / "hd.xyz")
    np.testing.assert_allclose(atoms.get_masses(), [2.014, 1.008])
    np.testing.assert_allclose(load_start(str(tmp_path / "hd.xyz")).get_masses(), [2.014, 1.008])
    again = read_frames(tmp_path / "hd.xyz")[0]
    np.testing.assert_allclose(again.get_masses(), [2.014, 1.008])


def test_names_that_contradict_each_other_and_masses_that_are_none() -> None:
    atoms = water()
    atoms.arrays["mass"] = np.array([16.0, 1.0, -1.0])
    with pytest.raises(StructureError, match="positive masses in amu as mass"):
        with_own_names(atoms)
    atoms.arrays["mass"] = np.array([16.0, 2.0, 2.0])
    atoms.set_masses([16.0, 1.0, 1.0])
    with pytest.raises(StructureError, match="one set of masses"):
        with_own_names(atoms)
    ion = water()
    ion.info |= {"charge": 0, "total_charge": 1}
    with pytest.raises(StructureError, match="one total charge, got charge 0 and total_charge 1"):
        with_own_names(ion)


def test_the_total_charge_is_read_under_any_name() -> None:
    ion = Atoms("Li", info={"total_charge": 1})
    named = with_own_names(ion)
    assert float(AtomsBatch.from_atoms(named).charge[0]) == 1.0
    assert ion.info == {"total_charge": 1}  # what was given stays
    assert with_own_names(argon()) is not None


def test_files_that_hold_no_structure(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="does not exist"):
        read_structure(tmp_path / "none.xyz")
    (tmp_path / "bad.xyz").write_text("what\n")
    with pytest.raises(StructureError, match="cannot read a structure"):
        read_structure(tmp_path / "bad.xyz")
    with pytest.raises(StructureError, match=r"got the folder .* \(in it: bad.xyz\)"):
        read_structure(tmp_path)
    (tmp_path / "checkpoint.npz").touch()
    with pytest.raises(StructureError, match="continue it with --resume"):
        read_structure(tmp_path)


def test_structures_that_share_a_calculator_are_written_with_their_own_results(
    tmp_path: Path, small_model_path: Path
) -> None:
    """The way that docs/hosts.md shows; ASE itself writes the last energy into every frame."""
    calc = HybridFF.load(small_model_path, dtype="float64")
    frames = [salt_box(seed) for seed in range(3)]
    expected = []
    for atoms in frames:
        atoms.calc = calc
        expected.append(atoms.get_potential_energy())
    for atoms, results in zip(frames, calc.evaluate(frames), strict=True):
        kept = {name: results[name] for name in ("energy", "forces", "stress") if name in results}
        atoms.calc = SinglePointCalculator(atoms, **kept)
    write(tmp_path / "evaluated.extxyz", frames)
    found = [atoms.get_potential_energy() for atoms in read(tmp_path / "evaluated.extxyz", ":")]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert len(set(found)) == 3


def test_a_bare_cut_is_said_of_the_models_that_have_one() -> None:
    from typer.testing import CliRunner

    from hff_ase.cli import app

    text = CliRunner().invoke(app, ["models"]).output
    parts = {part.split("\n")[0]: part for part in re.split(r"\n(?=\S)", text)}
    for name in ("electrolyte", "electrolyte-e3"):
        assert "misses -dE/dV by about 25 bar" in parts[name]
    assert "note" not in parts["ecemc-dft"]


def test_where_a_stress_is_no_derivative_a_bare_cut_is_named() -> None:
    class Wrong(HybridFF):
        def calculate(self, *args: Any, **options: Any) -> None:
            super().calculate(*args, **options)
            if "stress" in self.results:
                self.results["stress"] = 1.2 * self.results["stress"]

    calc = Wrong.load("electrolyte", dtype="float64")
    with pytest.raises(AssertionError, match=r"against its stress.*dispersion has a bare cut"):
        check_calculator(calc, [salt_box()], derivative_tolerance=1e-2, step=1e-3)
