"""An external field: exact derivatives, no images in forces, and charges driven as they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.io import read
from core_models import molecular_box

from hff_ase import testing as checks
from hff_ase.batch import AtomsBatch
from hff_ase.calculators import HybridFF
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.md import MDRun
from hff_ase.errors import ConfigError, StructureError
from hff_ase.potential import HybridPotential
from hff_ase.terms import FixedCharges, QEq, UniformField

FIELD = (0.03, -0.05, 0.08)  # V/A
IONS = {"Li": 1}


def flowing() -> QEq:
    """Charges that flow between molecules and respond to positions."""
    chi = {"H": 4.5, "Li": 3.0, "C": 5.3, "O": 8.7, "F": 10.0}
    hardness = dict.fromkeys(chi, 14.0)
    return QEq(chi, hardness, dict.fromkeys(chi, 0.9), tolerance=1e-11, charge_tolerance=1e-12)


def potential(field: UniformField) -> HybridPotential:
    terms = {"qeq": flowing(), "field": field}
    return HybridPotential(terms).set_dtype(torch.float64).requires_grad_(False)


def neutral_box(seed: int = 0) -> Atoms:
    """Molecules without charge, cut by the faces of the cell."""
    box = molecular_box(seed)
    box = box[box.numbers != 3]
    box.info["charge"] = 0.0
    return box


def test_derivatives_batching_and_symmetry_are_those_of_any_term():
    own, boxes = potential(UniformField(FIELD, IONS)), [neutral_box(), molecular_box(1)]
    checks.check_forces(own, boxes)
    checks.check_stress(own, boxes)
    checks.check_batch_equals_single(own, boxes, 1e-8)
    checks.check_no_gradient_across_systems(own, boxes)
    checks.check_input_untouched(own, boxes)
    checks.check_permutation(own, boxes, 1e-8)
    # of neutral molecules every atom may sit in any image, and the box anywhere
    checks.check_lattice_shift(own, boxes[:1], 1e-8)
    checks.check_translation(own, boxes[:1], 1e-7)


def test_another_image_of_an_ion_changes_the_energy_and_no_force():
    own, box = potential(UniformField(FIELD, IONS)), molecular_box(1)
    moved, (ion,) = box.copy(), np.flatnonzero(box.numbers == 3)
    moved.positions[ion] += box.cell[0] - 2 * box.cell[2]
    before, after = (HybridFF(own, dtype="float64").evaluate([one])[0] for one in (box, moved))
    np.testing.assert_allclose(after["forces"], before["forces"], atol=1e-8)
    work = -float((moved.positions - box.positions)[ion] @ np.array(FIELD))
    assert after["energy"] - before["energy"] == pytest.approx(work, abs=1e-8)


def test_a_field_pulls_formal_charges_and_turns_dipoles():
    """The force on a charge that stays is its own, that on a molecule its formal charge's."""
    box = molecular_box(2)
    water = {"name": "water", "numbers": [8, 1, 1], "bonds": [[0, 1], [0, 2]],
             "charge": [-0.8, 0.4, 0.4]}  # fmt: skip
    chain = {"name": "chain", "numbers": [8, 6, 6, 8, 9], "charge": [-0.3, 0.2, 0.5, -0.3, -0.1],
             "bonds": [[0, 1], [1, 2], [2, 3], [2, 4]]}  # fmt: skip
    lithium = {"name": "Li", "numbers": [3], "bonds": [], "charge": [1.0]}
    charges = FixedCharges([water, chain, lithium])
    model = HybridPotential({"charges": charges, "field": UniformField(FIELD, IONS)})
    found = HybridFF(model.requires_grad_(False), dtype="float64")
    (result,) = found.evaluate([box])
    expected = result["charges"][:, None] * np.array(FIELD)
    np.testing.assert_allclose(result["forces"], expected, atol=1e-10)
    # charges off by what flows between molecules are given back within each
    water["charge"], lithium["charge"] = [-0.8, 0.45, 0.45], [0.6]
    model = HybridPotential(
        {"charges": FixedCharges([water, chain, lithium]), "field": UniformField(FIELD, IONS)}
    )
    box.info["charge"] = 1.0
    (result,) = HybridFF(model.requires_grad_(False), dtype="float64").evaluate([box])
    per_molecule = np.zeros((8, 3))
    np.add.at(per_molecule, box.arrays["molecule"], result["forces"])
    ion = int(box.arrays["molecule"][box.numbers == 3][0])
    formal = np.zeros(8)
    formal[ion] = 1.0
    np.testing.assert_allclose(per_molecule, formal[:, None] * np.array(FIELD), atol=1e-10)


