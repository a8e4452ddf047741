"""What structures say of their electrons, and settings around us: taken, refused or said."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.db import connect
from ase.io import read, write
from conftest import make_potential, salt_box, water

from hff_ase import HybridFF, backends
from hff_ase.calculators.committee import Committee
from hff_ase.checkpoint import load_model, save_model
from hff_ase.domain import Domain, KnownMolecule
from hff_ase.dynamics.start.domains import check_domains
from hff_ase.errors import ConfigError, HFFWarning, OutsideDomainError, StructureError
from hff_ase.stated import charge_doubt, charge_of_molecules, other_doubts
from hff_ase.structures import total_charge
from hff_ase.topology import perceive


def solvated_lithium() -> Atoms:
    """Li+ with two waters, its charge stated."""
    near, far = water(), water()
    near.translate([2.5, 0.0, 0.0])
    far.translate([-2.5, 0.0, 0.0])
    cluster = Atoms("Li", [[0.0, 0.0, 0.0]]) + near + far
    cluster.info["charge"] = 1
    return cluster


def fluorophosphate() -> Atoms:
    """PF6-, octahedral."""
    corners = 1.6 * np.vstack([np.eye(3), -np.eye(3)])
    return Atoms("PF6", [[0.0, 0.0, 0.0], *corners.tolist()])


# --- charges ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("atoms", "charge"),
    [
        (solvated_lithium(), 1),
        (fluorophosphate(), -1),
        (molecule("CH3OH"), 0),
        (molecule("NH3"), 0),
        (molecule("OH"), None),  # an ion or a radical
        (Atoms("F"), None),
        (Atoms("Mn"), None),
    ],
    ids=lambda value: value.get_chemical_formula() if isinstance(value, Atoms) else str(value),
)
def test_charges_of_molecules(atoms: Atoms, charge: int | None) -> None:
    assert charge_of_molecules(perceive(atoms)) == charge


@pytest.mark.parametrize("name", ["lost.db", "lost.cif", "lost.pdb", "lost.xyz"])
def test_a_charge_that_a_file_has_lost_is_said(tmp_path: Path, name: str) -> None:
    cluster = solvated_lithium()
    cluster.center(vacuum=5.0)
    assert charge_doubt(cluster) is None
    if name.endswith(".db"):
        with connect(tmp_path / name) as database:
            database.write(cluster)
        lost = connect(tmp_path / name).get_atoms(1)
    else:
        write(tmp_path / name, cluster, format="xyz" if name.endswith(".xyz") else None)
        lost = read(tmp_path / name)
    assert total_charge(lost) == 0.0
    assert "expected the total charge of the molecules, 1 e, got none" in str(charge_doubt(lost))


def test_a_piece_of_a_box_keeps_the_charge_of_the_whole_which_is_said_once() -> None:
    box = Atoms("Li", [[0.0, 0.0, 0.0]], cell=[14.0] * 3, pbc=True)
    box += fluorophosphate()
    box.positions[1:] += 6.0
    box.info["charge"] = 0
    calc = HybridFF(make_potential())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calc.domain_watch.look([box])
    piece = box[1:]
    with pytest.warns(HFFWarning, match=r"the molecules, -1 e, got 0 e .*charge=-1"):
        calc.domain_watch.look([piece])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calc.domain_watch.look([piece])
        piece.info["charge"] = -1
        calc.domain_watch.look([piece])


def test_a_stated_charge_is_believed_unless_the_molecules_are_those_of_a_domain() -> None:
    cation, lithium = water(), Atoms("Li")
    cation.info["charge"] = 1
    assert charge_doubt(cation) is None
    here, ion = (
        KnownMolecule("", perceive(a).graph(0), c) for a, c in ((water(), 0), (lithium, 1))
    )
    assert charge_doubt(cation, Domain((here,))) is None  # one that knows no charges
    known = Domain((here, ion))
    assert "0 e, got 1 e" in str(charge_doubt(cation, known))


@pytest.mark.parametrize("allowed", [False, True])
def test_runs_with_another_charge_than_their_molecules_are_refused(allowed: bool) -> None:
    lost = solvated_lithium()
    del lost.info["charge"]
    if allowed:
        with pytest.warns(HFFWarning, match="total charge of the molecules, 1 e"):
            check_domains({"any": None}, [lost], [300.0], allowed)
    else:
        with pytest.raises(OutsideDomainError, match=r"1 e, got none, .*--outside-domain"):
            check_domains({"any": None}, [lost], [300.0], allowed)


def test_initial_charges_and_spins_are_not_dropped_without_a_word() -> None:
    atoms = molecule("CH3OH")
    assert other_doubts(atoms) == []
    atoms.set_initial_charges([0.1, -0.1, 0.05, -0.05, 0.0, 0.0])
    atoms.info["spin"] = 1
    assert other_doubts(atoms) == []
    atoms.set_initial_charges([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    atoms.info["multiplicity"] = np.array(3)
    charges, spin = other_doubts(atoms)
    assert "sum to 1 e where the total charge is 0 e" in charges
    assert spin.startswith("multiplicity 3 is not used")


@pytest.mark.parametrize("name", ["total_charge", "net_charge", "Charge"])
def test_a_calculator_takes_the_charge_under_its_common_names(name: str) -> None:
    calc, atoms, same = HybridFF(make_potential()), water(), water()
    atoms.info["charge"], same.info[name] = 1, 1
    assert calc.get_potential_energy(same) == calc.get_potential_energy(atoms)
    assert calc.get_potential_energy(same) != calc.get_potential_energy(water())
    same.info["charge"] = -1
    with pytest.raises(StructureError, match="one total charge"):
        calc.get_potential_energy(same)


def test_settings_that_would_do_nothing_are_refused() -> None:
    calc = HybridFF(make_potential())
    for one in (calc, Committee([calc, HybridFF(make_potential())])):
        assert one.set() == {}
        with pytest.raises(ConfigError, match=r"got charge: the total charge is atoms.info"):
            one.set(charge=1)
        with pytest.raises(ConfigError, match=r"got dtype: give it to HybridFF.load"):
            one.set(dtype="float64")


# --- settings of the surrounding program -------------------------------------------------------


@pytest.fixture
def another_device() -> Iterator[None]:
    """A default device on which nothing can be computed, as cuda is for a model on the CPU."""
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


def test_the_default_device_of_the_program_changes_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    box = salt_box()
    before = HybridFF(make_potential())
    expected = before.get_potential_energy(box), before.get_forces(box)
    save_model(tmp_path / "model.hff", make_potential(), before.info, [water()])
    request.getfixturevalue("another_device")
    load_model(tmp_path / "model.hff")
    for calc in (before, HybridFF.load(tmp_path / "model.hff")):
        moved = box.copy()
        moved.rattle(1e-3, seed=1)
        calc.get_forces(moved)
        assert calc.get_potential_energy(box) == pytest.approx(expected[0], abs=1e-6)
        np.testing.assert_allclose(calc.get_forces(box), expected[1], atol=1e-6)
        assert calc.evaluate([box, water()])[0]["energy"] == pytest.approx(expected[0], abs=1e-6)
    assert torch.ones(1).device.type == "meta"


def test_numba_that_compiles_nothing_makes_way_for_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    backends.available.cache_clear()
    try:
        with pytest.warns(HFFWarning, match="compile nothing.*unset NUMBA_DISABLE_JIT"):
            assert backends.backend_for(torch.device("cpu")) is None
    finally:
        backends.available.cache_clear()


def test_commands_run_without_a_standard_output() -> None:
    """As daemons and ``>&-`` leave them: Python's sys.stdout is None."""
    command = "import sys; sys.stdout = None; import hff_ase.cli; hff_ase.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_commands_refuse_to_run_without_assertions() -> None:
    """ASE reads the second line of extended xyz in one: frames would be misread."""
    command = (sys.executable, "-O", "-m", "hff_ase", "--version")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("hff: expected Python with assertions, got -O")
