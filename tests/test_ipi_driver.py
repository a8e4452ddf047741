"""The i-PI driver: units, batches, order, committees, dipoles, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from ase.units import Bohr, Hartree
from conftest import make_potential, salt_box, water

from hff_ase.calculators import HybridFF
from hff_ase.checkpoint import ModelInfo, save_model
from hff_ase.dynamics.pimd.beads import BeadForces
from hff_ase.dynamics.pimd.force_fields import driver_path
from hff_ase.errors import ConfigError, StructureError

pytest.importorskip("ipi", reason="i-PI's driver base class (pip install 'hff-ase[pimd]')")
UNITS = 2e-7  # between the factors of i-PI and of CODATA


def make_driver(path: Path, **options: Any) -> Any:
    """As i-PI does it: the file by path, its class by name."""
    spec = importlib.util.spec_from_file_location("hff_ipi_driver", driver_path())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.__DRIVER_NAME__ == "hff"
    return getattr(module, module.__DRIVER_CLASS__)(model=str(path), dtype="float64", **options)


@pytest.fixture
def template(tmp_path: Path) -> str:
    path = tmp_path / "box.extxyz"
    write(path, salt_box())
    return str(path)


def make_beads(n: int, spread: float = 0.08, seed: int = 1) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    beads = [salt_box() for _ in range(n)]
    for atoms in beads:
        atoms.positions += spread * rng.normal(size=atoms.positions.shape)
    return beads


def asked(beads: list[Atoms]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Cells as columns and positions, in bohr."""
    return [np.array(b.cell).T / Bohr for b in beads], [b.positions / Bohr for b in beads]


def test_results_are_the_calculators_in_atomic_units(
    small_model_path: Path, small_calculator: HybridFF, template: str
) -> None:
    driver = make_driver(small_model_path, template=template, extras="charges:dipole")
    beads = make_beads(3)
    for atoms, answer in zip(beads, driver(*asked(beads)), strict=True):
        energy, forces, virial, extras = answer
        atoms.calc = small_calculator
        stress = atoms.get_stress(voigt=False)
        assert energy * Hartree == pytest.approx(atoms.get_potential_energy(), rel=UNITS)
        np.testing.assert_allclose(
            forces * Hartree / Bohr, atoms.get_forces(), rtol=UNITS, atol=1e-5
        )
        np.testing.assert_allclose(virial * Hartree, -stress * atoms.get_volume(), atol=1e-5)
        found = json.loads(extras)
        np.testing.assert_allclose(found["charges"], atoms.get_charges(), atol=1e-8)
        np.testing.assert_allclose(
            np.array(found["dipole"]) * Bohr, atoms.get_dipole_moment(), atol=1e-6
        )


def test_a_list_gives_what_single_calls_give(small_model_path: Path, template: str) -> None:
    driver = make_driver(small_model_path, template=template)
    cells, positions = asked(make_beads(4))
    together = driver(cells, positions)
    for cell, place, batched in zip(cells, positions, together, strict=True):
        alone = driver(cell, place)
        assert alone[0] == pytest.approx(batched[0], abs=1e-11)
        np.testing.assert_allclose(alone[1], batched[1], atol=1e-11)
        np.testing.assert_allclose(alone[2], batched[2], atol=1e-10)
        assert alone[3] == ""
    assert isinstance(driver(cells[:1], positions[:1]), list)


def test_virial_is_minus_the_strain_derivative(small_model_path: Path, template: str) -> None:
    driver = make_driver(small_model_path, template=template)
    atoms = make_beads(1)[0]
    virial = driver(*asked([atoms]))[0][2]
    step = 1e-5
    for a, b in ((0, 0), (1, 2), (2, 0)):
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[a, b] += 0.5 * sign * step
            strain[b, a] += 0.5 * sign * step
            moved = atoms.copy()
            moved.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
            energies.append(driver(*asked([moved]))[0][0])
        slope = (energies[0] - energies[1]) / (2 * step)
        assert virial[a, b] == pytest.approx(-slope, abs=2e-6)