@pytest.mark.parametrize("engine", ["torch", "ase"])
@pytest.mark.parametrize("frequency", [0.0, 2.0])
def test_free_ions_in_a_field_move_as_they_should(engine, frequency, tmp_path):
    """x(t) of a charge that nothing else acts on: q F t^2/(2 m), or q F (1 - cos wt)/(m w^2)."""
    ions = [
        {"name": "Li", "numbers": [3], "bonds": [], "charge": [1.0]},
        {"name": "F", "numbers": [9], "bonds": [], "charge": [-1.0]},
    ]
    field = UniformField((0.0, 0.0, 0.05), {"Li": 1, "F": -1}, frequency)
    model = HybridPotential({"charges": FixedCharges(ions), "field": field})
    atoms = Atoms("LiF", [[1, 1, 1], [11, 11, 11]], cell=[20] * 3, pbc=True)
    atoms.set_array("molecule", np.array([0, 1]))
    config = MDConfig(
        structure=None, engine=engine, time="0.5ps", ensemble="nve", timestep=0.5,
        temperature=0.0, minimize=False, output=str(tmp_path / "run"), progress=False, plot=False,
        bond_watch="off", dtype="float64", trajectory_interval=1000,
    )  # fmt: skip
    run = MDRun.start(config, atoms, HybridFF(model.requires_grad_(False), dtype="float64"))
    run.run()
    end = read(Path(tmp_path / "run" / "final.extxyz"))
    t, acceleration = 500.0 * units.fs, 0.05 / atoms.get_masses() * np.array([1.0, -1.0])
    w = 2 * np.pi * frequency / (1000.0 * units.fs)
    moved = acceleration * (0.5 * t**2 if frequency == 0 else (1 - np.cos(w * t)) / w**2)
    np.testing.assert_allclose(end.positions[:, 2] - atoms.positions[:, 2], moved, rtol=2e-3)


def test_what_a_field_cannot_do_is_said():
    model = HybridFF(potential(UniformField(FIELD)), dtype="float64")
    with pytest.raises(StructureError, match="formal charges sum to the total charge"):
        model.evaluate([molecular_box()])
    box = neutral_box()
    del box.arrays["molecule"]
    with pytest.raises(StructureError, match="expected the molecule of each atom"):
        model.evaluate([box])
    with pytest.raises(ConfigError, match="three components"):
        UniformField((0.1, 0.2))
    with pytest.raises(ConfigError, match="formula of an ion"):
        UniformField(FIELD, {"PF6-?": -1})
    with pytest.raises(ConfigError, match="constant volume with a field"):
        MDConfig(time="1ps", ensemble="npt", field=(0, 0, 0.1))
    with pytest.raises(ConfigError, match="three components"):
        MDConfig(time="1ps", field=(0.1,))


def test_molecules_longer_than_half_the_cell_are_made_whole():
    chain = Atoms("C8", np.arange(8)[:, None] * [1.5, 0, 0], cell=[14, 9, 9], pbc=True)
    chain.set_array("molecule", np.zeros(8, dtype=int))
    wrapped = chain.copy()
    wrapped.positions += [9.0, 0, 0]
    wrapped.wrap()
    term = UniformField(FIELD)
    plan = term.prepare(AtomsBatch.from_atoms(wrapped))
    whole = wrapped.positions + plan.shifts.numpy() @ np.asarray(wrapped.cell)
    np.testing.assert_allclose(np.diff(whole[:, 0]), 1.5, atol=1e-12)