def test_order_and_wrapping_of_beads_neither_matter_nor_cost_a_search(
    small_calculator: HybridFF,
) -> None:
    beads = make_beads(4, spread=0.3)
    forces = BeadForces([small_calculator], salt_box())
    cells = np.stack([np.array(b.cell) for b in beads])
    positions = np.stack([b.positions for b in beads])
    first = forces.evaluate(cells, positions)[0]
    assert forces.n_searches == 1
    order = [2, 0, 3, 1]
    wrapped = positions[order].copy()
    wrapped[1, 3] += cells[0, 0] - 2 * cells[0, 2]
    again = forces.evaluate(cells, wrapped)[0]
    assert forces.n_searches == 1
    np.testing.assert_allclose(again.energy, first.energy[order], atol=1e-10)
    np.testing.assert_allclose(again.forces, first.forces[order], atol=1e-10)
    np.testing.assert_allclose(again.virial, first.virial[order], atol=1e-9)
    forces.evaluate(cells, positions + 0.2 * np.random.default_rng(0).normal(size=(4, 8, 3)))
    fresh = BeadForces([small_calculator], salt_box()).evaluate(cells, wrapped)[0]
    np.testing.assert_allclose(again.forces, fresh.forces, atol=1e-10)


def test_lists_are_kept_while_beads_move_and_renewed_when_they_moved_far(
    small_calculator: HybridFF,
) -> None:
    forces = BeadForces([small_calculator], salt_box(), skin=0.6)
    beads = make_beads(3)
    cells = np.stack([np.array(b.cell) for b in beads])
    positions = np.stack([b.positions for b in beads])
    for step, searches in ((0.0, 1), (0.05, 1), (0.1, 1), (0.8, 2)):
        moved = positions.copy()
        moved[:, 0, 0] += step
        found = forces.evaluate(cells, moved)[0]
        assert forces.n_searches == searches
        fresh = BeadForces([small_calculator], salt_box(), skin=0.0).evaluate(cells, moved)[0]
        np.testing.assert_allclose(found.forces, fresh.forces, atol=1e-10)


def test_a_molecule_has_no_virial(small_model_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "water.xyz"
    write(path, water())
    driver = make_driver(small_model_path, template=str(path))
    energy, forces, virial, _ = driver(np.eye(3) * 100, water().positions / Bohr)
    assert np.isfinite(energy)
    assert np.abs(forces).max() > 0
    assert not virial.any()


def test_a_committee_gives_its_mean_and_every_member(
    small_model_path: Path, template: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.hff"
    potential = make_potential(seed=3)
    info = ModelInfo("other", "random weights", "none", "a test", tuple(potential.terms))
    save_model(other, potential, info, [water()])
    both = make_driver(small_model_path, template=template, committee=str(other))
    alone = [make_driver(path, template=template) for path in (small_model_path, other)]
    arguments = asked(make_beads(2))
    members = [driver(*arguments) for driver in alone]
    for bead, (energy, forces, virial, extras) in enumerate(both(*arguments)):
        parsed = json.loads(extras)
        pots = [member[bead][0] for member in members]
        np.testing.assert_allclose(parsed["committee_pot"], pots, rtol=1e-10)
        assert energy == pytest.approx(np.mean(pots), rel=1e-12)
        each = np.array(parsed["committee_force"]).reshape(2, -1, 3)
        np.testing.assert_allclose(each, [m[bead][1] for m in members], atol=1e-10)
        np.testing.assert_allclose(forces, each.mean(axis=0), atol=1e-12)
        each = np.array(parsed["committee_virial"])
        assert each.shape == (2, 3, 3)
        np.testing.assert_allclose(virial, each.mean(axis=0), atol=1e-12)


def test_what_it_refuses(small_model_path: Path, template: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected the option template"):
        make_driver(small_model_path)
    with pytest.raises(ConfigError, match="got none at nowhere"):
        make_driver(small_model_path, template="nowhere")
    with pytest.raises(ConfigError, match="expected no option 'colour'"):
        make_driver(small_model_path, template=template, colour="red")
    with pytest.raises(ConfigError, match=r"charges:dipole, got 'spin'"):
        make_driver(small_model_path, template=template, extras="charges:spin")
    sodium = tmp_path / "sodium.xyz"
    write(sodium, Atoms("Na"))
    with pytest.raises(StructureError, match="structure holds Na"):
        make_driver(small_model_path, template=str(sodium))
    driver = make_driver(small_model_path, template=template, beads=4)
    cells, positions = asked(make_beads(3))
    with pytest.raises(StructureError, match=r"batches of 4 structures.*got 3"):
        driver(cells, positions)
    with pytest.raises(StructureError, match=r"batches of 4 structures.*got 1"):
        driver(cells[0], positions[0])
    free = make_driver(small_model_path, template=template)
    with pytest.raises(StructureError, match="expected 8 atoms as in the template"):
        free(cells[0], positions[0][:5])
    with pytest.raises(StructureError, match="as many cells as positions"):
        free(cells[:2], positions)
    with pytest.raises(StructureError, match="finite"):
        free(cells[0], positions[0] * np.nan)
